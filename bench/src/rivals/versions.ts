import { runCommand } from "../machine/command.ts";
import { SECOND_MS } from "@osr/base/units";

const PROGRAMS = {
  restic: ["version"],
  borg: ["--version"],
  zstd: ["--version"],
  fio: ["--version"],
  "qemu-system-x86_64": ["--version"],
} as const;

/** What the programs that we measure against, or with, say of themselves; the first line of each. */
export async function programVersions(
  signal: AbortSignal,
): Promise<Readonly<Record<string, string>>> {
  const versions: Record<string, string> = { node: process.version };
  for (const [program, words] of Object.entries(PROGRAMS)) {
    const text = await runCommand(program, words, { timeoutMs: 30 * SECOND_MS, signal });
    versions[program] = text.split("\n")[0]?.replaceAll("*", "").trim() ?? "";
  }
  return versions;
}
