import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmdirSync,
  writeSync,
} from "node:fs";
import { join, resolve } from "node:path";

import { OsrError } from "@osr/base/errors";
import type { Randomness } from "@osr/base/randomness";

import { POSTGRES_ERRORS } from "./postgres-errors.ts";
import { type ServerUser, canRead } from "./server-user.ts";

/** Longest path of a unix socket is 107 bytes; PostgreSQL adds `/.s.PGSQL.5432.lock`. */
const SOCKET_FOLDER_BYTES_MAX = 107 - 20;
/** Where the data goes when the user's folder lies below one that PostgreSQL's user may not enter, such as /root. */
const SHARED_FOLDER = "/var/lib/open-site-recovery";

/** Where one embedded PostgreSQL keeps what. */
export type ServerFolder = {
  readonly root: string;
  readonly data: string;
  readonly sockets: string;
  readonly logs: string;
  readonly startLog: string;
  /** Ours: the server's user cannot read it. */
  readonly passwordFile: string;
};

/** Makes the folders. `folder` itself stays ours; what PostgreSQL writes lies beneath, or in /var/lib where its user cannot get there. */
export function openServerFolder(folder: string, user: ServerUser | undefined): ServerFolder {
  const ours = resolve(folder);
  mkdirSync(ours, { recursive: true, mode: 0o711 });
  if (user !== undefined) chmodSync(ours, 0o711);
  const near = join(ours, "server");
  const root = isReached(near, user) ? near : shared(ours);
  ownedFolder(root, user);
  if (!canRead(root, user))
    throw new OsrError(
      POSTGRES_ERRORS.POSTGRES_DIRECTORY,
      `PostgreSQL's user cannot get at ${ours}`,
    );
  const inside = join(root, "run");
  const sockets = Buffer.byteLength(inside) <= SOCKET_FOLDER_BYTES_MAX ? inside : shortened(root);
  for (const path of [sockets, join(root, "log")]) ownedFolder(path, user);
  return {
    root,
    data: join(root, "data"),
    sockets,
    logs: join(root, "log"),
    startLog: join(ours, "start.log"),
    passwordFile: join(ours, "password"),
  };
}

/** The database's password, made the first time. */
export function databasePassword(file: string, randomness: Randomness): string {
  if (!existsSync(file)) {
    const descriptor = openSync(file, "wx", 0o600);
    writeSync(descriptor, `${randomness.bytes(32).toString("hex")}\n`);
    fsyncSync(descriptor);
    closeSync(descriptor);
  }
  return readFileSync(file, "utf8").trim();
}

/** Major version that made the data, or undefined where there is no complete data folder. */
export function dataMajorVersion(folder: ServerFolder): number | undefined {
  const file = join(folder.data, "PG_VERSION");
  return existsSync(file) ? Number.parseInt(readFileSync(file, "utf8"), 10) : undefined;
}

/** Makes the folder for the server's user; leaves none behind that its user cannot get to. */
function isReached(path: string, user: ServerUser | undefined): boolean {
  ownedFolder(path, user);
  if (canRead(path, user)) return true;
  rmdirSync(path);
  return false;
}

function ownedFolder(path: string, user: ServerUser | undefined): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  if (user !== undefined) chownSync(path, user.uid, user.gid);
}

/** Below a folder that everybody may enter; it is made with the first. */
function shared(folder: string): string {
  mkdirSync(SHARED_FOLDER, { recursive: true, mode: 0o711 });
  return join(SHARED_FOLDER, `postgres-${nameOf(folder)}`);
}

function shortened(root: string): string {
  return join("/tmp", `osr-postgres-${nameOf(root)}`);
}

function nameOf(path: string): string {
  return createHash("sha256").update(path).digest("hex").slice(0, 16);
}
