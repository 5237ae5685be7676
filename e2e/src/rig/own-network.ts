import { exitOf, spawnTied } from "./commands.ts";

const MARK = "OSR_E2E_OWN_NETWORK";

/** Whether this process is the one that runAgainInOwnNetwork started. */
export function hasOwnNetwork(): boolean {
  return process.env[MARK] === "yes";
}

/**
 * Runs this program with its arguments once more, in a new network namespace that has nothing but loopback and ends with it.
 * Gives its exit code.
 */
export async function runAgainInOwnNetwork(signal: AbortSignal): Promise<number> {
  const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const script = 'ip link set lo up && exec "$@"';
  const child = spawnTied(
    "unshare",
    ["--net", "--", "sh", "-c", script, "sh", ...command],
    { stdio: "inherit", env: { ...process.env, [MARK]: "yes" } },
    "TERM",
  );
  // Ctrl-C reaches it by itself; a signal to this process alone does not.
  const stop = (): void => void child.kill("SIGTERM");
  signal.addEventListener("abort", stop, { once: true });
  const code = await exitOf(child);
  return typeof code === "number" ? code : 2;
}
