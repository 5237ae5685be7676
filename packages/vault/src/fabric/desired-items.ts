import type { JsonObject } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";
import type { DesiredItem, FabricStatus, Order, OrderResult } from "@osr/contracts/fabric-protocol";

import type { VaultDatabase, VaultTransaction } from "../database/database.ts";

/** The part of the vault that knows protected items; there is one. */
export interface FabricItems {
  /**
   * What the fabric is to do with machines, ordered by machine id so that the same wish gives the same bytes. May make data keys in the storage
   * account, hence no transaction. Its items change only in transactions that call FabricDesires.changed.
   */
  desiredItems(fabricId: Uuid, signal: AbortSignal): Promise<readonly DesiredItem[]>;
  /** Protected machines of a fabric, as protectable items and counts show them. */
  protectedMachines(database: VaultDatabase, fabricId: Uuid): Promise<readonly ProtectedMachine[]>;
  /** A report has come in; runs first in the transaction that stores its machines. `status.machines` may be only those that changed. */
  statusArrived(tx: VaultTransaction, fabricId: Uuid, status: FabricStatus): Promise<void>;
}

export type ProtectedMachine = {
  readonly machineId: Uuid;
  /** ARM id of the protected item. */
  readonly itemId: string;
  readonly policyId: Uuid;
  readonly processServerId?: Uuid | undefined;
  readonly health: "Normal" | "Warning" | "Critical";
  /** What is wrong with it at the moment, worst first. */
  readonly symptoms: readonly MachineSymptom[];
};

export type MachineSymptom = {
  readonly code: string;
  readonly level: "Warning" | "Error";
  readonly message: string;
  /** ARM's HealthError. */
  readonly error: JsonObject;
};

/** How parts of the vault wish something of a fabric. */
export interface FabricDesires {
  /** The wish of this fabric has another revision when the transaction commits; a configuration server that waits is answered then. */
  changed(tx: VaultTransaction, fabricId: Uuid): Promise<void>;
  /** Adds an order, once for its id: derive the id from the job's (uuidOfName) and repeat at will. */
  order(tx: VaultTransaction, fabricId: Uuid, order: Order): Promise<void>;
  /**
   * Waits until the order has ended and gives its result; rejects with the signal's reason, or with ORDER_TIMEOUT after `timeoutMs`, where the order
   * is withdrawn. After a crash it is simply asked again.
   */
  result(orderId: Uuid, timeoutMs: number, signal: AbortSignal): Promise<OrderResult>;
  /** The newest report of a machine of the fabric (a FabricMachine), or undefined where there is none. */
  machine(
    database: VaultDatabase,
    fabricId: Uuid,
    machineId: Uuid,
  ): Promise<KnownMachine | undefined>;
}

export type KnownMachine = {
  readonly machineId: Uuid;
  readonly friendlyName: string;
  readonly address: string;
  readonly operatingSystem: "linux" | "windows";
  /** The FabricMachine as it was reported. */
  readonly document: JsonObject;
};
