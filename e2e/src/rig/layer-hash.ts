import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";

import { OsrError } from "@osr/base/errors";
import { MIB } from "@osr/base/units";

import { exitOf, spawnTied } from "./commands.ts";
import { RIG_ERRORS } from "./rig-errors.ts";

/** A disk image that nothing writes to: a raw file, or a qcow2 file on top of others. */
export type DiskLayer = { readonly path: string; readonly format: "raw" | "qcow2" };

/** SHA-256 of all bytes that the layer shows, in hex. Read by QEMU's own tools, which share no code with ours. */
export async function layerSha256(layer: DiskLayer, signal?: AbortSignal): Promise<string> {
  return layer.format === "raw" ? fileSha256(layer.path, signal) : qcow2Sha256(layer.path, signal);
}

/** SHA-256 of a file, in hex. */
export async function fileSha256(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  const options = signal === undefined ? {} : { signal };
  await pipeline(createReadStream(path, { highWaterMark: MIB }), hash, options);
  return hash.digest("hex");
}

async function qcow2Sha256(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  const server = ["qemu-nbd", "--read-only", "--format=qcow2", path];
  const child = spawnTied("nbdcopy", ["--", "[", ...server, "]", "-"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const stdout = child.stdout;
  if (stdout === null) throw new OsrError(RIG_ERRORS.RIG_COMMAND_FAILED, "nbdcopy has no output");
  try {
    await pipeline(stdout, hash, signal === undefined ? {} : { signal });
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
  const code = await exitOf(child);
  if (code !== 0)
    throw new OsrError(RIG_ERRORS.RIG_COMMAND_FAILED, `nbdcopy of ${path}: exit code ${code}`);
  return hash.digest("hex");
}
