import { execFileSync } from "node:child_process";

import { assert } from "@osr/base/assert";

const MOUNT_LIMIT_MS = 10_000;
const TRACKER_NAME = /^osr-[a-z0-9-]{1,48}$/;

/** Mounts a file system of the kernel's own, such as `tracefs`. Throws what the command fails with. */
export function mountKernelFileSystem(type: string, folder: string): void {
  execFileSync("mount", ["-t", type, type, folder], {
    stdio: ["ignore", "ignore", "pipe"],
    timeout: MOUNT_LIMIT_MS,
  });
}

/** Folders of ours in such a file system begin with `osr-`, so that nobody else's is removed. */
export function assertTrackerName(name: string): void {
  assert(TRACKER_NAME.test(name), `not a name for a tracker: ${name}`);
}
