import { execFileSync } from "node:child_process";

/** Whom PostgreSQL runs as: it refuses root. Absent: as we do. */
export type ServerUser = { readonly uid: number; readonly gid: number };

/** `nobody`. An uid without a name does not do: PostgreSQL looks its own up. */
const NOBODY = 65_534;

export function serverUser(): ServerUser | undefined {
  return process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : undefined;
}

/** True where that user can go into `folder` and read there. */
export function canRead(folder: string, user: ServerUser | undefined): boolean {
  try {
    execFileSync("ls", [folder], { ...user, cwd: "/", stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
