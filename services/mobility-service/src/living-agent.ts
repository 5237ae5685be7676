import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { OsrError } from "@osr/base/errors";
import { BLOCK_DEVICE_ERRORS } from "@osr/block-device/block-device-errors";

/** Field of /proc/PID/stat, counted from the one after the name of the program. */
const STATE_FIELD = 0;
const START_FIELD = 19;
const NAME = "agent";

/**
 * Notes in `folder`, which is in memory, that this process is the agent. Two must never read one ring of trace events.
 * Returns the name of the note. Throws TRACKER_BUSY where the one before it lives.
 */
export function becomeAgent(folder: string, pid: number = process.pid): string {
  const file = join(folder, NAME);
  const known = textOf(file);
  const [knownPid = "", start] = known?.split(" ") ?? [];
  if (known !== undefined && Number(knownPid) !== pid && startOf(knownPid) === start)
    throw new OsrError(
      BLOCK_DEVICE_ERRORS.TRACKER_BUSY,
      `the mobility service runs already, as process ${knownPid}`,
    );
  writeFileSync(file, `${pid} ${startOf(String(pid))}`, { mode: 0o644 });
  return NAME;
}

/** When a process that lives was started, in ticks since the boot: numbers of processes are used again. */
function startOf(pid: string): string | undefined {
  const fields = textOf(`/proc/${pid}/stat`)
    ?.replace(/^.*\) /s, "")
    .split(" ");
  return fields?.[STATE_FIELD] === "Z" ? undefined : fields?.[START_FIELD];
}

function textOf(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}
