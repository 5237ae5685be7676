import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";

import { silentLog } from "@osr/base/log";
import type { Uuid } from "@osr/base/uuid";
import type { AskedBy, ReplicaFacts, ReplicaSpec } from "@osr/contracts/replica-host";
import { ReplicaHostServer } from "@osr/service-osr/replicas/replica-host-server";
import { FakeReplicaHost } from "@osr/vault/testing/fake-replica-host";

/** Something that happened to a machine of the recovery site, as the site itself has noted it. */
export type RecoveryEffect = {
  readonly effect: "start" | "destroy";
  readonly replicaId: Uuid;
  readonly machineId?: Uuid;
  readonly slot?: number;
  /** That the network hands out to the machine. */
  readonly address?: string;
  readonly jobId: Uuid;
  readonly leaseToken: number;
};

/**
 * Fake compute: a replica host without machines, which passes the contract of the real one, behind the real socket. Each effect is in its journal before the
 * vault is answered, so what happened twice is there twice.
 */
export class JournaledReplicaHost extends FakeReplicaHost implements AsyncDisposable {
  readonly socketPath: string;
  readonly #journal: string;
  readonly #server: ReplicaHostServer;
  readonly #running: Promise<void>;
  /** How long starting and destroying a machine takes, for those who kill something meanwhile. */
  workMs = 0;

  private constructor(options: { readonly journal: string; readonly socketPath: string }) {
    super();
    this.socketPath = options.socketPath;
    this.#journal = options.journal;
    this.#server = new ReplicaHostServer(this, { ...options, log: silentLog });
    this.#running = this.#server.run();
    this.#running.catch(() => undefined);
  }

  static async open(options: {
    readonly journal: string;
    readonly socketPath: string;
  }): Promise<JournaledReplicaHost> {
    const host = new JournaledReplicaHost(options);
    await host.#server.listening;
    return host;
  }

  override async start(spec: ReplicaSpec, by: AskedBy, signal: AbortSignal): Promise<ReplicaFacts> {
    await wait(this.workMs, undefined, { signal });
    const isNew = !this.site.replicas.has(spec.replicaId);
    const facts = await super.start(spec, by, signal);
    const { replicaId, machineId, network, mac } = spec;
    const address = network?.reservations.find((one) => one.mac === mac)?.address;
    if (isNew)
      this.#note({
        effect: "start",
        replicaId,
        machineId,
        slot: facts.point.slot,
        ...(address === undefined ? {} : { address }),
        ...by,
      });
    return facts;
  }

  override async destroy(replicaId: Uuid, by: AskedBy): Promise<void> {
    await wait(this.workMs);
    const isThere = this.site.replicas.has(replicaId);
    await super.destroy(replicaId, by);
    if (isThere) this.#note({ effect: "destroy", replicaId, ...by });
  }

  get effects(): readonly RecoveryEffect[] {
    if (!existsSync(this.#journal)) return [];
    const lines = readFileSync(this.#journal, "utf8").trim().split("\n");
    return lines.map((line) => JSON.parse(line) as RecoveryEffect);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop();
    await this.#running;
  }

  #note(effect: RecoveryEffect): void {
    appendFileSync(this.#journal, `${JSON.stringify(effect)}\n`);
  }
}
