import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

/** What a machine's sockets need below it leaves this for the folder itself. */
const FOLDER_BYTES_MAX = 39;
/** Everybody may enter it: PostgreSQL's user has a folder there too. */
const SHARED_FOLDER = "/var/lib/open-site-recovery";

/** Where failed-over machines of a site live: in its folder, or below /var/lib where the path would be too long for unix sockets. */
export function replicaFolder(siteRoot: string): string {
  const near = join(siteRoot, "replicas");
  if (Buffer.byteLength(near) <= FOLDER_BYTES_MAX) return near;
  mkdirSync(SHARED_FOLDER, { recursive: true, mode: 0o711 });
  const name = createHash("sha256").update(siteRoot).digest("hex").slice(0, 8);
  return join(SHARED_FOLDER, `r-${name}`);
}
