import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

import * as fc from "fast-check";

import { silentLog } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { mutated, mutations } from "@osr/base/testing/mutated-bytes";

import { ModelSource } from "./model-source.contract.ts";
import { goData } from "./nbd-client.contract.ts";
import { serveConnection } from "./nbd-connection.ts";
import { DEFAULT_NBD_LIMITS } from "./nbd-limits.ts";
import { COMMANDS, OPTIONS } from "./nbd-protocol.ts";
import { ReplyBuffers } from "./reply-buffers.ts";

const DISK_BYTES = 70_000;
const bytes = Buffer.alloc(DISK_BYTES, "what is on the disk ");
const GREETING_BYTES = 18;
const SIMPLE_BYTES = 16;
const CHUNK_HEADER_BYTES = 20;
const SIMPLE_REPLY = 0x67446698;
const STRUCTURED_REPLY = 0x668e33ef;

/** Time that never passes: a client that says nothing more has ended its stream. */
const still: Scheduler = {
  sleep: () => new Promise(() => undefined),
  after: () => ({ [Symbol.dispose]: () => undefined }),
};

function optionOf(option: number, data: Buffer): Buffer {
  const header = Buffer.alloc(16);
  header.write("IHAVEOPT");
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(data.length, 12);
  return Buffer.concat([header, data]);
}

const requests = fc
  .record({
    flags: fc.constantFrom(0, 4, 8, 1, 0xffff),
    command: fc.oneof(fc.constantFrom(...Object.values(COMMANDS)), fc.nat(65_535)),
    cookie: fc.nat(2 ** 32 - 1),
    offset: fc.oneof(fc.nat(DISK_BYTES + 10), fc.maxSafeNat()),
    count: fc.oneof(fc.nat(9000), fc.constant(DISK_BYTES), fc.nat(2 ** 32 - 1)),
  })
  .map(({ flags, command, cookie, offset, count }) => {
    const request = Buffer.alloc(28);
    request.writeUInt32BE(0x25609513, 0);
    request.writeUInt16BE(flags, 4);
    request.writeUInt16BE(command, 6);
    request.writeUInt32BE(cookie, 12);
    request.writeBigUInt64BE(BigInt(offset), 16);
    request.writeUInt32BE(count, 24);
    return request;
  });

/** A client that says `said` and hangs up; resolves with all that it was told. */
async function converse(said: readonly Buffer[]): Promise<Buffer> {
  const told: Buffer[] = [];
  const pieces = [...said];
  const socket = new Duplex({
    read() {
      this.push(pieces.shift() ?? null);
    },
    write(chunk: Buffer, _encoding, done) {
      told.push(Buffer.from(chunk));
      done();
    },
  });
  const source = new ModelSource(bytes);
  const limits = DEFAULT_NBD_LIMITS;
  await serveConnection(socket as Socket, {
    exports: new Map([["vda", source]]),
    tls: undefined,
    buffers: new ReplyBuffers(limits.replyBytesMax),
    limits,
    scheduler: still,
    log: { ...silentLog, child: () => silentLog },
  });
  assert.equal(source.readsUnderWay, 0);
  return Buffer.concat(told);
}

/**
 * Whole replies; data is what the disk holds. The last one may be cut off with the connection. Without structured replies
 * the length of a reply is only known to who asked, so just the first one is looked at.
 */
function checkTransmission(told: Buffer, isStructured: boolean): void {
  for (let at = 0; at + SIMPLE_BYTES <= told.length;) {
    const isSimple = told.readUInt32BE(at) === SIMPLE_REPLY;
    if (!isSimple) assert.equal(told.readUInt32BE(at), STRUCTURED_REPLY);
    if (!isStructured) return assert.ok(isSimple);
    if (isSimple) {
      at += SIMPLE_BYTES;
      continue;
    }
    if (at + CHUNK_HEADER_BYTES > told.length) return;
    const end = at + CHUNK_HEADER_BYTES + told.readUInt32BE(at + 16);
    const data = told.subarray(at + CHUNK_HEADER_BYTES, end);
    if (told.readUInt16BE(at + 6) === 1 && data.length >= 8) {
      const offset = Number(data.readBigUInt64BE(0));
      const content = data.subarray(8);
      assert.ok(content.equals(bytes.subarray(offset, offset + content.length)), "other data");
    }
    at = end;
  }
}

export const nbdTransmissionFuzz = fuzzTarget(
  "nbd-transmission",
  "any requests after GO, some of them changed on their way: whole replies, and never other data than the disk's",
  fc.asyncProperty(
    fc.array(requests, { maxLength: 12 }),
    fc.oneof(fc.constant([]), mutations),
    fc.boolean(),
    async (list, changes, isStructured) => {
      const go = optionOf(OPTIONS.GO, goData("vda"));
      const begin = isStructured ? [optionOf(OPTIONS.STRUCTURED_REPLY, Buffer.alloc(0)), go] : [go];
      const rest = mutated(Buffer.concat(list), changes);
      const told = await converse([Buffer.from([0, 0, 0, 3]), ...begin, rest]);
      let at = GREETING_BYTES;
      for (let acks = 0; acks < begin.length; at += 20 + told.readUInt32BE(at + 16))
        if (told.readUInt32BE(at + 12) === 1) acks += 1;
      checkTransmission(told.subarray(at), isStructured);
    },
  ),
);

export const nbdConnectionFuzz = fuzzTarget(
  "nbd-connection",
  "a whole connection of any bytes: it ends, and tells no export's data",
  fc.asyncProperty(mutations, fc.uint8Array({ maxLength: 200 }), async (changes, noise) => {
    const polite = Buffer.concat([
      Buffer.from([0, 0, 0, 3]),
      optionOf(OPTIONS.LIST, Buffer.alloc(0)),
      optionOf(OPTIONS.INFO, goData("vda", [0, 1, 3])),
      Buffer.from(noise),
    ]);
    const told = await converse([mutated(polite, changes)]);
    assert.ok(told.length >= GREETING_BYTES);
    assert.ok(!told.includes("what is on the disk"));
  }),
);
