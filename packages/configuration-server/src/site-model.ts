import type { Clock } from "@osr/base/clock";
import type { Log } from "@osr/base/log";
import { MINUTE_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import { type Identity } from "@osr/certificates/site-authority";
import { createRevocationList } from "@osr/certificates/revocation-list";
import type { HealthError } from "@osr/contracts/agent-protocol";
import {
  type DesiredFabric,
  type DesiredItem,
  type FabricGateway,
  desiredFabricShape,
} from "@osr/contracts/fabric-protocol";
import type { GatewayFacts, MachineReplicationFacts } from "@osr/contracts/replication-facts";
import type {
  AgentSettings,
  GatewayAssignment,
  MachineRegistration,
} from "@osr/contracts/site-protocol";

import { CONFIGURATION_SERVER_ERRORS } from "./configuration-server-errors.ts";
import { healthError } from "./gateway-health.ts";
import { GatewayRegistry } from "./gateway-registry.ts";
import { MachineRegistry } from "./machine-registry.ts";
import { Orders } from "./orders.ts";
import { type MachineToPlace, chooseProcessServers } from "./process-server-choice.ts";
import { Pulse } from "./pulse.ts";
import { agentSettings, gatewayAssignment, isToReplicate } from "./site-plan.ts";
import type { SiteState } from "./site-state.ts";

const DESIRED = "desired";
/** A configuration server that takes over waits so long for its machines to say which process server they have. */
const SETTLE_MS = MINUTE_MS;

export type SiteModelPorts = {
  readonly state: SiteState;
  readonly authority: Identity;
  readonly clock: Clock;
  readonly log: Log;
};

/**
 * What the vault wishes, what the roles of the site report, and what follows for each of them. It knows enough without the
 * vault: the last wish is kept, sealed. What it does not know for sure it does not tell anybody, so that roles go on with
 * what they have.
 */
export class SiteModel {
  readonly machines: MachineRegistry;
  readonly gateways: GatewayRegistry;
  readonly orders: Orders;
  /** Beats whenever an agent or a gateway may have something else to do. */
  readonly changed = new Pulse();
  /** Beats whenever the vault is to be told at once. */
  readonly reportable = new Pulse();
  readonly #ports: SiteModelPorts;
  readonly #startedMs: number;
  readonly #cached = new Map<
    Uuid,
    { readonly at: number; readonly assignment: GatewayAssignment }
  >();
  #desired: DesiredFabric | undefined;
  #items = new Map<Uuid, DesiredItem>();
  #assignments: ReadonlyMap<Uuid, Uuid>;
  #revokedIds: ReadonlySet<Uuid> = new Set();
  #revokedSerials = "";
  #revokedPem: string | undefined;
  #membersVersion = "";

  constructor(ports: SiteModelPorts, options: { readonly silentMsMax: number }) {
    this.#ports = ports;
    const { state, clock } = ports;
    this.#startedMs = clock.monotonicMs();
    this.machines = new MachineRegistry(state, clock);
    this.gateways = new GatewayRegistry(ports, options);
    this.orders = new Orders(state, this.machines, clock);
    this.#assignments = state.assignments();
    const desired = state.kept(DESIRED, desiredFabricShape);
    if (desired !== undefined) this.#take(desired);
  }

  /** Of the vault's wish; 0: none is known. */
  get revision(): number {
    return this.#desired?.revision ?? 0;
  }

  /** Takes over what the vault wishes; it is kept before anybody is told. */
  setDesired(desired: DesiredFabric): void {
    this.#ports.state.keep(DESIRED, desired);
    this.#take(desired);
    this.#place();
    this.changed.beat();
  }

  /** Certificates that are not accepted any more; another text only where it is another list. */
  get revokedPem(): string | undefined {
    return this.#revokedPem;
  }

  isRevoked(id: Uuid): boolean {
    return this.#revokedIds.has(id);
  }

  registerMachine(machineId: Uuid, registration: MachineRegistration): void {
    if (this.machines.register(machineId, registration)) this.reportable.beat();
  }

  noteMachine(machineId: Uuid, facts: MachineReplicationFacts): void {
    const isFirst = this.machines.facts(machineId) === undefined;
    this.machines.note(machineId, facts);
    if (isFirst) this.#placeAndTell();
  }

  noteGateway(id: Uuid, role: FabricGateway["role"], facts: GatewayFacts): void {
    if (!this.gateways.note(id, role, facts)) return;
    this.#place();
    this.changed.beat();
    this.reportable.beat();
  }

  /** What an agent is to do; undefined where it is not known yet. */
  settingsOf(machineId: Uuid): AgentSettings | undefined {
    if (this.#desired === undefined) return undefined;
    const item = this.#items.get(machineId);
    const shutDownOrder = this.orders.shutDownOrder(machineId);
    if (item === undefined || !isToReplicate(item)) return agentSettings(item, { shutDownOrder });
    const id = this.#assignments.get(machineId);
    if (id === undefined) return undefined;
    const address = this.gateways.address(id);
    if (address === undefined) return undefined;
    return agentSettings(item, { processServer: { id, ...address }, shutDownOrder });
  }

  /** What a gateway is to do; undefined where it is not known yet. */
  assignmentOf(gatewayId: Uuid): GatewayAssignment | undefined {
    const desired = this.#desired;
    if (desired === undefined || !this.#isSettled()) return undefined;
    const at = this.changed.count;
    const cached = this.#cached.get(gatewayId);
    if (cached?.at === at) return cached.assignment;
    const isAssigned = (machineId: Uuid): boolean =>
      this.#assignments.get(machineId) === gatewayId && !this.isRevoked(machineId);
    const assignment = gatewayAssignment(desired, isAssigned, this.#revokedPem);
    this.#cached.set(gatewayId, { at, assignment });
    return assignment;
  }

  /** Looks at what time and other processes change: silent process servers, revocations. */
  async tick(): Promise<void> {
    const { state } = this.#ports;
    const { membersVersion } = state;
    if (membersVersion !== this.#membersVersion) {
      this.#membersVersion = membersVersion;
      await this.#readRevocations();
    }
    if (this.orders.tick()) {
      this.changed.beat();
      this.reportable.beat();
    }
    this.#placeAndTell();
  }

  /** What is wrong with the site as a whole. */
  health(): HealthError[] {
    const waiting = [...this.#items].filter(
      ([id, item]) =>
        isToReplicate(item) &&
        this.machines.facts(id) !== undefined &&
        this.#assignments.get(id) === undefined,
    );
    if (waiting.length === 0) return [];
    const message = `${waiting.length} machines wait for a process server`;
    return [healthError(CONFIGURATION_SERVER_ERRORS.NO_PROCESS_SERVER, message)];
  }

  /** Also of what was kept: whoever was killed may not have begun its orders, and the vault sends no wish twice. */
  #take(desired: DesiredFabric): void {
    this.#desired = desired;
    this.#items = new Map(desired.items.map((item) => [item.grant.machineId, item]));
    if (this.orders.apply(desired.orders)) this.reportable.beat();
  }

  #placeAndTell(): void {
    if (this.#place() || !this.#wasSettled) this.changed.beat();
    this.#wasSettled = this.#isSettled();
  }

  #wasSettled = false;

  /** Every machine that is to replicate has a place, or has had the time to say which one it has. */
  #isSettled(): boolean {
    const elapsedMs = this.#ports.clock.monotonicMs() - this.#startedMs;
    return (
      elapsedMs >= SETTLE_MS ||
      [...this.#items].every(([id, item]) => !isToReplicate(item) || this.#assignments.has(id))
    );
  }

  /** Gives machines their process servers. True where that has changed; it is on disk then. */
  #place(): boolean {
    const machines: MachineToPlace[] = [];
    for (const [machineId, item] of this.#items) {
      const facts = this.machines.facts(machineId);
      const currentId = this.#assignments.get(machineId) ?? facts?.processServerId;
      // Who has not been heard of since the start may have a process server already.
      if (!isToReplicate(item) || (currentId === undefined && facts === undefined)) continue;
      machines.push({ machineId, wantedId: item.processServerId, currentId });
    }
    const servers = this.gateways
      .choosable()
      .map((server) => ({ ...server, isAlive: server.isAlive && !this.isRevoked(server.id) }));
    const coming = new Set(
      machines.flatMap(({ currentId }) =>
        currentId !== undefined && this.gateways.mayCome(currentId) ? [currentId] : [],
      ),
    );
    for (const id of coming) servers.push({ id, isAlive: true, isCritical: true });
    const chosen = chooseProcessServers(machines, servers);
    const isSame =
      chosen.size === this.#assignments.size &&
      [...chosen].every(([machineId, id]) => this.#assignments.get(machineId) === id);
    if (isSame) return false;
    this.#logMoves(chosen);
    this.#ports.state.replaceAssignments(chosen);
    this.#assignments = chosen;
    return true;
  }

  #logMoves(chosen: ReadonlyMap<Uuid, Uuid>): void {
    for (const [machineId, to] of chosen) {
      const from = this.#assignments.get(machineId);
      if (from !== to)
        this.#ports.log.info("a machine has a process server", { machineId, from, to });
    }
  }

  async #readRevocations(): Promise<void> {
    const { state, authority, clock } = this.#ports;
    const revoked = state.members().filter(({ revokedUnixMs }) => revokedUnixMs !== undefined);
    this.#revokedIds = new Set(revoked.map(({ id }) => id));
    for (const { id } of revoked) this.gateways.forget(id);
    const certificates = state.revokedCertificates(clock.unixMs());
    const serials = certificates.map(({ serial }) => serial).join();
    // A list has a new signature each time, and would be news to everybody.
    if (serials !== this.#revokedSerials) {
      this.#revokedPem =
        certificates.length === 0
          ? undefined
          : await createRevocationList(authority, certificates, clock);
      this.#revokedSerials = serials;
    }
    this.changed.beat();
  }
}
