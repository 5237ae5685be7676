import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";
import { randomUuid } from "@osr/base/uuid";

import type { Firmware } from "./boot-disk.ts";
import { runCommand } from "./commands.ts";
import { HTTP_PORT } from "./debian-files.ts";
import { debianImages } from "./debian-image.ts";
import { Machine, type MachineDisk } from "./machine.ts";
import type { Narrator } from "./narrator.ts";
import { RIG_ERRORS } from "./rig-errors.ts";

const BOOT_TIMEOUT_MS = 4 * MINUTE_MS;
const HTTP_TIMEOUT_MS = 60 * SECOND_MS;
const POLL_MS = 250;

/** Disks of the Debian machine, by the serial number that it sees. */
export const DEBIAN_DISKS = ["root", "data"] as const;

export type DebianMachine = AsyncDisposable & {
  readonly machine: Machine;
  /** Port on the host's loopback of the machine's HTTP service. */
  readonly httpPort: number;
  /** Text of a page, such as `/cgi-bin/status`. Throws RIG_TIMEOUT. */
  page(path: string, signal?: AbortSignal): Promise<string>;
};

/**
 * Starts a Debian machine with PostgreSQL on its second disk and an HTTP service, and waits until that answers with rows of the
 * database. `directory` is an existing folder of this machine alone.
 */
export async function startDebianMachine(options: {
  readonly directory: string;
  /** Default: bios. */
  readonly firmware?: Firmware;
  readonly narrator: Narrator;
  readonly signal?: AbortSignal;
}): Promise<DebianMachine> {
  const { directory, firmware = "bios", narrator, signal } = options;
  const images = await debianImages(firmware, narrator, signal);
  const disks: MachineDisk[] = [];
  for (const [name, base] of [
    ["root", images.rootPath],
    ["data", images.dataPath],
  ] as const) {
    const path = join(directory, `${name}.qcow2`);
    await runCommand("qemu-img", ["create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", path], {
      timeoutMs: MINUTE_MS,
      signal,
    });
    disks.push({ name, path, format: "qcow2", readOnly: false });
  }
  await using started = new AsyncDisposableStack();
  const machine = await narrator.step("booting the Debian machine", async () => {
    const booting = started.use(
      await Machine.start(
        {
          name: "debian",
          directory,
          cpuCount: 2,
          memoryMib: 1024,
          biosUuid: randomUuid(systemRandomness),
          disks,
          firmware,
          forwardedPorts: [HTTP_PORT],
        },
        signal,
      ),
    );
    await booting.shell.ready(BOOT_TIMEOUT_MS, signal);
    return booting;
  });
  const httpPort = await machine.forwardedPort(HTTP_PORT);
  const page = (path: string, abort?: AbortSignal): Promise<string> =>
    loopbackPage(httpPort, path, abort);
  await narrator.step("waiting for its HTTP service and database", () =>
    untilRows(page, BOOT_TIMEOUT_MS, signal),
  );
  const kept = started.move();
  return { machine, httpPort, page, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Waits until the status page has a number of rows. */
async function untilRows(
  page: (path: string, signal?: AbortSignal) => Promise<string>,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<void> {
  const end = performance.now() + timeoutMs;
  for (let last = ""; performance.now() < end; await wait(POLL_MS)) {
    signal?.throwIfAborted();
    last = await page("/cgi-bin/status", signal).catch(() => last);
    if (/^rows \d+$/m.test(last)) return;
  }
  throw new OsrError(RIG_ERRORS.RIG_TIMEOUT, "the machine's HTTP service does not answer");
}

async function loopbackPage(port: number, path: string, signal?: AbortSignal): Promise<string> {
  const limit = AbortSignal.timeout(HTTP_TIMEOUT_MS);
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    signal: signal === undefined ? limit : AbortSignal.any([limit, signal]),
  });
  if (!response.ok)
    throw new OsrError(RIG_ERRORS.RIG_TIMEOUT, `${path}: HTTP status ${response.status}`);
  return response.text();
}
