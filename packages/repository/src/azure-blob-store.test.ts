import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { Agent, type IncomingMessage, type ServerResponse, createServer } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import {
  ContainerClient,
  ContainerSASPermissions,
  StorageSharedKeyCredential,
  generateBlobSASQueryParameters,
} from "@azure/storage-blob";

import { OsrError } from "@osr/base/errors";
import { systemScheduler as scheduler } from "@osr/base/platform/system-scheduler";
import { MIB } from "@osr/base/units";

import type { AzureCredential } from "./azure-blob-store-credential.ts";
import { AzureBlobStore } from "./azure-blob-store.ts";
import { objectStoreContract } from "./object-store.contract.ts";
import { bodyOf } from "./object-store.ts";

// Azurite's well-known account, which is no secret.
const ACCOUNT = "devstoreaccount1";
const KEY =
  "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

type BlobServer = {
  start(): Promise<void>;
  close(): Promise<void>;
  getHttpServerAddress(): string;
};

/** Azurite within this process, in memory, without its logs and its telemetry. */
async function startAzurite(directory: string): Promise<BlobServer> {
  const load = createRequire(import.meta.url);
  const { AzuriteTelemetryClient } = load("azurite/dist/src/common/Telemetry.js") as {
    AzuriteTelemetryClient: { init(location: string, isEnabled: boolean, env: object): void };
  };
  AzuriteTelemetryClient.init("", false, {});
  const { default: Configuration } = load("azurite/dist/src/blob/BlobConfiguration.js") as {
    default: new (...values: unknown[]) => object;
  };
  const { default: Server } = load("azurite/dist/src/blob/BlobServer.js") as {
    default: new (configuration: object) => BlobServer;
  };
  const configuration = Object.assign(
    new Configuration("127.0.0.1", 0, 5, join(directory, "a.json"), join(directory, "b.json"), []),
    { enableAccessLog: false, skipApiVersionCheck: true, isMemoryPersistence: true },
  );
  const server = new Server(configuration);
  await server.start();
  return server;
}

type Azurite = AsyncDisposable & {
  readonly directory: string;
  readonly endpoint: string;
  readonly agent: Agent;
  storeOf(credential: AzureCredential, container?: string): AzureBlobStore;
};

async function openAzurite(): Promise<Azurite> {
  const directory = await mkdtemp(join(tmpdir(), "osr-azurite-"));
  const server = await startAzurite(directory);
  const endpoint = `${server.getHttpServerAddress()}/${ACCOUNT}`;
  const agent = new Agent({ keepAlive: true });
  await writeFile(join(directory, "key"), `${KEY}\n`);
  const credential = new StorageSharedKeyCredential(ACCOUNT, KEY);
  await new ContainerClient(`${endpoint}/osr`, credential).create();
  return {
    directory,
    endpoint,
    agent,
    storeOf: (credential, container = "osr") =>
      new AzureBlobStore({ endpoint, container, credential, agent, scheduler }),
    [Symbol.asyncDispose]: async () => {
      agent.destroy();
      await server.close();
      await rm(directory, { recursive: true });
    },
  };
}

function sharedKey(azurite: Azurite): AzureCredential {
  return { kind: "key-file", accountName: ACCOUNT, path: join(azurite.directory, "key") };
}

function coded(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof OsrError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  };
}

/** A shared access signature for the container. */
function signature(permissions: string): string {
  return generateBlobSASQueryParameters(
    {
      containerName: "osr",
      permissions: ContainerSASPermissions.parse(permissions),
      expiresOn: new Date(Date.now() + 3_600_000),
    },
    new StorageSharedKeyCredential(ACCOUNT, KEY),
  ).toString();
}

/** Calls go through the SDK with an account's key, and past it with a signature. */
const CREDENTIALS: Readonly<Record<string, (azurite: Azurite) => AzureCredential>> = {
  "an account's key": sharedKey,
  "a signature": () => ({ kind: "sas", text: signature("crld") }),
};

for (const [name, credential] of Object.entries(CREDENTIALS))
  objectStoreContract(`Azure Blob provider on Azurite with ${name}`, async () => {
    const azurite = await openAzurite();
    return {
      store: azurite.storeOf(credential(azurite)),
      second: azurite.storeOf(credential(azurite)),
      [Symbol.asyncDispose]: () => azurite[Symbol.asyncDispose](),
    };
  });

suite("Azure Blob provider", () => {
  let azurite: Azurite;
  before(async () => {
    azurite = await openAzurite();
  });
  after(() => azurite[Symbol.asyncDispose]());

  async function sasFile(name: string, permissions: string): Promise<AzureCredential> {
    const path = join(azurite.directory, name);
    await writeFile(path, signature(permissions));
    return { kind: "sas-file", path };
  }

  test("an ingest signature (create, read, list) loses a race as OBJECT_EXISTS, and cannot delete", async () => {
    const ingest = azurite.storeOf(await sasFile("ingest", "crl"));
    await ingest.create("sas/a", bodyOf(Buffer.from("a")), { oid: "one" });
    await assert.rejects(
      ingest.create("sas/a", bodyOf(Buffer.from("b")), { oid: "two" }),
      coded("OBJECT_EXISTS"),
    );
    assert.equal((await ingest.head("sas/a")).oid, "one");
    await assert.rejects(ingest.delete("sas/a"), coded("STORE_FORBIDDEN"));
  });

  test("a signature that may not create is STORE_FORBIDDEN for a new name, and a renewed file counts at once", async () => {
    const credential = await sasFile("renewed", "rl");
    const store = azurite.storeOf(credential);
    await assert.rejects(
      store.create("sas/new", bodyOf(Buffer.from("a"))),
      coded("STORE_FORBIDDEN"),
    );
    await sasFile("renewed", "crld");
    await store.create("sas/new", bodyOf(Buffer.from("a")));
    await store.delete("sas/new");
  });

  test("a credential that cannot be read is STORE_FORBIDDEN, a container that is not there STORE_MISSING", async () => {
    const path = join(azurite.directory, "none");
    const store = azurite.storeOf({ kind: "sas-file", path });
    await assert.rejects(store.head("a"), coded("STORE_FORBIDDEN"));
    const elsewhere = azurite.storeOf(sharedKey(azurite), "elsewhere");
    await assert.rejects(elsewhere.list(""), coded("STORE_MISSING"));
    await assert.rejects(elsewhere.create("a", bodyOf(Buffer.alloc(1))), coded("STORE_MISSING"));
  });

  test("nobody there is STORE_UNAVAILABLE", async () => {
    const store = new AzureBlobStore({
      endpoint: "http://127.0.0.1:1/x",
      container: "osr",
      credential: sharedKey(azurite),
      agent: azurite.agent,
      scheduler,
    });
    await assert.rejects(store.head("a"), (error) => {
      assert.ok(coded("STORE_UNAVAILABLE")(error) && error instanceof OsrError);
      return error.retryable;
    });
  });

  for (const [name, credential] of Object.entries(CREDENTIALS))
    suite(`against a service that misbehaves, with ${name}`, () => {
      async function against(
        handler: (request: IncomingMessage, response: ServerResponse) => void,
        check: (store: AzureBlobStore) => Promise<void>,
      ): Promise<number> {
        let requests = 0;
        const server = createServer((request, response) => {
          requests += 1;
          request.on("error", () => undefined);
          handler(request, response);
        });
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        const { port } = server.address() as AddressInfo;
        const agent = new Agent({ keepAlive: true });
        try {
          await check(
            new AzureBlobStore({
              endpoint: `http://127.0.0.1:${port}/x`,
              container: "osr",
              credential: credential(azurite),
              agent,
              scheduler,
              callMs: 300,
            }),
          );
        } finally {
          agent.destroy();
          server.closeAllConnections();
          await new Promise((resolve) => server.close(resolve));
        }
        return requests;
      }

      test("429, 500 and 503 are STORE_UNAVAILABLE and 507 STORE_FULL, after one request each", async () => {
        for (const [status, code] of [
          [429, "STORE_UNAVAILABLE"],
          [500, "STORE_UNAVAILABLE"],
          [503, "STORE_UNAVAILABLE"],
          [507, "STORE_FULL"],
          [400, "STORE_REFUSED"],
        ] as const) {
          const requests = await against(
            (request, response) => {
              request.resume();
              response.writeHead(status).end();
            },
            async (store) => {
              await assert.rejects(store.create("a", bodyOf(Buffer.alloc(10))), coded(code));
              await assert.rejects(store.read("a", 0, Buffer.alloc(10)), coded(code));
              await assert.rejects(store.list("a"), coded(code));
            },
          );
          assert.equal(requests, 3);
        }
      });

      test("a service that does not answer in time is STORE_UNAVAILABLE", async () => {
        await against(
          () => undefined,
          async (store) => {
            await assert.rejects(store.head("a"), coded("STORE_UNAVAILABLE"));
            await assert.rejects(
              store.create("a", bodyOf(Buffer.alloc(10))),
              coded("STORE_UNAVAILABLE"),
            );
          },
        );
      });

      test("a body that stalls, and one that its reader no longer wants, end", async () => {
        await against(
          (_request, response) => {
            const headers = {
              "content-length": 10,
              "content-range": "bytes 5-14/100",
              etag: '"1"',
            };
            response.writeHead(206, headers);
            response.write("abcd");
          },
          async (store) => {
            const stalled = store.read("a", 5, Buffer.alloc(10));
            await assert.rejects(stalled, coded("STORE_UNAVAILABLE"));
            const stopping = new AbortController();
            const unwanted = store.read("a", 5, Buffer.alloc(10), stopping.signal);
            const reason = new Error("no longer");
            setImmediate(() => stopping.abort(reason));
            await assert.rejects(unwanted, reason);
          },
        );
      });

      test("a reply that ends early, or is of another range, is never taken for the bytes", async () => {
        for (const [headers, code] of [
          [{ "content-length": 10, "content-range": "bytes 5-14/100" }, "STORE_UNAVAILABLE"],
          [{ "content-length": 4, "content-range": "bytes 5-8/9" }, "OBJECT_RANGE"],
          [{ "content-length": 10, "content-range": "bytes 0-9/100" }, "STORE_REFUSED"],
          [{ "content-length": 10 }, "STORE_REFUSED"],
          [{ "content-length": 4, "content-range": "bytes 5-8/100" }, "STORE_REFUSED"],
        ] as const)
          await against(
            (_request, response) => {
              response.writeHead(206, { etag: '"1"', ...headers });
              response.write("abcd");
              setTimeout(() => response.destroy(), 20);
            },
            async (store) => {
              await assert.rejects(store.read("a", 5, Buffer.alloc(10)), coded(code));
            },
          );
      });

      test("an answer within the body ends the source's reader and the half-used connection", async () => {
        const { promise: ended, resolve } = Promise.withResolvers<void>();
        const { promise: cut, resolve: onCut } = Promise.withResolvers<string>();
        await against(
          (request, response) => {
            request.socket.once("close", () => onCut("cut"));
            response.writeHead(503).end();
          },
          async (store) => {
            const body = {
              sizeBytes: 64 * MIB,
              async *open() {
                try {
                  for (let part = 0; part < 64; part++) {
                    await Promise.resolve();
                    yield Buffer.alloc(MIB);
                  }
                } finally {
                  resolve();
                }
              },
            };
            await assert.rejects(store.create("a", body), coded("STORE_UNAVAILABLE"));
            await ended;
            const late = scheduler.sleep(2000).then(() => "still open");
            assert.equal(await Promise.race([cut, late]), "cut");
          },
        );
      });

      test("a list whose pages ignore startFrom or are empty is still exact", async () => {
        const page = (names: readonly string[], marker: string): string =>
          `<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="x" ContainerName="osr"><Blobs>${names
            .map(
              (name) =>
                `<Blob><Name>${name}</Name><Properties><Content-Length>1</Content-Length></Properties></Blob>`,
            )
            .join("")}</Blobs><NextMarker>${marker}</NextMarker></EnumerationResults>`;
        await against(
          (request, response) => {
            const marker = new URL(request.url ?? "", "http://x").searchParams.get("marker") ?? "";
            const pages: Record<string, string> = {
              "": page(["p/1", "p/2"], "m1"),
              m1: page([], "m2"),
              m2: page(["p/3", "p/4"], "m3"),
              m3: page(["p/5"], ""),
            };
            response.writeHead(200, { "content-type": "application/xml" }).end(pages[marker]);
          },
          async (store) => {
            const names = (list: { objects: readonly { name: string }[] }): string[] =>
              list.objects.map((object) => object.name);
            const first = await store.list("p/", { after: "p/2" });
            assert.deepEqual([names(first), first.next], [["p/3", "p/4"], "p/4"]);
            const last = await store.list("p/", { after: "p/4" });
            assert.deepEqual([names(last), last.next], [["p/5"], undefined]);
          },
        );
      });
    });
});
