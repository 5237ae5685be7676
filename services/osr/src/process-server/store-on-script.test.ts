import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, request } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";

import { silentLog } from "@osr/base/log";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import type { Scheduler } from "@osr/base/scheduler";
import { MINUTE_MS } from "@osr/base/units";
import { uuidOfName } from "@osr/base/uuid";
import { createHttpsAgent } from "@osr/https/https-agent";
import { Dice, ModelDisk, randomChange } from "@osr/process-server/model-disk.contract";
import {
  agentOf,
  assertRepositoryIsSound,
  comparePoint,
  offeredPoints,
} from "@osr/process-server/site-checks.contract";
import { type Change, encodeChanges } from "@osr/process-server/test-agent.contract";
import {
  type Testbed,
  eventually,
  hastyScheduler,
  openTestbed,
  runServer,
} from "@osr/process-server/testbed.contract";
import { AzureBlobStore } from "@osr/repository/azure-blob-store";
import { type ObjectStore, listAll } from "@osr/repository/object-store";
import { STORE_RETRY_POLICY, retryingStore } from "@osr/repository/retrying-store";
import { TOKEN_ROLES, encodeTokens, newToken } from "@osr/storage-account/access-token";
import { STORAGE_CONTAINER, createStorageAccount } from "@osr/storage-account/storage-account";

const machineId = uuidOfName("machine", "on script");
const BLOCKS = 300;
const DISK = { identity: "serial:a", sizeBytes: BLOCKS * 4096 };
/** A third of a second with the hasty scheduler, beyond what an answer of loopback takes. */
const CALL_MS = 2 * MINUTE_MS;

/** What becomes of every creation: an answer of this status, none, or none although it has happened. */
type Fault = number | "hangs" | "hangs-after" | "cut-after";

/** A storage account as our own role serves it, behind a relay that misbehaves as it is told. */
type ScriptedAccount = AsyncDisposable & {
  fault: Fault | undefined;
  /** Creations that were asked for and that happened; a name may be asked for again. */
  readonly created: string[];
  readonly asked: Set<string>;
  /** As a process server has it, with its retries, by the relay. */
  readonly store: ObjectStore;
  /** By the way that does not misbehave. */
  readonly reader: ObjectStore;
};

async function openAccount(testbed: Testbed): Promise<ScriptedAccount> {
  await using opened = new AsyncDisposableStack();
  const tokens = TOKEN_ROLES.map((role) => ({ role, token: newToken(systemRandomness) }));
  const tokensFile = join(testbed.folder, "tokens.json");
  await writeFile(tokensFile, encodeTokens(tokens));
  const account = await createStorageAccount({
    directory: testbed.storeFolder,
    host: "127.0.0.1",
    port: 0,
    tls: testbed.serverIdentity,
    tokensFile,
    freeBytesMin: 0,
    log: silentLog,
    scheduler: systemScheduler,
    randomness: systemRandomness,
  });
  const running = account.run();
  opened.defer(async () => {
    await account.stop();
    await running;
  });
  const agent = createHttpsAgent({
    authorityPem: testbed.authority.certificatePem,
    socketsMax: 16,
    tlsVersionMin: "TLSv1.3",
  });
  opened.defer(() => agent.destroy());
  const scripted = { fault: undefined as Fault | undefined, created: [], asked: new Set<string>() };
  const relay = createServer(
    { cert: testbed.serverIdentity.certificatePem, key: testbed.serverIdentity.privateKeyPem },
    (message, response) => relayed(message, response, { scripted, port: account.port, agent }),
  );
  relay.listen(0, "127.0.0.1");
  await once(relay, "listening");
  opened.defer(() => {
    relay.closeAllConnections();
    relay.close();
  });
  const storeAt = (port: number, role: string, scheduler: Scheduler): ObjectStore =>
    new AzureBlobStore({
      endpoint: `https://127.0.0.1:${port}`,
      container: STORAGE_CONTAINER,
      credential: { kind: "token", text: tokens.find((each) => each.role === role)?.token ?? "" },
      agent,
      scheduler,
      callMs: CALL_MS,
    });
  const store = retryingStore(
    storeAt((relay.address() as AddressInfo).port, "ingest", hastyScheduler),
    {
      policy: STORE_RETRY_POLICY,
      scheduler: hastyScheduler,
      randomness: systemRandomness,
    },
  );
  const kept = opened.move();
  return Object.assign(scripted, {
    store,
    reader: storeAt(account.port, "reader", systemScheduler),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  });
}

function relayed(
  message: IncomingMessage,
  response: ServerResponse,
  to: {
    readonly scripted: { readonly fault: Fault | undefined; created: string[]; asked: Set<string> };
    readonly port: number;
    readonly agent: ReturnType<typeof createHttpsAgent>;
  },
): void {
  const { scripted, port, agent } = to;
  const { fault } = scripted;
  const isCreate = message.method === "PUT";
  const name = String(message.url);
  if (isCreate) scripted.asked.add(name);
  const faulty = isCreate ? fault : undefined;
  message.on("error", () => undefined);
  if (faulty === "hangs") return void message.resume();
  if (typeof faulty === "number") {
    message.resume();
    message.once("end", () =>
      response.writeHead(faulty, { "x-ms-error-code": "Scripted", "content-length": 0 }).end(),
    );
    return;
  }
  const { method, url: path, headers } = message;
  const onward = request({ host: "127.0.0.1", port, method, path, headers, agent }, (reply) => {
    const isCreated = isCreate && reply.statusCode === 201;
    if (isCreated) scripted.created.push(name);
    reply.on("error", () => response.destroy());
    if (isCreated && faulty === "hangs-after") return void reply.resume();
    if (isCreated && faulty === "cut-after") {
      reply.resume();
      return void response.destroy();
    }
    response.writeHead(reply.statusCode ?? 502, reply.headers);
    reply.pipe(response);
  });
  onward.on("error", () => response.destroy());
  message.pipe(onward);
}

const STORE_UNAVAILABLE = /^(STORE_UNAVAILABLE|UPLOAD_STALLED)$/;
const FAULTS: readonly (readonly [what: string, fault: Fault, health: RegExp])[] = [
  ["answers 403", 403, /^STORE_FORBIDDEN$/],
  ["answers 409", 409, /^STORE_UNAVAILABLE$/],
  ["answers 429", 429, /^STORE_UNAVAILABLE$/],
  ["answers 500", 500, /^STORE_UNAVAILABLE$/],
  ["answers 503", 503, /^STORE_UNAVAILABLE$/],
  ["is full (507)", 507, /^STORE_FULL$/],
  ["hangs", "hangs", STORE_UNAVAILABLE],
];

for (const [what, fault, code] of FAULTS)
  test(`a storage account that ${what}: it is told by name, and all goes up when it is well`, async () => {
    await using testbed = await openTestbed();
    await using account = await openAccount(testbed);
    const { store, reader } = account;
    await using running = await runServer(testbed, { store, scheduler: hastyScheduler });
    using agent = await agentOf(testbed, running.port, machineId);
    await agent.openSession([DISK]);
    const { diskId, nextInterval } = agent.granted(DISK.identity);
    const model = new ModelDisk(BLOCKS);
    const dice = new Dice(5);
    const frozen = new Map<number, ModelDisk>();
    account.fault = fault;
    for (let interval = nextInterval; interval < nextInterval + 2; interval++) {
      const changes: Change[] = Array.from({ length: 10 }, () => randomChange(dice, BLOCKS));
      for (const change of changes) model.apply(change);
      changes.push({ type: "mark", tag: agent.tag(interval, [DISK.identity]) }, { type: "end" });
      // Acknowledged as spooled although the storage account takes nothing.
      const place = { session: agent.epoch, interval, recordNo: 0 };
      await agent.send(diskId, encodeChanges(changes, place));
      frozen.set(interval, model.copy());
    }
    await eventually(`the health names it`, () =>
      running.server.status().health.some((each) => code.test(each.code) && each.hint !== ""),
    );
    const { disks, health = [] } = await agent.heartbeat();
    assert.equal(disks[0]?.vaultedInterval, 0);
    assert.ok(
      health.some((each) => code.test(each.code) && each.diskId === diskId),
      "the machine is told as well",
    );
    assert.deepEqual(await offeredPoints(reader, machineId), []);

    account.fault = undefined;
    await eventually("all is vaulted", async () => {
      const { disks } = await agent.heartbeat();
      return disks[0]?.vaultedInterval === nextInterval + 1;
    });
    await assertAllOnce(account, frozen);
    assert.deepEqual(running.server.status().health, []);
  });

for (const fault of ["hangs-after", "cut-after"] as const)
  test(`a storage account that takes an object and says nothing (${fault}): nothing is stored twice`, async () => {
    await using testbed = await openTestbed();
    await using account = await openAccount(testbed);
    const { store } = account;
    await using running = await runServer(testbed, { store, scheduler: hastyScheduler });
    using agent = await agentOf(testbed, running.port, machineId);
    await agent.openSession([DISK]);
    const { diskId, nextInterval: interval } = agent.granted(DISK.identity);
    const model = new ModelDisk(BLOCKS);
    account.fault = fault;
    const changes: Change[] = [{ type: "data", block: 7, content: Buffer.alloc(4096, "once") }];
    for (const change of changes) model.apply(change);
    changes.push({ type: "mark", tag: agent.tag(interval, [DISK.identity]) }, { type: "end" });
    await agent.send(
      diskId,
      encodeChanges(changes, { session: agent.epoch, interval, recordNo: 0 }),
    );
    // No creation that succeeds is ever answered: what the name holds decides.
    await eventually("all is vaulted", async () => {
      const { disks } = await agent.heartbeat();
      return disks[0]?.vaultedInterval === interval;
    });
    await assertAllOnce(account, new Map([[interval, model]]));
    assert.deepEqual(running.server.status().health, []);
  });

/** Every point holds what it should, and no object came into being twice or for nothing. */
async function assertAllOnce(
  { reader, created, asked }: ScriptedAccount,
  frozen: ReadonlyMap<number, ModelDisk>,
): Promise<void> {
  const points = await eventually("all points", async () => {
    const made = await offeredPoints(reader, machineId);
    return made.length === frozen.size && made;
  });
  for (const point of points) {
    const model = frozen.get(point.slot);
    assert.ok(model !== undefined, `slot ${point.slot} was sent`);
    await comparePoint(reader, point, { machineId, identity: DISK.identity }, model);
  }
  await assertRepositoryIsSound(reader);
  assert.equal(new Set(created).size, created.length, "no name is created twice");
  assert.equal(
    asked.size,
    created.length,
    "whatever is asked for is there at the end, under its first name",
  );
  const there = await Array.fromAsync(listAll(reader, ""));
  assert.equal(there.length, created.length);
}
