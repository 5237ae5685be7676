import { OsrError } from "@osr/base/errors";
import type { MachineDescription } from "@osr/contracts/agent-protocol";

import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";

/**
 * A copy of a machine, such as a failed-over one, has its certificate and its disks, but never its SMBIOS UUID. This is the
 * second line: the agent of a copy knows by itself. Throws MACHINE_IS_REPLICA where both are known and differ.
 */
export function checkMachine(
  { biosUuid }: Pick<MachineDescription, "biosUuid">,
  enrolled: Pick<MachineDescription, "biosUuid">,
): void {
  if (biosUuid === enrolled.biosUuid || biosUuid === "" || enrolled.biosUuid === "") return;
  throw new OsrError(
    PROCESS_SERVER_ERRORS.MACHINE_IS_REPLICA,
    `the machine has SMBIOS UUID ${biosUuid}, what it has the certificate of has ${enrolled.biosUuid}`,
  );
}
