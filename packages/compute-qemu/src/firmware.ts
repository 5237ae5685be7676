import { copyFile, rename } from "node:fs/promises";

import { OsrError } from "@osr/base/errors";

import { COMPUTE_ERRORS } from "./compute-errors.ts";
import { pathExists } from "./path.ts";

/** UEFI firmware: code, which all machines share, and the template of the variables, of which each machine has a copy. */
export type UefiFirmware = { readonly codeFile: string; readonly variablesFile: string };

/** Where distributions put OVMF without Secure Boot, whose keys a replica's variables would not have. Best first. */
const UEFI_FIRMWARE: readonly UefiFirmware[] = [
  {
    codeFile: "/usr/share/OVMF/OVMF_CODE_4M.fd",
    variablesFile: "/usr/share/OVMF/OVMF_VARS_4M.fd",
  },
  { codeFile: "/usr/share/OVMF/OVMF_CODE.fd", variablesFile: "/usr/share/OVMF/OVMF_VARS.fd" },
  {
    codeFile: "/usr/share/edk2/ovmf/OVMF_CODE.fd",
    variablesFile: "/usr/share/edk2/ovmf/OVMF_VARS.fd",
  },
];

/** The UEFI firmware of this host. Throws FIRMWARE_MISSING. */
export async function findUefiFirmware(): Promise<UefiFirmware> {
  for (const firmware of UEFI_FIRMWARE)
    if ((await pathExists(firmware.codeFile)) && (await pathExists(firmware.variablesFile)))
      return firmware;
  throw new OsrError(COMPUTE_ERRORS.FIRMWARE_MISSING, "no UEFI firmware is installed");
}

/** Gives a machine its own variables unless it has them. */
export async function ensureFirmwareVariables(
  firmware: UefiFirmware,
  variablesFile: string,
): Promise<void> {
  if (await pathExists(variablesFile)) return;
  await copyFile(firmware.variablesFile, `${variablesFile}.new`);
  await rename(`${variablesFile}.new`, variablesFile);
}
