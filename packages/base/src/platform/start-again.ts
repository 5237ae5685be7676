import { assert } from "../assert.ts";

/** Becomes the same program, started with `flags` of Node and with `environment` besides; same process id. */
export function startAgain(
  flags: readonly string[],
  environment: Readonly<Record<string, string>>,
): never {
  // That execve is experimental is nothing that the user can do anything about.
  process.removeAllListeners("warning");
  assert(process.execve !== undefined, "Node has execve on this platform");
  const words = [process.execPath, ...flags, ...process.argv.slice(1)];
  return process.execve(process.execPath, words, { ...process.env, ...environment });
}
