import { execFile } from "node:child_process";
import { chownSync, existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

import { OsrError } from "@osr/base/errors";
import { MINUTE_MS } from "@osr/base/units";

import { POSTGRES_ERRORS } from "./postgres-errors.ts";
import type { ServerFolder } from "./server-folder.ts";
import type { ServerPrograms } from "./server-programs.ts";
import { DATABASE_USER } from "./server-settings.ts";
import type { ServerUser } from "./server-user.ts";

const run = promisify(execFile);
const MAKE_MS_MAX = 2 * MINUTE_MS;

/** Makes the data folder where there is none. It gets its name last, so one that a crash left half done is made anew. */
export async function makeDataFolder(options: {
  readonly folder: ServerFolder;
  readonly programs: ServerPrograms;
  readonly user: ServerUser | undefined;
  readonly password: string;
}): Promise<void> {
  const { folder, user } = options;
  if (existsSync(folder.data)) return;
  const partial = `${folder.data}.partial`;
  const passwordFile = join(folder.root, "password.partial");
  rmSync(partial, { recursive: true, force: true });
  writeFileSync(passwordFile, options.password, { mode: 0o600 });
  try {
    if (user !== undefined) chownSync(passwordFile, user.uid, user.gid);
    await run(
      join(options.programs.bin, "initdb"),
      [
        `--pgdata=${partial}`,
        `--username=${DATABASE_USER}`,
        `--pwfile=${passwordFile}`,
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        "--data-checksums",
        "--no-instructions",
      ],
      { ...user, cwd: folder.root, env: { LC_ALL: "C" }, timeout: MAKE_MS_MAX },
    );
  } catch (cause) {
    const lines = cause instanceof Error && "stderr" in cause ? String(cause.stderr).trim() : "";
    throw new OsrError(POSTGRES_ERRORS.POSTGRES_START, `initdb failed: ${lines}`, { cause });
  } finally {
    rmSync(passwordFile, { force: true });
  }
  renameSync(partial, folder.data);
}
