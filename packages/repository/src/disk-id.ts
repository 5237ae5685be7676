import { type Uuid, uuidOfName } from "@osr/base/uuid";

/** The same machine and identity give the same disk, whoever asks and whenever: docs/adr/0005. */
export function diskIdOf(machineId: Uuid, identity: string): Uuid {
  return uuidOfName("disk", machineId, identity);
}
