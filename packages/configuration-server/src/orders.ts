import type { Clock } from "@osr/base/clock";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import { type Order, type OrderResult, orderResultShape } from "@osr/contracts/fabric-protocol";

import { CONFIGURATION_SERVER_ERRORS as ERRORS } from "./configuration-server-errors.ts";
import { healthError } from "./gateway-health.ts";
import type { MachineRegistry } from "./machine-registry.ts";
import type { SiteState } from "./site-state.ts";

/** An agent reports every 15 s: one that is silent for so long after it was told to shut its machine down has done so. */
const SILENCE_MS = 45 * SECOND_MS;
const SHUT_DOWN_MS_MAX = 10 * MINUTE_MS;

type ShutDown = { readonly orderId: Uuid; readonly sinceMs: number; toldMs?: number };

/** Carries out what the vault wants to be done once. Results stay until the vault has taken the order back. */
export class Orders {
  readonly #state: SiteState;
  readonly #machines: MachineRegistry;
  readonly #clock: Clock;
  readonly #results = new Map<Uuid, OrderResult>();
  readonly #shutDowns = new Map<Uuid, ShutDown>();
  #wantsWhole = false;

  constructor(state: SiteState, machines: MachineRegistry, clock: Clock) {
    this.#state = state;
    this.#machines = machines;
    this.#clock = clock;
    for (const result of state.orderResults(orderResultShape))
      this.#results.set(result.orderId, result);
  }

  get results(): readonly OrderResult[] {
    return [...this.#results.values()];
  }

  /** True once where a whole report was asked for. */
  takeWantsWhole(): boolean {
    const wanted = this.#wantsWhole;
    this.#wantsWhole = false;
    return wanted;
  }

  /** The order for the machine's agent. Counts as told. */
  shutDownOrder(machineId: Uuid): Uuid | undefined {
    return this.#shutDowns.get(machineId)?.orderId;
  }

  /** The agent was given the settings with its order. */
  told(machineId: Uuid): void {
    const order = this.#shutDowns.get(machineId);
    if (order !== undefined) order.toldMs ??= this.#clock.monotonicMs();
  }

  /** Begins what is new and forgets what the vault does not want any more. True where something has changed. */
  apply(orders: readonly Order[]): boolean {
    const wanted = new Set(orders.map(({ id }) => id));
    let hasChanged = false;
    for (const id of this.#results.keys()) {
      if (wanted.has(id)) continue;
      this.#results.delete(id);
      this.#state.dropOrderResult(id);
    }
    for (const [machineId, { orderId }] of this.#shutDowns)
      if (!wanted.has(orderId)) hasChanged = this.#shutDowns.delete(machineId) || hasChanged;
    for (const order of orders) {
      if (this.#results.has(order.id)) continue;
      this.#begin(order);
      hasChanged = true;
    }
    return hasChanged;
  }

  /** Looks whether machines that are to shut down have gone silent. True where something has ended. */
  tick(): boolean {
    const nowMs = this.#clock.monotonicMs();
    let hasEnded = false;
    for (const [machineId, order] of this.#shutDowns) {
      const seenMs = this.#machines.seenMs(machineId) ?? 0;
      const isSilent =
        order.toldMs !== undefined && nowMs - Math.max(seenMs, order.toldMs) >= SILENCE_MS;
      if (!isSilent && nowMs - order.sinceMs < SHUT_DOWN_MS_MAX) continue;
      this.#shutDowns.delete(machineId);
      const why = order.toldMs === undefined ? "its agent did not ask" : "its agent still answers";
      if (isSilent) this.#end({ orderId: order.orderId, state: "succeeded" });
      else this.#fail(order.orderId, ERRORS.SHUT_DOWN_UNCONFIRMED, why);
      hasEnded = true;
    }
    return hasEnded;
  }

  #begin(order: Order): void {
    const { id, kind, machineId, address } = order;
    if (kind === "refresh") {
      this.#wantsWhole = true;
      return this.#end({ orderId: id, state: "succeeded" });
    }
    if (kind === "shut-down-machine") {
      if (machineId === undefined)
        return this.#fail(id, ERRORS.ORDER_INVALID, "the order names no machine");
      this.#shutDowns.set(machineId, { orderId: id, sinceMs: this.#clock.monotonicMs() });
      // Not on disk: after a restart, the order is begun again.
      this.#results.set(id, { orderId: id, state: "running" });
      return;
    }
    if (address === undefined || address === "")
      return this.#fail(id, ERRORS.ORDER_INVALID, "the order names no address");
    try {
      this.#machines.discover({ ...order, address });
    } catch (error) {
      return this.#fail(id, ERRORS.MACHINES_TOO_MANY, String(error));
    }
    this.#end({ orderId: id, state: "succeeded" });
  }

  #fail(orderId: Uuid, info: (typeof ERRORS)[keyof typeof ERRORS], message: string): void {
    this.#end({ orderId, state: "failed", error: healthError(info, message) });
  }

  #end(result: OrderResult): void {
    this.#results.set(result.orderId, result);
    this.#state.putOrderResult(result.orderId, result);
  }
}
