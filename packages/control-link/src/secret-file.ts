import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";

import { OsrError, defineErrors, systemErrorCode } from "@osr/base/errors";

const ERRORS = defineErrors({
  FILE_UNREADABLE: {
    retryable: false,
    hint: "Check the path, and that the user who runs the command may read the file.",
  },
});

/** The text of a file that a command was given, such as a token. Throws FILE_UNREADABLE. */
export function readGivenFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const message = `${path} cannot be read: ${systemErrorCode(cause) ?? "unknown error"}`;
    throw new OsrError(ERRORS.FILE_UNREADABLE, message, { cause });
  }
}

/** Writes a file that only its owner reads (0600): whole and durable, or not at all. */
export function writeSecretFile(path: string, content: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.new`;
  // What a crash left behind may have other rights.
  rmSync(temporary, { force: true });
  const file = openSync(temporary, "wx", 0o600);
  try {
    writeFileSync(file, content);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
  const folder = openSync(dirname(path), "r");
  fsyncSync(folder);
  closeSync(folder);
}
