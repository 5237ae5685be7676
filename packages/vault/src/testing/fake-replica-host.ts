import { type ErrorInfo, OsrError } from "@osr/base/errors";
import { type Uuid, uuidOfName } from "@osr/base/uuid";

import { LeaseGate } from "../replicas/lease-gate.ts";
import { REPLICA_ERRORS } from "../replicas/replica-errors.ts";
import type {
  AskedBy,
  ReplicaFacts,
  ReplicaObjection,
  ReplicaSpec,
} from "@osr/contracts/replica-host";
import type { ReplicaHost } from "../replicas/replica-host.ts";

/** What the client of the real host throws. */
const HOST_AWAY: ErrorInfo = {
  code: "REPLICA_HOST_AWAY",
  retryable: true,
  hint: "Start the replica host.",
};

/** The machines of a recovery site, in memory: they outlive the hosts that run them, as real ones do. */
export class FakeRecoverySite {
  readonly replicas = new Map<Uuid, ReplicaFacts>();
  /** Every start and destruction that had an effect, in order. */
  readonly effects: string[] = [];
  /** Slots that have a point; the newest is the latest. */
  slots: readonly number[] = [10, 11, 12];
  readonly gate = new LeaseGate();
  /** What else is in the way of every machine. */
  objections: readonly ReplicaObjection[] = [];
  /** Makes the next start fail with this message. */
  failsNext: string | undefined;
  /** Looks at machines that fail from now on, as where the host is away. */
  looksAway = 0;
  /** Makes the next destruction fail with this message. */
  destroyFailsNext: string | undefined;
  /** What a start waits for before it answers. */
  started: Promise<void> = Promise.resolve();
}

/** A replica host without machines; passes the contract of the real one. */
export class FakeReplicaHost implements ReplicaHost {
  readonly site: FakeRecoverySite;

  constructor(site: FakeRecoverySite = new FakeRecoverySite()) {
    this.site = site;
  }

  preflight({ point }: ReplicaSpec): Promise<readonly ReplicaObjection[]> {
    const isThere = point.kind !== "custom" || this.site.slots.includes(point.slot);
    const unknown = {
      code: "POINT_UNKNOWN",
      level: "error",
      message: "no such point",
      hint: "",
    } as const;
    return Promise.resolve([...(isThere ? [] : [unknown]), ...this.site.objections]);
  }

  async start(spec: ReplicaSpec, by: AskedBy, signal: AbortSignal): Promise<ReplicaFacts> {
    this.site.gate.pass(by);
    const known = this.site.replicas.get(spec.replicaId);
    if (known !== undefined) return known;
    const objection = (await this.preflight(spec)).find(({ level }) => level === "error");
    const message = objection?.message ?? this.site.failsNext;
    this.site.failsNext = undefined;
    if (message !== undefined) throw new OsrError(REPLICA_ERRORS.REPLICA_REFUSED, message);
    signal.throwIfAborted();
    const { replicaId, machineId, name, point, network } = spec;
    const slot = point.kind === "custom" ? point.slot : Math.max(...this.site.slots);
    const facts: ReplicaFacts = {
      replicaId,
      machineId,
      name,
      state: "running",
      point: {
        slot,
        cutId: uuidOfName("cut", String(slot)),
        class: "crash",
        unixMs: slot * 15_000,
      },
      ...(network === undefined ? {} : { network: network.name }),
      isLocal: true,
    };
    this.site.replicas.set(replicaId, facts);
    this.site.effects.push(`start ${replicaId}`);
    await this.site.started;
    return facts;
  }

  async destroy(replicaId: Uuid, by: AskedBy): Promise<void> {
    this.site.gate.pass(by);
    const message = this.site.destroyFailsNext;
    this.site.destroyFailsNext = undefined;
    if (message !== undefined) throw new OsrError(REPLICA_ERRORS.REPLICA_REFUSED, message);
    if (this.site.replicas.delete(replicaId)) this.site.effects.push(`destroy ${replicaId}`);
    await Promise.resolve();
  }

  async facts(replicaId: Uuid): Promise<ReplicaFacts | undefined> {
    if (this.site.looksAway > 0) {
      this.site.looksAway -= 1;
      throw new OsrError(HOST_AWAY, "the replica host does not answer");
    }
    return Promise.resolve(this.site.replicas.get(replicaId));
  }

  list(): Promise<readonly ReplicaFacts[]> {
    return Promise.resolve([...this.site.replicas.values()]);
  }

  console(replicaId: Uuid): Promise<string> {
    return Promise.resolve(this.site.replicas.has(replicaId) ? "login:" : "");
  }

  screenshot(replicaId: Uuid): Promise<Buffer | undefined> {
    const picture = Buffer.from("\u0089PNG\r\n\u001a\n", "latin1");
    return Promise.resolve(this.site.replicas.has(replicaId) ? picture : undefined);
  }
}
