import { access } from "node:fs/promises";

import { systemErrorCode } from "@osr/base/errors";

/** True where something has that path. */
export async function pathExists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return false;
    throw error;
  }
}
