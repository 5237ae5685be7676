import type { Operation } from "../jobs/operation.ts";
import type { VaultContext } from "../vault-context.ts";
import {
  cancelFailoverOperation,
  changePointOperation,
  commitOperation,
  unplannedFailoverOperation,
} from "./failover.ts";
import { disableOperation, enableOperation } from "./protection.ts";
import { testFailoverCleanupOperation, testFailoverOperation } from "./test-failover.ts";

/** Everything that is done with protected items as jobs. */
export function itemOperations(context: VaultContext): Operation<never>[] {
  return [
    enableOperation(context),
    disableOperation(context),
    testFailoverOperation(context),
    testFailoverCleanupOperation(context),
    unplannedFailoverOperation(context),
    changePointOperation(context),
    commitOperation(context),
    cancelFailoverOperation(context),
  ];
}
