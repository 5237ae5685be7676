import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { KIB, MIB, MINUTE_MS, SECOND_MS } from "@osr/base/units";
import { NAMESPACE_PROBE_FILE } from "@osr/compute-qemu/namespace-probe";

import { exitOf, runCommand, spawnTied } from "../rig/commands.ts";
import { HTTP_PORT } from "../rig/debian-files.ts";
import { GUEST_ADDRESS, GUEST_MAC } from "../rig/machine.ts";
import type { Narrator } from "../rig/narrator.ts";
import { RIG_ERRORS } from "../rig/rig-errors.ts";
import { PROJECT_DIRECTORY } from "../rig/settings.ts";
import type { Site } from "../rig/site.ts";

const OSR = join(PROJECT_DIRECTORY, "services", "osr", "src", "main.ts");
const READY_TIMEOUT_MS = 6 * MINUTE_MS;
const STOP_TIMEOUT_MS = MINUTE_MS;
const ATTEMPT_MS = 5 * SECOND_MS;
const POLL_MS = 100;

/** A machine that `osr failover test` runs; disposing it ends the test, which cleans up. */
export type TestFailover = AsyncDisposable & {
  /** Command with which a person looks at a page of the machine. */
  readonly pageCommand: (path: string) => string;
  page(path: string, timeoutMs: number): Promise<string>;
};

/** Starts a test failover with the real command, into a network with the source's addresses and no way out. */
export async function startTestFailover(options: {
  readonly site: Site;
  readonly point: number;
  readonly machineId: string;
  readonly directory: string;
  readonly narrator: Narrator;
  readonly signal: AbortSignal;
}): Promise<TestFailover> {
  const { site, point, machineId, directory, narrator, signal } = options;
  // Runs side by side on one host must not meet in one network.
  const network = `t${randomBytes(3).toString("hex")}`;
  const child = spawnTied(
    process.execPath,
    [
      [OSR, "failover", "test", "--site", site.directory, "--run-directory", directory],
      ["--point", String(point), "--machine", machineId, "--network", network, "--move"],
      ["--subnet", "10.0.2.0/24", "--gateway", "10.0.2.2"],
      ["--address", GUEST_ADDRESS, "--mac", GUEST_MAC],
    ].flat(),
    // A process group of its own: Ctrl-C is ours to pass on, when the rest of the job has ended.
    { stdio: ["ignore", "pipe", "pipe"], detached: true },
  );
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await exitOf(child);
    clearTimeout(timer);
  };
  try {
    await readyLine(child, narrator, signal);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    pageCommand: (path) =>
      `ip netns exec osr-${network} curl -s http://${GUEST_ADDRESS}:${HTTP_PORT}${path}`,
    page: (path, timeoutMs) => pageInNetwork({ network, path, timeoutMs, signal }),
    [Symbol.asyncDispose]: stop,
  };
}

/** The first answer of a page, asked for again and again. Throws RIG_TIMEOUT. */
export async function firstPage(
  failover: TestFailover,
  path: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<string> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    signal.throwIfAborted();
    try {
      return await failover.page(path, ATTEMPT_MS);
    } catch (cause) {
      if (performance.now() > end)
        throw new OsrError(RIG_ERRORS.RIG_TIMEOUT, `the machine does not answer ${path}`, {
          cause,
        });
    }
    await wait(POLL_MS);
  }
}

async function readyLine(
  child: ReturnType<typeof spawnTied>,
  narrator: Narrator,
  signal: AbortSignal,
): Promise<void> {
  const errors: string[] = [];
  child.stderr?.on("data", (bytes: Buffer) => errors.push(bytes.toString("utf8")));
  const lines = createInterface(child.stdout ?? process.stdin);
  const ready = new Promise<boolean>((resolve) => {
    lines.on("line", (line) => {
      narrator.say(`  ${line}`);
      if (line.startsWith("ready")) resolve(true);
    });
    void once(child, "exit").then(() => resolve(false));
  });
  const limit = wait(READY_TIMEOUT_MS, false, { ref: false, signal });
  if (await Promise.race([ready, limit])) return;
  throw new OsrError(
    RIG_ERRORS.RIG_COMMAND_FAILED,
    `osr failover test did not get ready:\n${errors.join("").slice(-4 * KIB)}`,
  );
}

/** A page of the machine that has the source's address in a network of the recovery site. */
export function machinePage(network: string, path: string, signal: AbortSignal): Promise<string> {
  return pageInNetwork({ network, path, timeoutMs: ATTEMPT_MS, signal });
}

/** Asks from within the network; nothing goes out from the host's own. */
async function pageInNetwork(request: {
  readonly network: string;
  readonly path: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}): Promise<string> {
  const { network, path, timeoutMs, signal } = request;
  const reply = await runCommand(
    "ip",
    [
      ["netns", "exec", `osr-${network}`, process.execPath, NAMESPACE_PROBE_FILE],
      [GUEST_ADDRESS, String(HTTP_PORT), String(timeoutMs), String(MIB)],
    ].flat(),
    {
      input: `GET ${path} HTTP/1.0\r\nHost: ${GUEST_ADDRESS}\r\n\r\n`,
      timeoutMs: timeoutMs + 10 * SECOND_MS,
      signal,
    },
  );
  const [, status, body] = /^HTTP\/1\.[01] (\d{3})[^]*?\r?\n\r?\n([^]*)$/.exec(reply) ?? [];
  if (status === "200") return body ?? "";
  throw new OsrError(RIG_ERRORS.RIG_TIMEOUT, `${path}: ${reply.slice(0, 200)}`);
}
