import { canonicalJson } from "@osr/base/canonical-json";
import type { Clock } from "@osr/base/clock";
import { OsrError } from "@osr/base/errors";
import { type Uuid, uuidOfName } from "@osr/base/uuid";
import { type FabricMachine, fabricMachineShape } from "@osr/contracts/fabric-protocol";
import type { MachineReplicationFacts } from "@osr/contracts/replication-facts";
import { MACHINES_PER_FABRIC_MAX, type MachineRegistration } from "@osr/contracts/site-protocol";

import { CONFIGURATION_SERVER_ERRORS } from "./configuration-server-errors.ts";
import { addressList } from "./member-names.ts";
import type { SiteState } from "./site-state.ts";

type Entry = {
  /** What is kept on disk: neither facts nor when it was last heard of. */
  kept: FabricMachine;
  facts?: MachineReplicationFacts;
  lastSeenUnixMs?: number;
  seenMs?: number;
  /** Number of the last change, for reports of what has changed. */
  changeNo: number;
};

/** The machines of the fabric: those whose agent has enrolled, and those that were discovered by their address. */
export class MachineRegistry {
  readonly #state: SiteState;
  readonly #clock: Clock;
  readonly #entries = new Map<Uuid, Entry>();
  #changeNo = 1;

  constructor(state: SiteState, clock: Clock) {
    this.#state = state;
    this.#clock = clock;
    for (const kept of state.records("machine", fabricMachineShape))
      this.#entries.set(kept.machineId, { kept, changeNo: 1 });
  }

  /** Number of the newest change. */
  get changeNo(): number {
    return this.#changeNo;
  }

  /** Takes what an agent says of its machine. True where it is news. Throws MACHINES_TOO_MANY. */
  register(machineId: Uuid, registration: MachineRegistration): boolean {
    const before = this.#entries.get(machineId);
    const addresses = addressList(registration.addresses);
    const placeholder = this.#placeholderOf(addresses, machineId);
    const names =
      before?.kept.registration === undefined ? (placeholder ?? before?.kept) : before.kept;
    const kept: FabricMachine = {
      machineId,
      friendlyName: names?.friendlyName ?? registration.machine.hostName,
      address: addresses[0] ?? names?.address ?? "",
      operatingSystem: "linux",
      registration,
    };
    const isNews = canonicalJson(kept) !== canonicalJson(before?.kept);
    const entry = this.#entryOf(machineId, kept);
    if (isNews) this.#state.putRecord("machine", machineId, kept);
    entry.kept = kept;
    if (placeholder !== undefined) this.#gone(placeholder.machineId);
    this.#heard(entry);
    return isNews;
  }

  /** Takes the report of an agent. Throws MACHINE_UNREGISTERED where nothing else is known of its machine. */
  note(machineId: Uuid, facts: MachineReplicationFacts): void {
    const entry = this.#entries.get(machineId);
    if (entry?.kept.registration === undefined)
      throw new OsrError(
        CONFIGURATION_SERVER_ERRORS.MACHINE_UNREGISTERED,
        `machine ${machineId} is not registered here`,
      );
    entry.facts = facts;
    this.#heard(entry);
  }

  /** A machine that somebody named; its agent may come later. The same address gives the same machine. */
  discover(found: {
    readonly address: string;
    readonly friendlyName?: string | undefined;
    readonly operatingSystem?: "linux" | "windows" | undefined;
  }): void {
    const { address } = found;
    const known = [...this.#entries.values()].find(({ kept }) => hasAddress(kept, [address]));
    const machineId = known?.kept.machineId ?? uuidOfName("discovered-machine", address);
    const kept: FabricMachine = {
      machineId,
      address,
      operatingSystem: found.operatingSystem ?? "linux",
      ...known?.kept,
      friendlyName: found.friendlyName ?? known?.kept.friendlyName ?? address,
    };
    const entry = this.#entryOf(machineId, kept);
    entry.kept = kept;
    this.#state.putRecord("machine", machineId, kept);
    this.#changed(entry);
  }

  /** The id of a machine without an agent that was discovered under one of `addresses`. */
  discoveredId(addresses: readonly string[]): Uuid | undefined {
    return this.#placeholderOf(addresses)?.machineId;
  }

  facts(machineId: Uuid): MachineReplicationFacts | undefined {
    return this.#entries.get(machineId)?.facts;
  }

  /** When its agent was last heard of since the start, on the monotonic clock. */
  seenMs(machineId: Uuid): number | undefined {
    return this.#entries.get(machineId)?.seenMs;
  }

  /** Machines that have changed since `changeNo`; 0: all. */
  since(changeNo: number): readonly FabricMachine[] {
    return [...this.#entries.values()]
      .filter((entry) => entry.changeNo > changeNo)
      .map(({ kept, facts, lastSeenUnixMs }) => ({
        ...kept,
        ...(facts === undefined ? {} : { facts }),
        ...(lastSeenUnixMs === undefined ? {} : { lastSeenUnixMs }),
      }));
  }

  /** What is gone has been reported. */
  forgetGone(reportedChangeNo: number): void {
    for (const [id, { kept, changeNo }] of this.#entries)
      if (kept.isGone === true && changeNo <= reportedChangeNo) this.#entries.delete(id);
  }

  #entryOf(machineId: Uuid, kept: FabricMachine): Entry {
    let entry = this.#entries.get(machineId);
    if (entry === undefined) {
      if (this.#entries.size >= MACHINES_PER_FABRIC_MAX)
        throw new OsrError(
          CONFIGURATION_SERVER_ERRORS.MACHINES_TOO_MANY,
          `there are ${MACHINES_PER_FABRIC_MAX} machines already`,
        );
      entry = { kept, changeNo: 0 };
      this.#entries.set(machineId, entry);
    }
    return entry;
  }

  #placeholderOf(addresses: readonly string[], except?: Uuid): FabricMachine | undefined {
    for (const { kept } of this.#entries.values())
      if (
        kept.registration === undefined &&
        kept.isGone !== true &&
        kept.machineId !== except &&
        hasAddress(kept, addresses)
      )
        return kept;
    return undefined;
  }

  #gone(machineId: Uuid): void {
    const entry = this.#entries.get(machineId);
    if (entry === undefined) return;
    entry.kept = { ...entry.kept, isGone: true };
    this.#state.dropRecord("machine", machineId);
    this.#changed(entry);
  }

  #heard(entry: Entry): void {
    entry.lastSeenUnixMs = Math.floor(this.#clock.unixMs());
    entry.seenMs = this.#clock.monotonicMs();
    this.#changed(entry);
  }

  #changed(entry: Entry): void {
    entry.changeNo = ++this.#changeNo;
  }
}

function hasAddress({ address, registration }: FabricMachine, wanted: readonly string[]): boolean {
  const own = [address, ...addressList(registration?.addresses)];
  return wanted.some((one) => own.includes(one));
}
