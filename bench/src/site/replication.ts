import { constants, open } from "node:fs/promises";
import { join } from "node:path";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS, formatBytes } from "@osr/base/units";

import { BENCH_ERRORS } from "../bench-errors.ts";
import { type ChangeSet, applyChanges } from "../data/change-set.ts";
import { type LoopDevice, attachLoop } from "../machine/loop-device.ts";
import { childrenOf, cpuSecondsOf, kernelCpuSeconds } from "../machine/process-usage.ts";
import { type WireBytes, countWireBytes } from "../machine/wire-bytes.ts";
import type { SuiteContext } from "../suite.ts";
import { Agent } from "./agent.ts";
import { Site } from "./site.ts";

const POINT_INTERVAL_SECONDS = 15;
const FIRST_COPY_MS_MAX = 15 * MINUTE_MS;
const DELTA_MS_MAX = 3 * MINUTE_MS;
const POLL_MS = 5;
const NARRATE_MS = 5 * SECOND_MS;
/** A recovery point: the last object of all that it needs. */
const POINT_PATH = /\/g\/[^/]+\/rp\/[0-9a-f]{16}\.json$/;

/** What it took to bring one state of the disk into the storage account, as a recovery point. */
export type Transfer = {
  readonly wallMs: number;
  /** Of the agent, the process server, the storage account and `osr up`, with all below them. */
  readonly cpuSeconds: number;
  readonly cpuSecondsByRole: Readonly<Record<string, number>>;
  /** Of the kernel's threads, whoever they worked for: the loop device and writing back are among it. */
  readonly kernelCpuSeconds: number;
  readonly storedBytes: number;
  /** Sent by the agent, and by the process server. */
  readonly agentWireBytes: number;
  readonly uploadWireBytes: number;
};

export type ReplicationOptions = {
  readonly context: SuiteContext;
  readonly suite: string;
  /** A folder of its own. */
  readonly directory: string;
  readonly imagePath: string;
  readonly access: "cached" | "direct";
};

/**
 * One disk on its way: a loop device over an image, the mobility service, TLS, the process server, TLS, the storage account;
 * each a process of its own, as installed. Disposing it ends and detaches everything.
 */
export class Replication implements AsyncDisposable {
  readonly site: Site;
  readonly loop: LoopDevice;
  readonly #options: ReplicationOptions;
  readonly #open: AsyncDisposableStack;
  readonly #wires: { readonly agent: WireBytes; readonly upload: WireBytes };
  #agent: Agent | undefined;

  private constructor(
    options: ReplicationOptions,
    parts: {
      readonly site: Site;
      readonly loop: LoopDevice;
      readonly open: AsyncDisposableStack;
      readonly wires: { readonly agent: WireBytes; readonly upload: WireBytes };
    },
  ) {
    this.#options = options;
    this.site = parts.site;
    this.loop = parts.loop;
    this.#open = parts.open;
    this.#wires = parts.wires;
  }

  /** Starts all but the agent. */
  static async prepare(options: ReplicationOptions): Promise<Replication> {
    const { signal } = options.context;
    await using made = new AsyncDisposableStack();
    const { osr } = await options.context.programs();
    const site = made.use(
      await Site.start(join(options.directory, "site"), osr, { signal, controlPlane: false }),
    );
    const { imagePath, access } = options;
    const loop = made.use(await attachLoop(imagePath, { access, signal }));
    const wires = {
      agent: made.use(await countWireBytes(site.processServerPort, signal)),
      upload: made.use(await countWireBytes(site.storageAccountPort, signal)),
    };
    return new Replication(options, { site, loop, wires, open: made.move() });
  }

  /** From the start of the agent's process to the first recovery point in the storage account. */
  async firstCopy(): Promise<Transfer> {
    const { signal, narrator } = this.#options.context;
    const enrolment = await this.site.enrol("machine", POINT_INTERVAL_SECONDS);
    const before = await this.#counters();
    const diskName = this.loop.name;
    const { mobilityService: program } = await this.#options.context.programs();
    const agent = await Agent.start({ enrolment, diskName, program, signal });
    this.#agent = this.#open.use(agent);
    const sayAt = { ms: performance.now() + NARRATE_MS };
    await agent.until(
      "first recovery point",
      FIRST_COPY_MS_MAX,
      () => {
        if (performance.now() > sayAt.ms) {
          sayAt.ms += NARRATE_MS;
          const dirty = agent.status()?.disks[0]?.dirtyBytes;
          if (dirty !== undefined) narrator.say(`  ${formatBytes(dirty)} left to copy`);
        }
        return this.#pointCount() > before.points ? true : undefined;
      },
      POLL_MS,
    );
    return this.#since(before, before);
  }

  /**
   * Writes a change set to the disk and waits for the recovery point that holds it. The wall and processor time is that from
   * the begin of the point's cut, which is when the agent starts its guard, to its being in the storage account; the bytes
   * are those of the whole interval. Call it when a point was just made.
   */
  async delta(changes: ChangeSet): Promise<Transfer> {
    const agent = must(this.#agent, "the first copy was made");
    const before = await this.#counters();
    await using disk = await open(this.loop.path, constants.O_RDWR);
    await applyChanges(disk, changes);
    if (isCutting(agent) || this.#pointCount() > before.points)
      throw new OsrError(
        BENCH_ERRORS.BENCH_TIMEOUT,
        "the next recovery point came while changes were still being written",
      );
    await agent.until(
      "begin of a cut",
      DELTA_MS_MAX,
      () => (isCutting(agent) ? true : undefined),
      POLL_MS,
    );
    const begin = await this.#counters();
    await agent.until(
      "recovery point with the changes",
      DELTA_MS_MAX,
      () => (this.#pointCount() > before.points ? true : undefined),
      POLL_MS,
    );
    return this.#since(begin, before);
  }

  /** Ends the agent; the storage account stays, for restoring. */
  async endAgent(): Promise<void> {
    this.#look();
    await this.#agent?.[Symbol.asyncDispose]();
    this.#agent = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#look();
    await this.#open.disposeAsync();
  }

  #look(): void {
    const { context, suite } = this.#options;
    context.peaks.look("agent", suite, this.#agent?.pid);
    context.peaks.look("process server", suite, this.site.rolePid("process-server"));
    context.peaks.look("storage account", suite, this.site.rolePid("storage-account"));
  }

  #pointCount(): number {
    return this.site
      .objects()
      .keys()
      .filter((path) => POINT_PATH.test(path))
      .toArray().length;
  }

  #roles(): Readonly<Record<string, number>> {
    const cpu = (pid: number | undefined): number => (pid === undefined ? 0 : cpuSecondsOf([pid]));
    return {
      agent: cpu(this.#agent?.pid),
      "process server": cpu(this.site.rolePid("process-server")),
      "storage account": cpu(this.site.rolePid("storage-account")),
    };
  }

  async #counters(): Promise<Counters> {
    const ms = performance.now();
    const agentPid = this.#agent?.pid;
    return {
      ms,
      cpuSeconds: cpuSecondsOf([this.site.pid, ...(agentPid === undefined ? [] : [agentPid])]),
      roles: this.#roles(),
      kernelCpuSeconds: kernelCpuSeconds(),
      points: this.#pointCount(),
      storedBytes: this.site
        .objects()
        .values()
        .reduce((sum, bytes) => sum + bytes, 0),
      agentWireBytes: await this.#wires.agent.total(),
      uploadWireBytes: await this.#wires.upload.total(),
    };
  }

  async #since(begin: Counters, bytesBegin: Counters): Promise<Transfer> {
    const end = await this.#counters();
    return {
      wallMs: end.ms - begin.ms,
      cpuSeconds: end.cpuSeconds - begin.cpuSeconds,
      cpuSecondsByRole: Object.fromEntries(
        Object.entries(end.roles).map(([role, cpu]) => [role, cpu - (begin.roles[role] ?? 0)]),
      ),
      kernelCpuSeconds: end.kernelCpuSeconds - begin.kernelCpuSeconds,
      storedBytes: end.storedBytes - bytesBegin.storedBytes,
      agentWireBytes: end.agentWireBytes - bytesBegin.agentWireBytes,
      uploadWireBytes: end.uploadWireBytes - bytesBegin.uploadWireBytes,
    };
  }
}

type Counters = {
  readonly ms: number;
  readonly cpuSeconds: number;
  readonly roles: Readonly<Record<string, number>>;
  readonly kernelCpuSeconds: number;
  readonly points: number;
  readonly storedBytes: number;
  readonly agentWireBytes: number;
  readonly uploadWireBytes: number;
};

/** The agent's only child is the guard of a freeze. */
function isCutting(agent: Agent): boolean {
  return childrenOf(agent.pid).length > 0;
}
