import { OsrError } from "@osr/base/errors";
import { MINUTE_MS } from "@osr/base/units";
import { type Uuid, uuidOfName } from "@osr/base/uuid";
import type { Order } from "@osr/contracts/fabric-protocol";

import type { Operation, OperationContext, TaskDescription } from "../jobs/operation.ts";
import type { VaultContext } from "../vault-context.ts";

/** A configuration server that is away for longer is not waited for; it finds no order when it is back. */
const ORDER_MS_MAX = 30 * MINUTE_MS;

export type DiscoverInput = {
  readonly fabricId: Uuid;
  readonly friendlyName: string;
  readonly address: string;
  readonly operatingSystem: "linux" | "windows";
};
export type RefreshInput = { readonly fabricId: Uuid };

/** Kinds of jobs that only ask something of a configuration server. */
export const DISCOVER_PHYSICAL_MACHINE = "DiscoverPhysicalMachine";
export const REFRESH_SERVER = "RefreshServer";
export const CHECK_CONSISTENCY = "FabricConsistencyCheck";

/** Operations that a configuration server carries out as one order. */
export function fabricOperations(context: VaultContext): Operation<never>[] {
  const discover: Operation<DiscoverInput> = {
    kind: DISCOVER_PHYSICAL_MACHINE,
    tasks: [
      {
        id: "DiscoverPhysicalMachineTask",
        name: "DiscoverPhysicalMachine",
        friendlyName: "Add physical machine",
      },
    ],
    run: (job, input) => {
      const { friendlyName, address, operatingSystem } = input;
      const order = { kind: "discover-machine", friendlyName, address, operatingSystem } as const;
      return ordered(context, job, "DiscoverPhysicalMachineTask", input.fabricId, order);
    },
  };
  const refresh = (kind: string, task: TaskDescription): Operation<RefreshInput> => ({
    kind,
    tasks: [task],
    run: (job, { fabricId }) => ordered(context, job, task.id, fabricId, { kind: "refresh" }),
  });
  const operations: Operation<never>[] = [
    discover,
    refresh(REFRESH_SERVER, {
      id: "RefreshServerTask",
      name: "RefreshServer",
      friendlyName: "Refresh server",
    }),
    refresh(CHECK_CONSISTENCY, {
      id: "FabricConsistencyCheckTask",
      name: "FabricConsistencyCheck",
      friendlyName: "Check consistency",
    }),
  ];
  return operations;
}

async function ordered(
  { fabrics }: VaultContext,
  job: OperationContext,
  taskId: string,
  fabricId: Uuid,
  order: Omit<Order, "id">,
): Promise<void> {
  const id = uuidOfName("order", job.jobId, order.kind);
  await job.transaction("order", async (tx) => {
    await fabrics.order(tx, fabricId, { id, ...order });
    return null;
  });
  await job.task(taskId, async (signal) => {
    const { state, error } = await fabrics.result(id, ORDER_MS_MAX, signal);
    if (state === "failed")
      throw new OsrError(
        { code: error?.code ?? "ORDER_FAILED", retryable: false, hint: error?.hint ?? "" },
        error?.message ?? "the configuration server could not do it",
      );
    return null;
  });
}
