import { readFileSync, statSync } from "node:fs";

import { OsrError, defineErrors } from "@osr/base/errors";

const ERRORS = defineErrors({
  VAULT_KEY_INVALID: {
    retryable: false,
    hint: "The vault key is a file with 64 hexadecimal digits, readable by its owner only (chmod 600).",
  },
});

/** The vault key of a file. Throws VAULT_KEY_INVALID; never tells what is in the file. */
export function readVaultKey(path: string): Buffer {
  let content: string;
  try {
    if ((statSync(path).mode & 0o077) !== 0)
      throw new OsrError(ERRORS.VAULT_KEY_INVALID, `${path} can be read by others than its owner`);
    content = readFileSync(path, "utf8").trim();
  } catch (cause) {
    if (cause instanceof OsrError) throw cause;
    throw new OsrError(ERRORS.VAULT_KEY_INVALID, `${path} cannot be read`, { cause });
  }
  if (!/^[0-9a-f]{64}$/.test(content))
    throw new OsrError(ERRORS.VAULT_KEY_INVALID, `${path} does not hold 64 hexadecimal digits`);
  return Buffer.from(content, "hex");
}
