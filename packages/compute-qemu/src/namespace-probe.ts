import { connect } from "node:net";

import { messageOf } from "@osr/base/errors";
import { systemScheduler } from "@osr/base/platform/system-scheduler";

/** This file, as it runs: it is given to a Node of its own, which is started within the network. */
export const NAMESPACE_PROBE_FILE = import.meta.filename;

type ProbeTarget = {
  readonly address: string;
  readonly port: number;
  readonly timeoutMs: number;
  /** 0: it is enough that the connection is accepted. */
  readonly replyBytesMax: number;
};

/**
 * Connects, sends `request`, and resolves with the answer: all of it where the peer ends, else the first `replyBytesMax`
 * bytes, or what has come within `timeoutMs`. Rejects where nothing has.
 */
async function probeFromHere(target: ProbeTarget, request: Buffer): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const pieces: Buffer[] = [];
  let bytes = 0;
  const socket = connect(target.port, target.address);
  const finish = (): void => resolve(Buffer.concat(pieces).subarray(0, target.replyBytesMax));
  const timer = systemScheduler.after(target.timeoutMs, () => {
    if (bytes > 0) finish();
    else reject(new Error(`no answer within ${target.timeoutMs} ms`));
  });
  socket.on("connect", () => {
    if (target.replyBytesMax === 0) finish();
    else if (request.byteLength > 0) socket.write(request);
  });
  socket.on("data", (chunk: Buffer) => {
    pieces.push(chunk);
    bytes += chunk.byteLength;
    if (bytes >= target.replyBytesMax) finish();
  });
  socket.on("end", finish);
  socket.on("error", reject);
  try {
    return await promise;
  } finally {
    timer[Symbol.dispose]();
    socket.destroy();
  }
}

/** Arguments: address, port, timeoutMs, replyBytesMax. The request comes on standard input, the answer goes to standard output. */
async function main(args: readonly string[]): Promise<void> {
  const [address = "", port, timeoutMs, replyBytesMax] = args;
  const request: Buffer[] = [];
  for await (const chunk of process.stdin) request.push(Buffer.from(chunk as Uint8Array));
  const target = {
    address,
    port: Number(port),
    timeoutMs: Number(timeoutMs),
    replyBytesMax: Number(replyBytesMax),
  };
  process.stdout.write(await probeFromHere(target, Buffer.concat(request)));
}

if (import.meta.main) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n`);
    process.exitCode = 1;
  }
}
