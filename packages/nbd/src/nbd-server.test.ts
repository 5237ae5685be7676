import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { type Socket, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, suite, test } from "node:test";
import { connect as connectTls } from "node:tls";

import * as fc from "fast-check";

import type { BlockSource } from "@osr/base/block-source";
import type { Log } from "@osr/base/log";
import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { KIB, MIB } from "@osr/base/units";
import { type Identity, createAuthority, issueCertificate } from "@osr/certificates/site-authority";

import { cachedSource } from "./cached-source.ts";
import { GranuleCache } from "./granule-cache.ts";
import { ModelSource, modelBytes } from "./model-source.contract.ts";
import { RawNbdClient, goData, metaContextData } from "./nbd-client.contract.ts";
import type { NbdLimits } from "./nbd-limits.ts";
import { COMMANDS, OPTIONS, OPTION_REPLIES, WIRE_ERRORS } from "./nbd-protocol.ts";
import { type NbdServer, startNbdServer } from "./nbd-server.ts";

type Site = { readonly directory: string; readonly socketPath: string };

async function siteOf(t: TestContext): Promise<Site> {
  const directory = await mkdtemp(join(tmpdir(), "osr-nbd-"));
  t.after(async () => {
    await rm(directory, { recursive: true });
  });
  return { directory, socketPath: join(directory, "nbd.sock") };
}

async function serve(
  t: TestContext,
  exports: ReadonlyMap<string, BlockSource>,
  options: { limits?: Partial<NbdLimits>; log?: Log } = {},
): Promise<{ server: NbdServer; socketPath: string; open: () => Promise<RawNbdClient> }> {
  const { socketPath } = await siteOf(t);
  const server = await startNbdServer({
    listen: { unixSocketPath: socketPath },
    exports,
    log: options.log ?? silentLog,
    scheduler: systemScheduler,
    ...(options.limits === undefined ? {} : { limits: options.limits }),
  });
  t.after(async () => {
    await server.close();
  });
  const open = async (): Promise<RawNbdClient> => {
    const socket = connect(socketPath);
    t.after(() => socket.destroy());
    const client = new RawNbdClient(socket);
    await once(socket, "connect");
    return client;
  };
  return { server, socketPath, open };
}

/** Negotiates; after that the client may send requests. */
async function go(client: RawNbdClient, name: string, structured = true): Promise<void> {
  await client.greet();
  if (structured) {
    await client.option(OPTIONS.STRUCTURED_REPLY);
    await client.option(OPTIONS.SET_META_CONTEXT, metaContextData(name, ["base:allocation"]));
  }
  const replies = await client.option(OPTIONS.GO, goData(name));
  assert.equal(replies.at(-1)?.type, OPTION_REPLIES.ACK);
}

/** Reads with whatever chunks the server chooses. */
async function read(client: RawNbdClient, offset: number, bytes: number): Promise<Buffer> {
  client.sendRequest({ command: COMMANDS.READ, offset: BigInt(offset), bytes });
  const target = Buffer.alloc(bytes, 0xaa);
  for (;;) {
    const chunk = await client.readChunk();
    if (chunk.type === 1)
      chunk.data.copy(target, Number(chunk.data.readBigUInt64BE(0)) - offset, 8);
    else if (chunk.type === 2) {
      const start = Number(chunk.data.readBigUInt64BE(0)) - offset;
      target.fill(0, start, start + chunk.data.readUInt32BE(8));
    } else assert.equal(chunk.type, 0, "no error");
    if (chunk.done) return target;
  }
}

void suite("nbd server", () => {
  test("the socket is for its owner only; a stale one is replaced, a live one is not", async (t) => {
    const model = new ModelSource(Buffer.alloc(MIB));
    const { server, socketPath } = await serve(t, new Map([["vda", model]]));
    assert.equal((await stat(socketPath)).mode & 0o777, 0o600);
    const again = {
      listen: { unixSocketPath: socketPath },
      exports: new Map(),
      log: silentLog,
      scheduler: systemScheduler,
    };
    await assert.rejects(startNbdServer(again), { code: "NBD_ADDRESS_IN_USE" });
    await server.close();
    await writeFile(socketPath, "not a socket");
    await assert.rejects(startNbdServer(again), { code: "NBD_ADDRESS_IN_USE" });
    assert.equal(await readFile(socketPath, "utf8"), "not a socket");
  });

  test("property: concurrent random reads of several clients give the bytes of the source", async (t) => {
    const bytes = modelBytes(24 * MIB + 777, 3);
    const source = cachedSource(new ModelSource(bytes), {
      cache: new GranuleCache({ cacheBytes: 16 * MIB }),
    });
    const { open } = await serve(t, new Map([["vda", source]]));
    const clients = await Promise.all([open(), open(), open()]);
    for (const client of clients) await go(client, "vda");
    const ranges = fc.array(
      fc.record({
        offset: fc.integer({ min: 0, max: bytes.length - 1 }),
        length: fc.oneof(fc.integer({ min: 0, max: 9000 }), fc.integer({ min: 0, max: 3 * MIB })),
      }),
      { minLength: 1, maxLength: 12 },
    );
    await fc.assert(
      fc.asyncProperty(fc.tuple(ranges, ranges, ranges), async (lists) => {
        await Promise.all(
          lists.map(async (list, index) => {
            for (const { offset, length } of list) {
              const end = Math.min(offset + length, bytes.length);
              const got = await read(clients[index] as RawNbdClient, offset, end - offset);
              assert.ok(got.equals(bytes.subarray(offset, end)), `${offset} to ${end}`);
            }
          }),
        );
      }),
      { numRuns: 30, seed: 20_260_105 },
    );
  });

  test("zeros travel as holes, and block status tells them", async (t) => {
    const bytes = Buffer.alloc(4 * MIB);
    bytes.fill(7, MIB, MIB + 64 * KIB);
    const { open } = await serve(t, new Map([["vda", new ModelSource(bytes)]]));
    const client = await open();
    await go(client, "vda");
    client.sendRequest({ command: COMMANDS.READ, offset: 0n, bytes: 4 * MIB });
    const chunks = [await client.readChunk(), await client.readChunk(), await client.readChunk()];
    assert.deepEqual(
      chunks.map((chunk) => [chunk.type, chunk.data.length, chunk.done]),
      [
        [2, 12, false],
        [1, 8 + 64 * KIB, false],
        [2, 12, true],
      ],
    );
    client.sendRequest({ command: COMMANDS.BLOCK_STATUS, offset: 0n, bytes: 4 * MIB });
    const status = await client.readChunk();
    assert.equal(status.type, 5);
    const words = Array.from({ length: status.data.length / 4 }, (_, i) =>
      status.data.readUInt32BE(4 * i),
    );
    assert.deepEqual(words, [1, MIB, 3, 64 * KIB, 0, 3 * MIB - 64 * KIB, 3]);
    client.sendRequest({ command: COMMANDS.BLOCK_STATUS, offset: 4096n, bytes: 2 * MIB, flags: 8 });
    const one = await client.readChunk();
    assert.deepEqual([one.data.length, one.data.readUInt32BE(4)], [12, MIB - 4096]);
  });

  test("what is no read is refused with the right error, and the connection stays usable", async (t) => {
    const bytes = modelBytes(MIB);
    const { open } = await serve(t, new Map([["vda", new ModelSource(bytes)]]));
    const client = await open();
    await go(client, "vda");
    client.sendRequest({ command: COMMANDS.WRITE, bytes: 100_000, cookie: 5n });
    client.stream.write(Buffer.alloc(100_000, 0x25));
    assert.deepEqual(await client.readSimple(), { error: WIRE_ERRORS.EPERM, cookie: 5n });
    for (const [command, error] of [
      [COMMANDS.TRIM, WIRE_ERRORS.EPERM],
      [COMMANDS.WRITE_ZEROES, WIRE_ERRORS.EPERM],
      [COMMANDS.FLUSH, 0],
      [COMMANDS.CACHE, WIRE_ERRORS.EINVAL],
      [999, WIRE_ERRORS.EINVAL],
    ] as const) {
      client.sendRequest({ command, bytes: 4096, cookie: 2n ** 64n - 2n });
      assert.deepEqual(await client.readSimple(), { error, cookie: 2n ** 64n - 2n });
    }
    for (const [offset, length] of [
      [BigInt(MIB), 1],
      [0n, MIB + 1],
      [2n ** 64n - 1n, 1],
      [0n, 0xffff_ffff],
    ] as const)
      for (const command of [COMMANDS.READ, COMMANDS.BLOCK_STATUS]) {
        client.sendRequest({ command, offset, bytes: length });
        const chunk = await client.readChunk();
        assert.deepEqual([chunk.type, chunk.data.readUInt32BE(0)], [0x8001, WIRE_ERRORS.EINVAL]);
      }
    assert.ok((await read(client, 5, 70_000)).equals(bytes.subarray(5, 70_005)));
  });

  test("a client without structured replies reads too, long reads in one reply", async (t) => {
    const bytes = modelBytes(6 * MIB);
    const { open } = await serve(t, new Map([["vda", new ModelSource(bytes)]]));
    const client = await open();
    await go(client, "vda", false);
    client.sendRequest({ command: COMMANDS.READ, offset: 3n, bytes: 5 * MIB, cookie: 1n });
    client.sendRequest({ command: COMMANDS.READ, offset: 9n, bytes: 4096, cookie: 2n });
    for (let i = 0; i < 2; i++) {
      const { error, cookie } = await client.readSimple();
      assert.equal(error, 0);
      const [offset, length] = cookie === 1n ? [3, 5 * MIB] : [9, 4096];
      assert.ok((await client.read(length)).equals(bytes.subarray(offset, offset + length)));
    }
  });

  test("a read that fails is EIO and in the log, never zeros", async (t) => {
    const model = new ModelSource(modelBytes(4 * MIB));
    model.beforeRead = async (offset) => {
      if (offset >= 2 * MIB) throw new Error("planted");
    };
    const errors: unknown[] = [];
    const log: Log = {
      ...silentLog,
      error: (_message, fields) => errors.push(fields),
      child: () => log,
    };
    const { open } = await serve(t, new Map([["vda", model]]), { log });
    const client = await open();
    await go(client, "vda");
    client.sendRequest({ command: COMMANDS.READ, offset: BigInt(3 * MIB), bytes: 4096 });
    const chunk = await client.readChunk();
    assert.deepEqual(
      [chunk.type, chunk.data.readUInt32BE(0), chunk.done],
      [0x8001, WIRE_ERRORS.EIO, true],
    );
    assert.equal(errors.length, 1);
    // Half of it can be read: the client gets that half, and the error.
    const bytes = model.bytes.fill(1);
    client.sendRequest({ command: COMMANDS.READ, offset: BigInt(MIB), bytes: 2 * MIB });
    const [data, failed] = [await client.readChunk(), await client.readChunk()];
    assert.deepEqual([data.type, data.data.length], [1, 8 + MIB]);
    assert.deepEqual([failed.type, failed.done], [0x8001, true]);

    const simple = await open();
    await go(simple, "vda", false);
    simple.sendRequest({ command: COMMANDS.READ, offset: BigInt(2 * MIB), bytes: 4096 });
    assert.equal((await simple.readSimple()).error, WIRE_ERRORS.EIO);
    simple.sendRequest({ command: COMMANDS.READ, offset: BigInt(MIB), bytes: 2 * MIB });
    assert.equal((await simple.readSimple()).error, 0);
    assert.ok((await simple.read(MIB)).equals(bytes.subarray(MIB, 2 * MIB)));
    await simple.closed();
  });

  test("a client that never finishes the handshake is dropped", async (t) => {
    const { open } = await serve(t, new Map(), { limits: { handshakeTimeoutMs: 30 } });
    const [silent, slow] = [await open(), await open()];
    await slow.greet();
    await silent.closed();
    await slow.closed();
  });

  test("a client that does not take its answers is bounded, and dropped in the end", async (t) => {
    const model = new ModelSource(Buffer.alloc(64 * MIB, 1));
    const stalled = Promise.withResolvers<undefined>();
    const log: Log = { ...silentLog, warn: () => stalled.resolve(undefined), child: () => log };
    const limits = { stallTimeoutMs: 300 };
    const { open } = await serve(t, new Map([["vda", model]]), { limits, log });
    const client = await open();
    await go(client, "vda");
    client.detach();
    for (let i = 0; i < 64; i++)
      client.sendRequest({ command: COMMANDS.READ, offset: BigInt(i * MIB), bytes: MIB });
    // Another client is served meanwhile.
    const other = await open();
    await go(other, "vda");
    assert.ok((await read(other, 0, MIB)).equals(model.bytes.subarray(0, MIB)));
    await stalled.promise;
    assert.ok(
      model.reads.length <= 8,
      `${model.reads.length} reads for a client that takes nothing`,
    );
    // What was sent before is still in its socket; the end of it follows.
    await client.closed();
  });

  test("more connections than allowed are turned away, and many are served", async (t) => {
    const bytes = modelBytes(MIB);
    const { open } = await serve(t, new Map([["vda", new ModelSource(bytes)]]), {
      limits: { connectionsMax: 20 },
    });
    const clients = await Promise.all(Array.from({ length: 20 }, open));
    for (const client of clients) await go(client, "vda");
    const extra = await open();
    await extra.closed();
    await Promise.all(
      clients.map(async (client, i) => {
        for (let at = i; at < 1_000_000; at += 99_991)
          assert.ok((await read(client, at, 5000)).equals(bytes.subarray(at, at + 5000)));
      }),
    );
  });

  test("close cancels what is under way and leaves no socket", async (t) => {
    const model = new ModelSource(Buffer.alloc(MIB));
    model.beforeRead = async (_offset, _bytes, signal) => {
      await new Promise((resolve) => signal?.addEventListener("abort", resolve));
      throw new Error("cancelled");
    };
    const { server, socketPath, open } = await serve(t, new Map([["vda", model]]));
    const client = await open();
    await go(client, "vda");
    client.sendRequest({ command: COMMANDS.READ, bytes: 4096 });
    while (model.readsUnderWay === 0) await new Promise(setImmediate);
    await Promise.all([server.close(), server.close()]);
    assert.equal(model.readsUnderWay, 0);
    await model[Symbol.asyncDispose]();
    await client.closed();
    await assert.rejects(stat(socketPath), { code: "ENOENT" });
  });

  test("fuzz: garbage in the negotiation and in the transmission neither stops nor blocks the server", async (t) => {
    const bytes = modelBytes(MIB);
    const limits = { handshakeTimeoutMs: 200, connectionsMax: 500 };
    const { open } = await serve(t, new Map([["vda", new ModelSource(bytes)]]), { limits });
    const header = fc
      .tuple(fc.integer({ min: 0, max: 9 }), fc.uint8Array({ minLength: 22, maxLength: 22 }))
      .map(([command, rest]) => {
        const request = Buffer.alloc(28);
        request.writeUInt32BE(0x25609513);
        request.writeUInt16BE(command, 6);
        Buffer.from(rest.subarray(0, 20)).copy(request, 8);
        return request;
      });
    const garbage = fc.oneof(
      fc.uint8Array({ maxLength: 3000 }),
      fc.array(header).map((list) => Buffer.concat(list)),
    );
    await fc.assert(
      fc.asyncProperty(
        garbage,
        fc.constantFrom("greeting", "options", "requests"),
        async (noise, phase) => {
          const client = await open();
          if (phase === "options") await client.greet();
          if (phase === "requests") await go(client, "vda");
          client.stream.end(noise);
          await client.closed();
        },
      ),
      { numRuns: 150, seed: 20_260_106 },
    );
    const client = await open();
    await go(client, "vda");
    assert.ok((await read(client, 0, MIB)).equals(bytes));
  });
});

void suite("nbd server with TLS", () => {
  test("only a client that is allowed gets anything, and only after TLS", async (t) => {
    const bytes = modelBytes(MIB);
    const days = { days: 1, clock: systemClock };
    const authority = await createAuthority({ commonName: "site", ...days });
    const stranger = await createAuthority({ commonName: "stranger", ...days });
    const issue = (from: Identity, uri: string): Promise<Identity> =>
      issueCertificate(from, {
        commonName: "x",
        uri,
        ipAddresses: ["127.0.0.1"],
        usage: "both",
        ...days,
      });
    const identity = await issue(authority, "osr://server");
    const server = await startNbdServer({
      listen: {
        host: "127.0.0.1",
        port: 0,
        tls: {
          ...identity,
          clientAuthorityPem: authority.certificatePem,
          allows: (name) => name === "URI:osr://reader, IP Address:127.0.0.1",
        },
      },
      exports: new Map([["vda", new ModelSource(bytes)]]),
      log: silentLog,
      scheduler: systemScheduler,
    });
    t.after(async () => {
      await server.close();
    });
    const begin = async (): Promise<{ socket: Socket; client: RawNbdClient }> => {
      const socket = connect({ host: "127.0.0.1", port: server.port as number });
      t.after(() => socket.destroy());
      const client = new RawNbdClient(socket);
      await client.greet();
      return { socket, client };
    };
    const secure = async (identityOfClient?: Identity): Promise<RawNbdClient> => {
      const { socket, client } = await begin();
      await client.option(OPTIONS.STARTTLS);
      client.detach();
      const mine =
        identityOfClient === undefined
          ? {}
          : { cert: identityOfClient.certificatePem, key: identityOfClient.privateKeyPem };
      const secured = connectTls({
        socket,
        host: "127.0.0.1",
        ca: authority.certificatePem,
        ...mine,
      });
      const overTls = new RawNbdClient(secured);
      await once(secured, "secureConnect");
      return overTls;
    };

    const { client: plain } = await begin();
    assert.equal(
      (await plain.option(OPTIONS.GO, goData("vda")))[0]?.type,
      OPTION_REPLIES.TLS_REQUIRED,
    );

    const allowed = await secure(await issue(authority, "osr://reader"));
    await allowed.option(OPTIONS.STRUCTURED_REPLY);
    await allowed.option(OPTIONS.GO, goData("vda"));
    assert.ok((await read(allowed, 0, MIB)).equals(bytes));

    for (const refused of [
      undefined,
      await issue(stranger, "osr://reader"),
      await issue(authority, "osr://mobility-service"),
    ]) {
      const client = await secure(refused);
      client.sendOption(OPTIONS.LIST);
      await assert.rejects(client.read(1), { code: "NBD_CLIENT_GONE" });
    }

    // What an attacker puts behind STARTTLS must not be taken for the client's own words.
    const { client: injected } = await begin();
    const startTls = Buffer.alloc(16);
    startTls.write("IHAVEOPT");
    startTls.writeUInt32BE(OPTIONS.STARTTLS, 8);
    const structured = Buffer.from(startTls);
    structured.writeUInt32BE(OPTIONS.STRUCTURED_REPLY, 8);
    injected.stream.write(Buffer.concat([startTls, structured]));
    await assert.rejects(injected.read(1), { code: "NBD_CLIENT_GONE" });
  });
});
