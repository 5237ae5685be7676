import { appendFile, open, stat } from "node:fs/promises";

import { OsrError, systemErrorCode } from "@osr/base/errors";
import { KIB, MIB } from "@osr/base/units";

import { COMPUTE_ERRORS } from "./compute-errors.ts";
import type { QmpClient } from "./qmp-client.ts";

/**
 * The serial console goes into a ring in QEMU's memory, so that no guest can fill the host's disk, whether anybody
 * supervises it or not. Reading takes out of the ring; what was taken is kept in a file of at most twice the ring's size.
 */
export const CONSOLE_RING_ID = "console";
export const CONSOLE_RING_BYTES = MIB;
const LOG_BYTES_MAX = 2 * CONSOLE_RING_BYTES;
const READ_BYTES = 64 * KIB;
/** A guest that prints without end must not keep us reading. */
const READS_MAX = (2 * CONSOLE_RING_BYTES) / READ_BYTES;

/** Moves what the guest has printed from the ring to the file. */
export async function drainConsole(qmp: QmpClient, logFile: string): Promise<void> {
  for (let reads = 0; reads < READS_MAX; reads++) {
    const data = await qmp.execute("ringbuf-read", {
      device: CONSOLE_RING_ID,
      size: READ_BYTES,
      format: "base64",
    });
    if (typeof data !== "string")
      throw new OsrError(COMPUTE_ERRORS.QMP_PROTOCOL, "ringbuf-read did not answer with text");
    const bytes = Buffer.from(data, "base64");
    if (bytes.byteLength > 0) await appendFile(logFile, bytes, { mode: 0o600 });
    if (bytes.byteLength < READ_BYTES) break;
  }
  await trimLog(logFile);
}

/** The last `bytesMax` bytes of the file as text; bytes that are not UTF-8 are replaced. Empty where there is no file. */
export async function readConsole(logFile: string, bytesMax: number): Promise<string> {
  return (await readTail(logFile, bytesMax)).toString("utf8");
}

async function trimLog(logFile: string): Promise<void> {
  if ((await sizeOf(logFile)) <= LOG_BYTES_MAX) return;
  const tail = await readTail(logFile, CONSOLE_RING_BYTES);
  const file = await open(logFile, "w", 0o600);
  try {
    await file.writeFile(tail);
  } finally {
    await file.close();
  }
}

async function readTail(path: string, bytesMax: number): Promise<Buffer> {
  const size = await sizeOf(path);
  const bytes = Math.min(size, Math.max(0, bytesMax));
  const target = Buffer.alloc(bytes);
  if (bytes === 0) return target;
  const file = await open(path, "r");
  try {
    const { bytesRead } = await file.read(target, 0, bytes, size - bytes);
    return target.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return 0;
    throw error;
  }
}
