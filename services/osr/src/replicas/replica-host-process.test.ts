import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { BLOCK_BYTES } from "@osr/base/block-range";
import { silentLog } from "@osr/base/log";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MIB } from "@osr/base/units";
import { randomUuid } from "@osr/base/uuid";
import { bootDiskImage, guestReport } from "@osr/compute-qemu/boot-sector-guest.contract";
import { missingQemu } from "@osr/compute-qemu/qemu-fixtures.contract";
import { ensureDiskDescriptor } from "@osr/repository/disk-descriptor";
import { indexRootOf } from "@osr/repository/key-schedule";
import { TestDisk, TestVault, testDescriptor } from "@osr/repository/testing/log-fixture";
import { ensureDataKey } from "@osr/repository/wrapped-key";
import type { ReplicaHost } from "@osr/vault/replicas/replica-host";
import { type HostUnderTest, replicaHostContract } from "@osr/vault/replicas/replica-host.contract";

import { openStore } from "../repository/open-store.ts";
import { processesWith, startRoleChild } from "../testing/role-child.ts";
import { startTestAccount } from "../testing/test-account.ts";
import { ReplicaHostClient } from "./replica-host-client.ts";
import type { ReplicaHostConfiguration } from "./replica-host-configuration.ts";

const MARKER = "a replica";
const CONSOLE_POLL_MS = 50;

/** The real thing: a host in a process of its own, which is killed, over QEMU machines that boot from a storage account. */
async function openProcess(): Promise<
  HostUnderTest & AsyncDisposable & { readonly folder: string }
> {
  await using stack = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), "osr-rh-"));
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  const account = stack.use(await startTestAccount(folder));
  const { store } = stack.use(openStore(account.access, silentLog));
  const vault = new TestVault(store);
  const disk = await bootableDisk(vault);
  writeFileSync(join(folder, "vault.key"), vault.vaultKey.toString("hex"), { mode: 0o600 });
  const configuration: ReplicaHostConfiguration = {
    socket: "machines/host.sock",
    directory: "machines",
    storageAccount: account.access,
    vaultKeyFile: "vault.key",
  };
  const config = join(folder, "config.json");
  writeFileSync(config, JSON.stringify(configuration));
  let process = await startRoleChild(["replica-host", "run"], config);
  stack.defer(() => process.end("SIGTERM"));
  const host = new ReplicaHostClient(join(folder, configuration.socket));
  const restarted = async (): Promise<ReplicaHost> => {
    await process.end("SIGKILL");
    process = await startRoleChild(["replica-host", "run"], config);
    return host;
  };
  const spec = {
    vaultId: vault.vaultId,
    machineId: disk.machineId,
    groupId: vault.groupId,
    point: { kind: "latest-processed" },
    name: "web01",
    memoryBytes: 64 * MIB,
  } as const;
  const kept = stack.move();
  return { folder, host, restarted, spec, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

async function bootableDisk(
  vault: TestVault,
): Promise<{ machineId: HostUnderTest["spec"]["machineId"] }> {
  const { store, vaultId, vaultKey, randomness } = vault;
  const image = bootDiskImage(MARKER);
  const machineId = randomUuid(randomness);
  const diskId = randomUuid(randomness);
  const dataKey = await ensureDataKey(store, { vaultId, vaultKey, diskId, randomness });
  const descriptor = testDescriptor(diskId, machineId, image.length);
  await ensureDiskDescriptor(store, vaultId, descriptor, { indexRoot: indexRootOf(dataKey) });
  const disk = new TestDisk(vault, dataKey);
  await disk.claim();
  assert.equal(image.length % BLOCK_BYTES, 0);
  await vault.cut(10, new Map([[disk, [{ block: 0, bytes: image }]]]));
  return { machineId };
}

const missing = missingQemu();
if (missing === undefined) {
  const under = await openProcess();
  after(async () => {
    await under[Symbol.asyncDispose]();
    assert.deepEqual(processesWith(under.folder), []);
  });
  replicaHostContract("a process over QEMU", () => Promise.resolve(under));
  test("a process over QEMU: a machine runs on while its host is gone, and boots from the storage account", async () => {
    const { host, restarted, spec } = under;
    const by = { jobId: spec.machineId, leaseToken: 8 };
    const asked = { ...spec, replicaId: spec.machineId };
    await host.start(asked, by, AbortSignal.timeout(60_000));
    const before = processesWith(`${under.folder}/machines/`);
    await restarted();
    assert.deepEqual(processesWith(`${under.folder}/machines/`), before);
    for (;;) {
      const report = guestReport(await host.console(asked.replicaId, MIB));
      if (report.readsDone > 0 && report.readsWrong === 0) {
        assert.deepEqual(report.markers, [MARKER]);
        break;
      }
      assert.equal(report.readsWrong, 0);
      await systemScheduler.sleep(CONSOLE_POLL_MS);
    }
    await host.destroy(asked.replicaId, by);
  });
} else test("ReplicaHost contract: a process over QEMU", (t) => t.skip(missing));
