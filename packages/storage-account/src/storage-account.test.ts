import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { type RequestOptions, type Agent, request as secureRequest } from "node:https";
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { connect as connectTls } from "node:tls";

import { BlobServiceClient, RestError, type StoragePipelineOptions } from "@azure/storage-blob";

import { OsrError } from "@osr/base/errors";
import { type Log, silentLog } from "@osr/base/log";
import { systemClock as clock } from "@osr/base/platform/system-clock";
import { systemRandomness as randomness } from "@osr/base/platform/system-randomness";
import { systemScheduler as scheduler } from "@osr/base/platform/system-scheduler";
import { MIB, TIB } from "@osr/base/units";
import { createAuthority, issueCertificate } from "@osr/certificates/site-authority";
import { createHttpsAgent } from "@osr/https/https-agent";
import { AzureBlobStore } from "@osr/repository/azure-blob-store";
import { bodyOf, readWhole } from "@osr/repository/object-store";
import { objectStoreContract } from "@osr/repository/object-store.contract";

import { malformedRequest, seeded } from "./blob-request.fuzz.ts";
import { TOKEN_ROLES, type TokenRole, encodeTokens, newToken } from "./access-token.ts";
import {
  STORAGE_CONTAINER,
  type StorageAccount,
  type StorageAccountOptions,
  createStorageAccount,
} from "./storage-account.ts";

type Reply = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
};

type Rig = AsyncDisposable & {
  readonly directory: string;
  readonly objects: string;
  readonly account: StorageAccount;
  readonly endpoint: string;
  readonly authorityPem: string;
  readonly agent: Agent;
  readonly tokens: Readonly<Record<TokenRole, string>>;
  readonly logged: { message: string; fields: unknown }[];
  storeOf(role: TokenRole): AzureBlobStore;
  /** A bare request, for what no client would send. */
  send(
    method: string,
    path: string,
    headers?: OutgoingHttpHeaders,
    body?: Buffer,
    role?: TokenRole,
  ): Promise<Reply>;
};

async function openRig(options: Partial<StorageAccountOptions> = {}): Promise<Rig> {
  const directory = await mkdtemp(join(tmpdir(), "osr-storage-account-"));
  const objects = join(directory, "store", "objects");
  const authority = await createAuthority({ commonName: "test", days: 1, clock });
  const tls = await issueCertificate(authority, {
    commonName: "storage-account",
    ipAddresses: ["127.0.0.1"],
    days: 1,
    clock,
    usage: "server",
  });
  const tokens = {
    ingest: newToken(randomness),
    reader: newToken(randomness),
    maintainer: newToken(randomness),
  };
  const tokensFile = join(directory, "tokens.json");
  await writeFile(
    tokensFile,
    encodeTokens(TOKEN_ROLES.map((role) => ({ role, token: tokens[role] }))),
  );
  for (const role of TOKEN_ROLES) await writeFile(join(directory, role), `${tokens[role]}\n`);
  const logged: { message: string; fields: unknown }[] = [];
  const log: Log = {
    ...silentLog,
    error: (message, fields) => logged.push({ message, fields }),
  };
  const account = await createStorageAccount({
    directory: join(directory, "store"),
    host: "127.0.0.1",
    port: 0,
    tls,
    tokensFile,
    log,
    scheduler,
    randomness,
    ...options,
  }).catch(async (error: unknown) => {
    await rm(directory, { recursive: true });
    throw error;
  });
  const agent = createHttpsAgent({
    authorityPem: authority.certificatePem,
    socketsMax: 16,
    tlsVersionMin: "TLSv1.3",
  });
  const endpoint = `https://127.0.0.1:${account.port}`;
  return {
    directory,
    objects,
    account,
    endpoint,
    authorityPem: authority.certificatePem,
    agent,
    tokens,
    logged,
    storeOf: (role) =>
      new AzureBlobStore({
        endpoint,
        container: STORAGE_CONTAINER,
        credential: { kind: "token-file", path: join(directory, role) },
        agent,
        scheduler,
      }),
    send: (method, path, headers = {}, body, role = "maintainer") =>
      exchange(
        {
          host: "127.0.0.1",
          port: account.port,
          agent,
          method,
          path,
          headers: {
            ...("authorization" in headers ? {} : { authorization: `Bearer ${tokens[role]}` }),
            ...headers,
          },
        },
        body,
      ),
    [Symbol.asyncDispose]: async () => {
      agent.destroy();
      await account.stop();
      await account.run();
      await rm(directory, { recursive: true });
    },
  };
}

function exchange(options: RequestOptions, body?: Buffer): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>();
  const outgoing = secureRequest(options, (incoming) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("error", reject);
    incoming.on("end", () =>
      resolve({
        status: incoming.statusCode ?? 0,
        headers: incoming.headers,
        body: Buffer.concat(chunks),
      }),
    );
  });
  outgoing.on("error", reject);
  outgoing.end(body);
  return promise;
}

function coded(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof OsrError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  };
}

/** Headers of a put that is as it should be. */
const PUT = { "x-ms-blob-type": "BlockBlob", "if-none-match": "*" };

objectStoreContract("Azure Blob provider on the storage account", async () => {
  const rig = await openRig();
  return {
    store: rig.storeOf("maintainer"),
    second: rig.storeOf("maintainer"),
    [Symbol.asyncDispose]: () => rig[Symbol.asyncDispose](),
  };
});

suite("storage account", () => {
  let rig: Rig;
  before(async () => {
    rig = await openRig();
  });
  after(() => rig[Symbol.asyncDispose]());

  test("ingest creates, reads, lists, never deletes; a reader only reads; the maintainer also deletes", async () => {
    const [ingest, reader, maintainer] = TOKEN_ROLES.map((role) => rig.storeOf(role));
    assert.ok(ingest !== undefined && reader !== undefined && maintainer !== undefined);
    await ingest.create("roles/a", bodyOf(Buffer.from("a")), { oid: "1" });
    await assert.rejects(
      ingest.create("roles/a", bodyOf(Buffer.from("b"))),
      coded("OBJECT_EXISTS"),
    );
    await assert.rejects(ingest.delete("roles/a"), coded("STORE_FORBIDDEN"));
    await assert.rejects(
      reader.create("roles/b", bodyOf(Buffer.from("b"))),
      coded("STORE_FORBIDDEN"),
    );
    await assert.rejects(reader.delete("roles/a"), coded("STORE_FORBIDDEN"));
    for (const store of [ingest, reader, maintainer]) {
      assert.equal(String(await readWhole(store, "roles/a")), "a");
      assert.equal((await store.list("roles/")).objects.length, 1);
    }
    await maintainer.create("roles/c", bodyOf(Buffer.from("c")));
    await maintainer.delete("roles/a");
    await maintainer.delete("roles/a");
    assert.deepEqual(
      (await reader.list("roles/")).objects.map((object) => object.name),
      ["roles/c"],
    );
  });

  test("who has no known token learns nothing", async () => {
    const none = await exchange({
      host: "127.0.0.1",
      port: rig.account.port,
      agent: rig.agent,
      path: "/osr/roles/a",
    });
    assert.equal(none.status, 401);
    assert.equal(none.headers["x-ms-error-code"], "NoAuthenticationInformation");
    const credentials = ["Bearer x", "Bearer", "Basic eDp5", `Bearer ${rig.tokens.ingest}x`, ""];
    for (const authorization of credentials)
      for (const path of ["/osr/roles/a", "/osr/none", "/other/x", "/%zz", "/osr?comp=list"]) {
        const reply = await rig.send("GET", path, { authorization });
        assert.equal(reply.status, 403, `${authorization} ${path}`);
        assert.equal(reply.headers["x-ms-error-code"], "AuthenticationFailed");
      }
  });

  test("changed tokens count at once, and a broken tokens file changes nothing", async () => {
    await using own = await openRig();
    const file = join(own.directory, "tokens.json");
    const before = await readFile(file, "utf8");
    await writeFile(file, "{ not json");
    assert.equal((await own.send("GET", "/osr?restype=container")).status, 200);
    assert.match(own.logged[0]?.message ?? "", /tokens file/);
    await writeFile(file, encodeTokens([{ role: "reader", token: own.tokens.reader }]));
    assert.equal((await own.send("GET", "/osr?restype=container")).status, 403);
    await writeFile(file, before);
    assert.equal((await own.send("GET", "/osr?restype=container")).status, 200);
  });

  test("a bad tokens file or one that is missing stops the start", async () => {
    const bad = join(rig.directory, "bad.json");
    await writeFile(bad, JSON.stringify({ tokens: [{ role: "king", sha256: "00" }] }));
    await assert.rejects(openRig({ tokensFile: bad }), coded("INPUT_INVALID"));
    await assert.rejects(openRig({ tokensFile: join(rig.directory, "none") }), /ENOENT/);
  });

  test("a put that could overwrite, is in pieces, or has another type is refused", async () => {
    const body = Buffer.from("x");
    const cases: readonly [OutgoingHttpHeaders, string, number, string][] = [
      [{ "x-ms-blob-type": "BlockBlob" }, "/osr/put/a", 400, "OverwriteNotAllowed"],
      [{ ...PUT, "if-none-match": '"1"' }, "/osr/put/a", 400, "OverwriteNotAllowed"],
      [{ "if-none-match": "*" }, "/osr/put/a", 400, "MissingRequiredHeader"],
      [{ ...PUT, "x-ms-blob-type": "PageBlob" }, "/osr/put/a", 400, "InvalidHeaderValue"],
      [PUT, "/osr/put/a?comp=block&blockid=x", 400, "UnsupportedQueryParameter"],
      [PUT, "/osr/put/a?comp=metadata", 400, "UnsupportedQueryParameter"],
      [{ ...PUT, "x-ms-meta-other": "x" }, "/osr/put/a", 400, "UnsupportedHeader"],
      [{ ...PUT, "x-ms-copy-source": "x" }, "/osr/put/a", 400, "UnsupportedHeader"],
      [{ ...PUT, "content-md5": "x" }, "/osr/put/a", 400, "UnsupportedHeader"],
      [{ ...PUT, "x-ms-meta-oid": "a b" }, "/osr/put/a", 400, "InvalidHeaderValue"],
      [{ ...PUT, "transfer-encoding": "chunked" }, "/osr/put/a", 411, "MissingContentLengthHeader"],
      [PUT, "/other/put/a", 404, "ContainerNotFound"],
      [PUT, "/osr/put/..%2f..%2fa", 400, "InvalidResourceName"],
    ];
    for (const [headers, path, status, code] of cases) {
      const reply = await rig.send("PUT", path, headers, body);
      assert.deepEqual([reply.status, reply.headers["x-ms-error-code"]], [status, code], path);
      assert.match(String(reply.body), new RegExp(`<Error><Code>${code}</Code>`));
    }
    assert.deepEqual((await rig.storeOf("reader").list("put/")).objects, []);
  });

  test("more than 256 MiB is refused before it is sent", async () => {
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
    const outgoing = secureRequest(
      {
        host: "127.0.0.1",
        port: rig.account.port,
        ca: rig.authorityPem,
        agent: false,
        method: "PUT",
        path: "/osr/large",
        headers: {
          ...PUT,
          authorization: `Bearer ${rig.tokens.ingest}`,
          "content-length": 256 * MIB + 1,
        },
      },
      (reply) => {
        resolve(reply.statusCode);
        outgoing.destroy();
      },
    );
    outgoing.on("error", reject);
    outgoing.flushHeaders();
    assert.equal(await promise, 413);
  });

  test("a client that leaves within the body leaves nothing behind", async () => {
    const { promise: left, resolve } = Promise.withResolvers<void>();
    const socket = connectTls({
      host: "127.0.0.1",
      port: rig.account.port,
      ca: rig.authorityPem,
    });
    socket.on("error", () => undefined);
    socket.on("close", () => resolve());
    socket.write(
      [
        "PUT /osr/left/half HTTP/1.1",
        "host: x",
        `authorization: Bearer ${rig.tokens.ingest}`,
        "x-ms-blob-type: BlockBlob",
        "if-none-match: *",
        `content-length: ${4 * MIB}`,
        "",
        "",
      ].join("\r\n"),
    );
    socket.write(randomBytes(2 * MIB));
    const creating = join(rig.directory, "store", "creating");
    while ((await readdir(creating)).length === 0) await scheduler.sleep(5);
    socket.destroy();
    await left;
    while ((await readdir(creating)).length > 0) await scheduler.sleep(5);
    await assert.rejects(rig.storeOf("reader").head("left/half"), coded("OBJECT_NOT_FOUND"));
    await rig.storeOf("ingest").create("left/half", bodyOf(Buffer.from("x")));
  });

  test("a full disk is STORE_FULL, told while the body is still coming", async () => {
    await using full = await openRig({ freeBytesMin: 1024 * TIB });
    await assert.rejects(
      full.storeOf("ingest").create("a", bodyOf(Buffer.alloc(8 * MIB))),
      coded("STORE_FULL"),
    );
  });

  test("a disk that fills up within a body is 507, and the client reads it", async (t) => {
    const mount = await mkdtemp(join(tmpdir(), "osr-storage-account-disk-"));
    t.after(() => rm(mount, { recursive: true }));
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", mount], { stdio: "ignore" });
    } catch {
      t.skip("mounting a small file system needs root");
      return;
    }
    try {
      await using own = await openRig({ directory: join(mount, "store"), freeBytesMin: 0 });
      const creating = join(mount, "store", "creating");
      const agent = createHttpsAgent({
        authorityPem: own.authorityPem,
        socketsMax: 1,
        tlsVersionMin: "TLSv1.3",
      });
      t.after(() => agent.destroy());
      const common = { host: "127.0.0.1", port: own.account.port, agent };
      const authorization = `Bearer ${own.tokens.maintainer}`;
      const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
      const outgoing = secureRequest(
        {
          ...common,
          method: "PUT",
          path: "/osr/a",
          headers: { ...PUT, authorization, "content-length": 3 * MIB },
        },
        (reply) => {
          reply.resume();
          resolve(reply.statusCode);
        },
      );
      outgoing.on("error", reject);
      outgoing.write(Buffer.alloc(MIB));
      while ((await readdir(creating)).length === 0) await scheduler.sleep(5);
      // Another user of the disk takes what was free when the put began.
      await writeFile(join(mount, "other"), Buffer.alloc(2.5 * MIB));
      outgoing.end(Buffer.alloc(2 * MIB));
      assert.equal(await promise, 507);
      // The connection is whole: the rest of the body was taken in.
      const path = "/osr?restype=container";
      assert.equal((await exchange({ ...common, path, headers: { authorization } })).status, 200);
      assert.deepEqual(await readdir(creating), []);
    } finally {
      execFileSync("umount", [mount]);
    }
  });

  test("objects survive a restart of the role", async () => {
    await using first = await openRig();
    await first.storeOf("ingest").create("a/b", bodyOf(Buffer.from("kept")), { oid: "o" });
    await first.account.stop();
    await using second = await openRig({ directory: join(first.directory, "store") });
    const store = second.storeOf("reader");
    assert.equal(String(await readWhole(store, "a/b")), "kept");
    assert.equal((await store.head("a/b")).oid, "o");
  });

  test("a damaged object is told from one that is missing", async () => {
    await rig.storeOf("ingest").create("damaged/x", bodyOf(Buffer.from("x".repeat(500))));
    await writeFile(join(rig.objects, "damaged/x"), "x".repeat(300));
    await assert.rejects(rig.storeOf("reader").head("damaged/x"), coded("OBJECT_DAMAGED"));
  });

  test("ranges as Azure answers them", async () => {
    await rig.storeOf("ingest").create("range/x", bodyOf(Buffer.from("0123456789")));
    const get = (headers: OutgoingHttpHeaders): Promise<Reply> =>
      rig.send("GET", "/osr/range/x", headers);
    const whole = await get({});
    assert.deepEqual([whole.status, String(whole.body)], [200, "0123456789"]);
    const part = await get({ range: "bytes=3-5" });
    assert.deepEqual(
      [part.status, String(part.body), part.headers["content-range"]],
      [206, "345", "bytes 3-5/10"],
    );
    assert.equal(String((await get({ range: "bytes=8-" })).body), "89");
    assert.equal(String((await get({ range: "bytes=8-99" })).body), "89");
    const both = await get({ range: "bytes=0-0", "x-ms-range": "bytes=1-1" });
    assert.equal(String(both.body), "1");
    assert.equal((await get({ range: "bytes=10-11" })).status, 416);
    assert.equal((await get({ range: "bytes=5-3" })).status, 416);
    for (const range of ["bytes=-3", "bytes=1-2,4-5", "lines=1-2", "bytes=a-b"])
      assert.equal((await get({ range })).headers["x-ms-error-code"], "InvalidHeaderValue", range);
    const { etag } = whole.headers;
    assert.equal((await get({ "if-match": etag })).status, 200);
    assert.equal((await get({ "if-match": '"other"' })).status, 412);
  });

  suite("Azure's own client", () => {
    const serviceOf = (): BlobServiceClient =>
      new BlobServiceClient(
        rig.endpoint,
        {
          getToken: () =>
            Promise.resolve({
              token: rig.tokens.maintainer,
              expiresOnTimestamp: clock.unixMs() + 3_600_000,
            }),
        },
        { agent: rig.agent, retryOptions: { maxTries: 1 } } as StoragePipelineOptions,
      );

    function refusedWith(status: number, code: string): (error: unknown) => boolean {
      return (error) => {
        assert.ok(error instanceof RestError, String(error));
        assert.deepEqual([error.statusCode, error.code], [status, code]);
        return true;
      };
    }

    test("puts, gets, heads, lists by page and deletes", async () => {
      const container = serviceOf().getContainerClient(STORAGE_CONTAINER);
      assert.equal((await container.createIfNotExists()).succeeded, false);
      assert.equal(await container.exists(), true);
      const bytes = randomBytes(3 * MIB);
      const blob = container.getBlockBlobClient("js/a/b.seg");
      const put = await blob.upload(bytes, bytes.length, {
        conditions: { ifNoneMatch: "*" },
        metadata: { oid: "abc" },
      });
      assert.ok(put.etag !== undefined && put.lastModified !== undefined);
      await assert.rejects(
        blob.upload("x", 1, { conditions: { ifNoneMatch: "*" } }),
        refusedWith(409, "BlobAlreadyExists"),
      );
      await assert.rejects(blob.upload("x", 1), refusedWith(400, "OverwriteNotAllowed"));
      assert.equal(await blob.exists(), true);
      const properties = await blob.getProperties();
      assert.equal(properties.contentLength, bytes.length);
      assert.equal(properties.blobType, "BlockBlob");
      assert.equal(properties.etag, put.etag);
      assert.deepEqual(properties.metadata, { oid: "abc" });
      assert.ok((await blob.downloadToBuffer()).equals(bytes));
      assert.ok(
        (await blob.downloadToBuffer(1_000_001, 77)).equals(bytes.subarray(1_000_001, 1_000_078)),
      );

      for (let index = 0; index < 7; index++)
        await container
          .getBlockBlobClient(`js/list/${index}`)
          .upload("x", 1, { conditions: { ifNoneMatch: "*" } });
      const pages: string[][] = [];
      for await (const page of container
        .listBlobsFlat({ prefix: "js/list/" })
        .byPage({ maxPageSize: 3 }))
        pages.push(page.segment.blobItems.map((item) => item.name.slice(-1)));
      assert.deepEqual(pages, [["0", "1", "2"], ["3", "4", "5"], ["6"]]);
      const from: string[] = [];
      for await (const item of container.listBlobsFlat({ prefix: "js/", startFrom: "js/list/4" }))
        from.push(`${item.name} ${item.properties.contentLength} ${item.properties.etag !== ""}`);
      assert.deepEqual(from, ["js/list/4 1 true", "js/list/5 1 true", "js/list/6 1 true"]);

      await blob.delete();
      await assert.rejects(blob.delete(), refusedWith(404, "BlobNotFound"));
      assert.equal(await blob.exists(), false);
      await assert.rejects(blob.download(), refusedWith(404, "BlobNotFound"));
    });

    test("is told what this account does not do", async () => {
      const container = serviceOf().getContainerClient(STORAGE_CONTAINER);
      const blob = container.getBlockBlobClient("js/blocks");
      await assert.rejects(
        blob.stageBlock("YQ==", "x", 1),
        refusedWith(400, "UnsupportedQueryParameter"),
      );
      await assert.rejects(
        container.listBlobsByHierarchy("/").next(),
        refusedWith(400, "UnsupportedQueryParameter"),
      );
      await assert.rejects(
        container.listBlobsFlat({ includeMetadata: true }).next(),
        refusedWith(400, "UnsupportedQueryParameter"),
      );
      const other = serviceOf().getContainerClient("other");
      await assert.rejects(other.listBlobsFlat().next(), refusedWith(404, "ContainerNotFound"));
      assert.equal(await other.exists(), false);
    });
  });

  test("no request, however malformed, is answered with 500 or with a path of this machine", async () => {
    for (const name of ["fuzz/x", "kept/x"])
      await rig.storeOf("ingest").create(name, bodyOf(Buffer.from("0123456789")));
    const before = rig.logged.length;
    const random = seeded(20_261);
    const statuses = new Set<number>();
    for (let round = 0; round < 600; round++) {
      const { method, path, headers, body } = malformedRequest(random);
      let reply: Reply;
      try {
        reply = await rig.send(method, path, headers, body, random.of(TOKEN_ROLES));
      } catch (error) {
        // Node's own client refuses some of it, and the server may hang up on what is not HTTP.
        assert.ok(error instanceof Error && "code" in error, String(error));
        continue;
      }
      statuses.add(reply.status);
      const about = `${method} ${JSON.stringify(path)} ${JSON.stringify(headers)}: ${reply.status}`;
      assert.ok(reply.status < 500, about);
      const answer = `${JSON.stringify(reply.headers)}${reply.body.toString()}`;
      assert.ok(!answer.includes(rig.directory) && !answer.includes("ENO"), about);
      assert.ok(!/root:|\/etc|node_modules|at .*\.ts/.test(answer), about);
    }
    assert.ok(statuses.size >= 8, `only ${[...statuses].join(" ")}`);
    assert.deepEqual(rig.logged.slice(before), []);
    assert.equal(String(await readWhole(rig.storeOf("reader"), "kept/x")), "0123456789");
  });
});

test("a directory is served by one storage account at a time", async () => {
  await using first = await openRig();
  const directory = join(first.directory, "store");
  await assert.rejects(openRig({ directory }), { code: "STORAGE_FOLDER_IN_USE" });
  await first.account.stop();
  await using second = await openRig({ directory });
  assert.notEqual(second.account.port, first.account.port);
});
