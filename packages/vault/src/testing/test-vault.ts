import type { IncomingHttpHeaders } from "node:http";
import { request as httpsRequest } from "node:https";

import type { StorageGrant } from "@osr/contracts/site-protocol";
import { type Identity, createAuthority, issueCertificate } from "@osr/certificates/site-authority";
import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import type { ObjectStore } from "@osr/repository/object-store";
import { temporaryStore } from "@osr/repository/testing/temporary-store";

import { type RoleName, assignRole } from "../access/roles.ts";
import { issueToken } from "../access/token.ts";
import { type OpenDatabase, openDatabase } from "../database/open-database.ts";
import { FakeReplicaHost } from "./fake-replica-host.ts";
import { Vault, type VaultOptions } from "../vault.ts";
import type { VaultPorts } from "../vault-context.ts";

export const SUBSCRIPTION = "00000000-0000-4000-8000-0000000000aa";
export const GROUP = "rg";
export const VAULT_PATH = `/subscriptions/${SUBSCRIPTION}/resourceGroups/${GROUP}/providers/Microsoft.RecoveryServices/vaults/vault`;

export const VERSION = "api-version=2023-06-01";

export const TEST_VAULT_KEY = Buffer.alloc(32, 7);

export type TestReply = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Parsed where it is JSON. */
  readonly body: any;
};

/** A vault in this process, on a database of its own, behind HTTPS with its own authority. */
export type TestVault = AsyncDisposable & {
  readonly url: string;
  readonly authorityPem: string;
  /** Of an owner. */
  readonly token: string;
  readonly open: OpenDatabase;
  newToken(role: RoleName, options?: { scope?: string; hours?: number }): Promise<string>;
  /** A request of the owner, or of whom `token` says. */
  request(
    method: string,
    path: string,
    options?: { body?: unknown; token?: string | undefined; raw?: Buffer },
  ): Promise<TestReply>;
};

export async function startTestVault(
  databaseUrl: string,
  options: Partial<VaultOptions> & { readonly ports?: Partial<VaultPorts> } = {},
): Promise<TestVault> {
  await using stack = new AsyncDisposableStack();
  const { store } = stack.use(await temporaryStore());
  const { authority, server } = await testIdentities(options.ports?.authority);
  const ports = { ...testPorts(store, authority), ...options.ports };
  const common = {
    databaseUrl,
    host: "127.0.0.1",
    port: 0,
    identity: () => Promise.resolve(server),
    retryAfterSeconds: 0,
  };
  const vault = new Vault({ ...common, ...options }, ports);
  const running = vault.run();
  stack.defer(async () => {
    await vault.stop();
    await running;
  });
  const { port } = await vault.listening;
  const open = stack.use(openDatabase(databaseUrl, silentLog));
  const newToken: TestVault["newToken"] = (role, { scope = "/", hours = 1 } = {}) =>
    open.database.transaction().execute(async (tx) => {
      const issued = await issueToken(tx, { name: role, hours, ...ports });
      await assignRole(tx, { tokenId: issued.id, role, scope }, ports);
      return issued.token;
    });
  const token = await newToken("Owner");
  const url = `https://127.0.0.1:${port}`;
  const moved = stack.move();
  return {
    url,
    authorityPem: authority.certificatePem,
    token,
    open,
    newToken,
    request: (method, path, sent = {}) =>
      request({ url: url + path, ca: authority.certificatePem, method, token, ...sent }),
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

function testPorts(store: ObjectStore, authority: Identity): VaultPorts {
  return {
    clock: systemClock,
    randomness: systemRandomness,
    scheduler: systemScheduler,
    log: silentLog,
    store,
    replicas: new FakeReplicaHost(),
    vaultKey: TEST_VAULT_KEY,
    authority,
    storageAccess: {
      ingest: () => Promise.resolve(grant("ingest")),
      reader: () => Promise.resolve(grant("reader")),
    },
  };
}

async function testIdentities(
  given: Identity | undefined,
): Promise<{ authority: Identity; server: Identity }> {
  const common = { days: 1, clock: systemClock };
  const authority = given ?? (await createAuthority({ commonName: "vault authority", ...common }));
  const server = await issueCertificate(authority, {
    commonName: "vault",
    dnsNames: ["localhost"],
    ipAddresses: ["127.0.0.1"],
    usage: "server",
    ...common,
  });
  return { authority, server };
}

function grant(token: string): StorageGrant {
  const expiresUnixMs = systemClock.unixMs() + 72 * 3600_000;
  return { endpoint: "https://127.0.0.1:1", container: "osr", token, expiresUnixMs };
}

/** One HTTPS request; the body is parsed where it is JSON. */
export async function request(options: {
  readonly url: string;
  readonly ca: string;
  readonly method: string;
  readonly token?: string | undefined;
  readonly body?: unknown;
  readonly raw?: Buffer;
  readonly identity?: { certificatePem: string; privateKeyPem: string };
}): Promise<TestReply> {
  const { promise, resolve, reject } = Promise.withResolvers<TestReply>();
  const bytes =
    options.raw ??
    (options.body === undefined ? undefined : Buffer.from(JSON.stringify(options.body)));
  const { identity } = options;
  const outgoing = httpsRequest(
    options.url,
    {
      method: options.method,
      ca: options.ca,
      ...(identity === undefined
        ? {}
        : { cert: identity.certificatePem, key: identity.privateKeyPem }),
      headers: {
        ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
        ...(bytes === undefined
          ? {}
          : { "content-type": "application/json", "content-length": bytes.length }),
      },
    },
    (message) => {
      const chunks: Buffer[] = [];
      message.on("data", (chunk: Buffer) => chunks.push(chunk));
      message.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        const isJson = message.headers["content-type"]?.includes("json") === true;
        resolve({
          status: message.statusCode ?? 0,
          headers: message.headers,
          body: isJson ? JSON.parse(text) : text,
        });
      });
      message.on("error", reject);
    },
  );
  outgoing.on("error", reject);
  outgoing.end(bytes);
  return promise;
}
