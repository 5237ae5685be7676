import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { MIB, SECOND_MS } from "@osr/base/units";
import { NAMESPACE_PROBE_FILE } from "@osr/compute-qemu/namespace-probe";

import { runCommand } from "../rig/commands.ts";
import { HTTP_PORT } from "../rig/debian-files.ts";
import { GUEST_ADDRESS } from "../rig/machine.ts";
import { RIG_ERRORS } from "../rig/rig-errors.ts";
import type { Site } from "../rig/site.ts";

const ATTEMPT_MS = 5 * SECOND_MS;
const POLL_MS = 100;

/** A machine that a test failover of the vault runs; disposing it cleans the test up. */
export type TestFailover = AsyncDisposable & {
  /** Command with which a person looks at a page of the machine. */
  readonly pageCommand: (path: string) => string;
  page(path: string, timeoutMs: number): Promise<string>;
};

/** Starts a test failover through the vault, into an isolated network in which the machine keeps its address. */
export async function startTestFailover(options: {
  readonly site: Site;
  /** Name of the protected item, and of the recovery point. */
  readonly item: string;
  readonly point: string;
  readonly signal: AbortSignal;
}): Promise<TestFailover> {
  const { site, item, point, signal } = options;
  await site.manage(["item", "test-failover", item, "--point", point], signal);
  const network = await testNetwork(site, item, signal);
  return {
    pageCommand: (path) =>
      `ip netns exec osr-${network} curl -s http://${GUEST_ADDRESS}:${HTTP_PORT}${path}`,
    page: (path, timeoutMs) => pageInNetwork({ network, path, timeoutMs, signal }),
    [Symbol.asyncDispose]: async () => {
      await site.manage(["item", "test-failover-cleanup", item, "--notes", "main job"]);
    },
  };
}

/** What the recovery site calls the network of an item's test failover. */
async function testNetwork(site: Site, item: string, signal: AbortSignal): Promise<string> {
  const query = "properties.providerSpecificDetails.openSiteRecovery.testReplica";
  const found = (await site.manage(["item", "show", item, "--query", query], signal)) as {
    readonly network?: string;
  };
  if (found.network !== undefined) return found.network;
  throw new OsrError(RIG_ERRORS.RIG_COMMAND_FAILED, `the test failover of ${item} has no network`);
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
