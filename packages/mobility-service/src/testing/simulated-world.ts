import type { MachineDescription } from "@osr/contracts/agent-protocol";
import { silentLog } from "@osr/base/log";
import { MIB } from "@osr/base/units";
import type { Tag } from "@osr/contracts/tag";

import type { PointScripts } from "../cut.ts";
import { type KeptMemory, heapMemory } from "../kept-memory.ts";
import { KeptState } from "../kept-state.ts";
import { type MobilityService, createMobilityService } from "../mobility-service.ts";
import { ConfiguredProcessServers } from "../process-server-assignment.ts";
import type { ReplicationLimits } from "../replication-limits.ts";
import { AgentLife } from "./agent-life.ts";
import { type MachineFaults, SimulatedMachine } from "./simulated-machine.ts";
import { type LinkFaults, SimulatedProcessServer } from "./simulated-process-server.ts";
import { SeededRandom } from "./seeded-random.ts";
import { VirtualTime } from "./virtual-time.ts";

const DESCRIPTION: MachineDescription = {
  hostName: "simulated",
  biosUuid: "",
  operatingSystem: "none",
  kernel: "0",
  firmware: "bios",
  cpuCount: 1,
  memoryBytes: 1,
};

export const POINT_INTERVAL_SECONDS = 15;

export type WorldOptions = {
  readonly sectors: readonly number[];
  readonly swap: boolean;
  readonly limits: ReplicationLimits;
  readonly machine: MachineFaults;
  readonly link: LinkFaults;
  readonly quietWindow: "required" | "unchecked";
  readonly scripts?: PointScripts;
};

/** A machine with its agent, a network and a process server; every tag is compared with what the disks held at its cut. */
export class SimulatedWorld {
  readonly time = new VirtualTime();
  readonly machine: SimulatedMachine;
  readonly server: SimulatedProcessServer;
  /** Tags that arrived, one for each disk, and those whose disk differs from the instant of their cut. */
  tags = 0;
  readonly wrongTags: string[] = [];
  service: MobilityService;
  /** Agents that were killed. */
  kills = 0;
  #memory: KeptMemory;
  #life: AgentLife;
  running: Promise<void>;
  readonly #options: WorldOptions;
  readonly #random: SeededRandom;
  /** Lets everything run that waits for nothing but other code. */
  readonly #settle: () => Promise<void>;

  constructor(seed: number, options: WorldOptions, settle: () => Promise<void>) {
    this.#options = options;
    this.#settle = settle;
    this.#random = new SeededRandom(seed * 4 + 3);
    this.machine = new SimulatedMachine(this.time, new SeededRandom(seed * 4), {
      faults: options.machine,
      sectors: options.sectors,
      swap: options.swap,
    });
    this.server = new SimulatedProcessServer(this.time, new SeededRandom(seed * 4 + 1), {
      faults: options.link,
      onTag: (tag, index, content) => this.#check(tag, index, content),
    });
    this.#memory = heapMemory(KeptState.bytes(options.limits));
    this.#life = new AgentLife();
    this.service = this.#newService();
    this.running = this.service.run();
  }

  /**
   * The agent is killed at its `steps`-th call to the outside from now, or after ten seconds, and another one starts. What it
   * has sent may arrive yet; what it does after that call has no effect.
   */
  async killAgent(steps: number, whileDead: () => void = () => undefined): Promise<void> {
    const life = this.#life;
    const { buffer } = this.#memory;
    life.endAfter(steps, () => {
      // From now on the dead one writes to what nobody reads.
      this.#memory = heapMemory(buffer.byteLength);
      copyUsed(buffer, this.#memory.buffer);
      this.machine.agentDied();
    });
    await this.until(() => life.isEnded, 10_000);
    life.end();
    whileDead();
    this.kills += 1;
    this.#life = new AgentLife();
    this.service = this.#newService();
    this.running = this.service.run();
  }

  /** The agent ends, and another one starts that knows nothing. */
  async restartAgent(whileStopped: () => void = () => undefined): Promise<void> {
    const stopping = this.service.stop();
    let isStopped = false;
    void stopping.finally(() => (isStopped = true));
    await this.until(() => isStopped, 120_000);
    await stopping;
    this.machine[Symbol.dispose]();
    whileStopped();
    this.service = this.#newService();
    this.running = this.service.run();
  }

  /** Runs until `done`, at most `limitMs` of the world's time; false where it was not done by then. */
  async until(done: () => boolean, limitMs: number): Promise<boolean> {
    const endMs = this.time.monotonicMs() + limitMs;
    while (this.time.monotonicMs() < endMs) {
      await this.#settle();
      if (this.machine.frozen) throw new Error("the machine is frozen while other code runs");
      if (done()) return true;
      this.time.step();
    }
    return false;
  }

  #check(tag: Tag, index: number, content: Buffer): void {
    if (tag.class === "fuzzy") return;
    this.tags += 1;
    const snapshot = this.machine.snapshots.get(tag.cutId)?.[index];
    if (snapshot === undefined) this.wrongTags.push(`${tag.cutId}: its cut was never proven`);
    else if (!snapshot.subarray(0, content.length).equals(content))
      this.wrongTags.push(`${tag.cutId}: disk ${index} differs`);
  }

  #newService(): MobilityService {
    const { time } = this;
    const machine = this.#life.machine(this.machine);
    const scheduler = this.#life.scheduler(time);
    return createMobilityService({
      agentVersion: "0.0.0",
      machine: DESCRIPTION,
      disks: machine.disks,
      diskWatch: machine,
      tracker: machine,
      kept: { memory: this.#memory, label: "boot" },
      counters: this.machine,
      startReason: "AGENT_RESTARTED",
      freezer: machine,
      processServers: new ConfiguredProcessServers(
        ["first", "second"].map((address) => ({
          address,
          client: this.#life.client(this.server.atAddress(address)),
        })),
        time,
      ),
      pointIntervalSeconds: POINT_INTERVAL_SECONDS,
      limits: this.#options.limits,
      pause: machine.pause,
      quietWindow: this.#options.quietWindow,
      scripts: this.#options.scripts,
      beforeThaw: machine.beforeThaw,
      writeStatus: () => Promise.resolve(),
      clock: this.#life.clock(time),
      scheduler,
      randomness: this.#random,
      log: silentLog,
    });
  }
}

/** Small disks never come near the end of the memory. */
function copyUsed(source: ArrayBuffer, target: ArrayBuffer): void {
  const bytes = Math.min(source.byteLength, 8 * MIB);
  new Uint8Array(target, 0, bytes).set(new Uint8Array(source, 0, bytes));
}
