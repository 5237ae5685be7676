import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { request } from "node:http";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { silentLog } from "@osr/base/log";
import { GIB } from "@osr/base/units";
import { uuidOfName } from "@osr/base/uuid";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import type { Scheduler } from "@osr/base/scheduler";
import type { ReplicaSpec } from "@osr/contracts/replica-host";
import type { FailoverPorts } from "@osr/failover/failover-ports";
import { ERRORS } from "@osr/failover/testing/copying-provider";
import { type FailoverRig, failoverRig } from "@osr/failover/testing/failover-rig";
import { LeaseGate } from "@osr/vault/replicas/lease-gate";
import type { ReplicaHost } from "@osr/vault/replicas/replica-host";
import { type HostUnderTest, replicaHostContract } from "@osr/vault/replicas/replica-host.contract";

import type { HostCapacity } from "./host-capacity.ts";
import { LocalReplicaHost } from "./local-replica-host.ts";
import { ReplicaHostClient } from "./replica-host-client.ts";
import { ReplicaHostServer } from "./replica-host-server.ts";

const { signal } = new AbortController();
const ROOMY: HostCapacity = {
  cpuCount: 1,
  memoryBytes: 2 * GIB,
  memoryFreeBytes: GIB,
  diskFreeBytes: GIB,
};

/** A machine with two points, whose replicas are started by a provider that reads all of their disks over NBD. */
async function rigWithPoints(t: TestContext): Promise<{
  rig: FailoverRig;
  spec: HostUnderTest["spec"];
  open: () => Promise<LocalReplicaHost>;
  /** Lets the time pass that hosts wait for. */
  pass: () => void;
}> {
  const rig = await failoverRig();
  await rig.cut(10);
  await rig.cut(11);
  const portsOf = (): FailoverPorts => rig.ports;
  const hosts: LocalReplicaHost[] = [];
  let lease = 0;
  let waiting: readonly (() => void)[] = [];
  const scheduler: Scheduler = {
    sleep: (ms, aborted) => systemScheduler.sleep(ms, aborted),
    after: (_, task) => {
      waiting = [...waiting, task];
      const dispose = (): void => void (waiting = waiting.filter((other) => other !== task));
      return { [Symbol.dispose]: dispose };
    },
  };
  t.after(async () => {
    for (const host of hosts) await host[Symbol.asyncDispose]();
    await rig[Symbol.asyncDispose]();
  });
  return {
    rig,
    spec: {
      vaultId: rig.vault.vaultId,
      machineId: rig.machineId,
      groupId: rig.vault.groupId,
      point: { kind: "latest-processed" },
      name: "web01",
    },
    pass: () => {
      const due = waiting;
      waiting = [];
      for (const task of due) task();
    },
    open: async () => {
      // A process that has died serves nothing any more.
      for (const host of hosts.splice(0)) await host[Symbol.asyncDispose]();
      const gate = new LeaseGate(lease, (token) => (lease = token));
      const capacity = (): HostCapacity => ROOMY;
      const ports = { portsOf, gate, capacity, scheduler };
      const host = await LocalReplicaHost.open(ports, [rig.vault.vaultId], signal);
      hosts.push(host);
      return host;
    },
  };
}

/** The same behind the socket: server and client as the roles have them. */
async function served(
  t: TestContext,
  open: () => Promise<ReplicaHost>,
): Promise<{ client: ReplicaHostClient; socketPath: string; again: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "osr-rh-"));
  const socketPath = join(folder, "host/replica.sock");
  let stop = async (): Promise<void> => undefined;
  const again = async (): Promise<void> => {
    await stop();
    const server = new ReplicaHostServer(await open(), { socketPath, log: silentLog });
    const running = server.run();
    await server.listening;
    stop = async () => {
      await server.stop();
      await running;
    };
  };
  await again();
  t.after(async () => {
    await stop();
    await rm(folder, { recursive: true });
  });
  return { client: new ReplicaHostClient(socketPath), socketPath, again };
}

replicaHostContract("local", async (t) => {
  const { spec, open } = await rigWithPoints(t);
  return { host: await open(), restarted: open, spec };
});

replicaHostContract("over the socket", async (t) => {
  const { spec, open } = await rigWithPoints(t);
  const { client, again } = await served(t, open);
  const restarted = async (): Promise<ReplicaHost> => {
    await again();
    return client;
  };
  return { host: client, restarted, spec };
});

test("local: a machine that could not be taken over is neither said to be gone nor to run", async (t) => {
  const { rig, spec, open, pass } = await rigWithPoints(t);
  const by = { jobId: uuidOfName("job"), leaseToken: 1 };
  const replicaId = uuidOfName("replica", "orphan");
  // Its disks stay in the storage account.
  rig.compute.before = (call) => {
    if (call === "moveToLocalStorage") throw new OsrError(ERRORS.PLANTED, "no room");
  };
  await (await open()).start({ ...spec, replicaId }, by, signal);
  const disk = must(rig.disks[0], "disk");
  await rig.damage(disk, 10);
  const successor = await open();
  const isUnadopted = (error: unknown): boolean =>
    error instanceof OsrError && error.code === "REPLICA_UNADOPTED" && error.retryable;
  await assert.rejects(successor.facts(replicaId), isUnadopted);
  await assert.rejects(successor.destroy(replicaId, by), isUnadopted);
  await assert.rejects(successor.start({ ...spec, replicaId }, by, signal), isUnadopted);
  assert.equal(rig.compute.machines.size, 1);
  pass();
  await assert.rejects(successor.facts(replicaId), isUnadopted);
  // The same change again undoes it.
  await rig.damage(disk, 10);
  for (let tries = 0; tries < 200 && (await successor.list()).length === 0; tries++) {
    pass();
    await systemScheduler.sleep(10);
  }
  assert.equal((await successor.facts(replicaId))?.state, "running");
});

test("over the socket: a caller that gives up leaves nothing of the replica behind", async (t) => {
  const { rig, spec, open } = await rigWithPoints(t);
  const { client } = await served(t, open);
  const giveUp = new AbortController();
  // While the machine is being made.
  rig.compute.before = (call) => {
    if (call === "create") giveUp.abort(new Error("the job was cancelled"));
  };
  const by = { jobId: uuidOfName("job"), leaseToken: 1 };
  const asked = { ...spec, replicaId: uuidOfName("replica", "given up") };
  await assert.rejects(client.start(asked, by, giveUp.signal), /the job was cancelled/);
  assert.deepEqual(await rig.leftovers(), []);
  assert.deepEqual(await client.list(), []);
});

test("over the socket: whoever looks at a machine while the host is away is told so within seconds", async () => {
  const client = new ReplicaHostClient(join(tmpdir(), "osr-no-such-folder", "host.sock"));
  const id = uuidOfName("replica");
  const isAway = (error: unknown): boolean =>
    error instanceof OsrError && error.code === "REPLICA_HOST_AWAY" && error.retryable;
  const beganMs = systemClock.monotonicMs();
  const looks = [client.list(), client.facts(id), client.console(id, 1), client.screenshot(id)];
  await Promise.all(looks.map((look) => assert.rejects(look, isAway)));
  assert.ok(systemClock.monotonicMs() - beganMs < 5000);
});

test("over the socket: what a machine would lack here is told before it is started", async (t) => {
  const { spec, open } = await rigWithPoints(t);
  const { client } = await served(t, open);
  const found = async (more: Partial<ReplicaSpec>): Promise<readonly string[]> => {
    const asked = { ...spec, replicaId: uuidOfName("replica", "big"), ...more };
    return (await client.preflight(asked, signal)).map(({ code, level }) => `${code} ${level}`);
  };
  assert.deepEqual(await found({ cpuCount: 2 }), ["CAPACITY_CPU warning"]);
  assert.deepEqual(await found({ memoryBytes: 3 * GIB }), ["CAPACITY_MEMORY error"]);
  assert.deepEqual(await found({}), []);
});

test("over the socket: nobody but its owner may open it, and errors keep code and remedy", async (t) => {
  const { spec, open } = await rigWithPoints(t);
  const { client, socketPath } = await served(t, open);
  const second = new ReplicaHostServer(client, { socketPath, log: silentLog });
  await assert.rejects(
    second.run(),
    (error) => error instanceof OsrError && error.code === "REPLICA_HOST_RUNS",
  );
  assert.equal(statSync(socketPath).mode & 0o777, 0o600);
  assert.equal(statSync(join(socketPath, "..")).mode & 0o777, 0o700);
  const by = { jobId: uuidOfName("job"), leaseToken: 1 };
  const unknown = { kind: "custom", slot: 5 } as const;
  const asked = { ...spec, replicaId: uuidOfName("replica", "x"), point: unknown };
  await assert.rejects(
    client.start(asked, by, signal),
    (error) => error instanceof OsrError && error.code === "POINT_UNKNOWN" && error.hint !== "",
  );
  for (const [method, path, status] of [
    ["GET", "/v1/nothing", 404],
    ["POST", "/v1/replicas", 400],
    ["GET", "/v1/replicas/not-an-id", 404],
  ] as const)
    assert.equal(await statusOf(socketPath, method, path), status, path);
});

function statusOf(socketPath: string, method: string, path: string): Promise<number | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
  const outgoing = request({ socketPath, method, path }, (message) => {
    message.resume();
    resolve(message.statusCode);
  });
  outgoing.on("error", reject);
  outgoing.end(method === "POST" ? "{}" : undefined);
  return promise;
}
