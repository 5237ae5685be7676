import type { Log } from "@osr/base/log";
import { jsonLinesLog } from "@osr/base/platform/json-lines-log";

/** The log of a role: JSON lines on the standard error. */
export function roleLog(role: string): Log {
  // Whoever started the role and read this may be dead: machines still need the role.
  process.stderr.on("error", () => undefined);
  return jsonLinesLog((line) => process.stderr.write(line), "info", { role });
}
