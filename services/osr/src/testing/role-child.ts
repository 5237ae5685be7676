import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const MAIN = join(import.meta.dirname, "../main.ts");

/** A role in a process of its own. */
export type RoleChild = {
  readonly child: ChildProcess;
  /** What it said when it was ready. */
  readonly facts: { readonly port: number };
  /** Resolves when it is gone. */
  readonly end: (signal: NodeJS.Signals) => Promise<void>;
};

/** Starts `osr WORDS --config CONFIG`; resolves when it is ready. */
export async function startRoleChild(words: readonly string[], config: string): Promise<RoleChild> {
  const child = spawn(process.execPath, [MAIN, ...words, "--config", config], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const gone = once(child, "exit");
    child.kill(signal);
    await gone;
  };
  return { child, facts: JSON.parse(line) as RoleChild["facts"], end };
}

/** Processes that have `word` in their command line. */
export function processesWith(word: string): readonly number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(word);
    } catch {
      return false;
    }
  });
}
