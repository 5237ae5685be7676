import { once } from "node:events";
import { rm } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";
import { type Accelerator } from "@osr/compute-qemu/kvm-probe";

import { BENCH_ERRORS } from "../bench-errors.ts";
import { endChild, hasEnded, runCommand, spawnTied } from "../machine/command.ts";
import { GUEST_HTTP_PORT } from "./guest-image.ts";

const QEMU = "qemu-system-x86_64";
const ANSWER_MS_MAX = 5 * MINUTE_MS;
const ATTEMPT_MS = 2 * SECOND_MS;
const POLL_MS = 50;

/** Where the guest's disk is. Writes go to an overlay in either case, as after a failover. */
export type GuestDisk =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "nbd"; readonly socketPath: string };

/** Starts a machine with one processor and gives the milliseconds until it answered HTTP; then cuts its power. */
export async function bootOnce(options: {
  readonly disk: GuestDisk;
  readonly directory: string;
  readonly accelerator: Accelerator["kind"];
  readonly signal: AbortSignal;
}): Promise<number> {
  const { disk, directory, accelerator, signal } = options;
  const overlay = join(directory, "overlay.qcow2");
  await runCommand("qemu-img", ["create", "-q", "-f", "qcow2", overlay, "1G"], {
    timeoutMs: MINUTE_MS,
    signal,
  });
  const port = await freePort();
  const begin = performance.now();
  const child = spawnTied(QEMU, qemuArguments(disk, overlay, port, accelerator), {
    stdio: ["ignore", "ignore", "inherit"],
  });
  try {
    while (!(await answers(port))) {
      signal.throwIfAborted();
      if (hasEnded(child) || performance.now() - begin > ANSWER_MS_MAX)
        throw new OsrError(BENCH_ERRORS.BENCH_TIMEOUT, "the guest does not answer");
      await wait(POLL_MS);
    }
    return performance.now() - begin;
  } finally {
    child.kill("SIGKILL");
    await endChild(child, SECOND_MS);
    await rm(overlay, { force: true });
  }
}

function qemuArguments(
  disk: GuestDisk,
  overlay: string,
  port: number,
  accelerator: Accelerator["kind"],
): readonly string[] {
  const isKvm = accelerator === "kvm";
  const source =
    disk.kind === "file"
      ? { driver: "file", filename: disk.path }
      : { driver: "nbd", server: { type: "unix", path: disk.socketPath } };
  const node = {
    driver: "qcow2",
    "node-name": "disk",
    file: { driver: "file", filename: overlay },
    backing: { driver: "raw", "read-only": true, file: source },
  };
  return [
    ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-m", "512"],
    // One processor, so that another one is left for the export on a host with two.
    ["-smp", "1", "-accel", isKvm ? "kvm" : "tcg", "-cpu", isKvm ? "host" : "max"],
    ["-blockdev", JSON.stringify(node), "-device", "virtio-blk-pci,drive=disk,bootindex=0"],
    ["-netdev", `user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:${port}-:${GUEST_HTTP_PORT}`],
    ["-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"],
    ["-serial", "null"],
  ].flat();
}

async function answers(port: number): Promise<boolean> {
  try {
    const reply = await fetch(`http://127.0.0.1:${port}/`, {
      signal: AbortSignal.timeout(ATTEMPT_MS),
    });
    return (await reply.text()).includes("guest");
  } catch {
    return false;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  await new Promise((done) => server.close(done));
  if (typeof address === "object" && address !== null) return address.port;
  throw new OsrError(BENCH_ERRORS.BENCH_UNSUPPORTED, "loopback has no free port");
}
