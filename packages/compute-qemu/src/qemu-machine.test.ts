import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync } from "node:fs";
import { readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";

import { must } from "@osr/base/assert";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MIB } from "@osr/base/units";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import type { ComputeProvider, MachineSpec, MachineStatus } from "@osr/compute/compute-provider";
import type { ContractSources } from "@osr/compute/compute-provider.contract";

import { guestReport } from "./boot-sector-guest.contract.ts";
import { findUefiFirmware } from "./firmware.ts";
import { type MachinePaths, machinePaths } from "./machine-paths.ts";
import type { MachineRecord } from "./machine-record.ts";
import { daemonOf, killProcess } from "./process-identity.ts";
import { type QemuHost, missingQemu, openQemuHost } from "./qemu-fixtures.contract.ts";
import { queryDevices, queryJob, queryRunState, withControl } from "./qemu-control.ts";
import { createQemuProvider } from "./qemu-provider.ts";
import type { QmpClient } from "./qmp-client.ts";

const missing = missingQemu();

suite("QEMU machines", { skip: missing ?? false }, () => {
  let host: QemuHost;
  let sources: ContractSources;
  before(async () => {
    host = await openQemuHost();
    sources = await host.fixtures.serveSources();
  });
  after(async () => {
    await host.fixtures.dispose();
    assert.deepEqual(await host.fixtures.leftovers(), []);
    await sources.pause();
  });

  const specOf = (changes: Partial<MachineSpec> = {}): MachineSpec => ({
    machineId: randomUuid(systemRandomness),
    name: "guest",
    biosUuid: randomUuid(systemRandomness),
    firmware: "bios",
    cpuCount: 1,
    memoryBytes: 64 * MIB,
    disks: sources.disks,
    nics: [],
    ...changes,
  });
  const pathsOf = (machineId: Uuid): MachinePaths => machinePaths(host.directory, machineId);
  const control = <T>(machineId: Uuid, talk: (qmp: QmpClient) => Promise<T>): Promise<T> =>
    withControl(pathsOf(machineId), systemScheduler, talk);
  const started = async (provider: ComputeProvider, spec = specOf()): Promise<Uuid> => {
    await provider.create(spec);
    await provider.start(spec.machineId);
    await guestReads(provider, spec.machineId, 3);
    return spec.machineId;
  };

  const imagesOf = async (machineId: Uuid): Promise<readonly string[]> =>
    (await readdir(pathsOf(machineId).directory))
      .filter((file) => file.includes("qcow2"))
      .toSorted();

  test("a guest that turns itself off leaves a stopped machine and its last words", async () => {
    await using provider = host.open();
    const id = await started(provider);
    await control(id, (qmp) => qmp.execute("system_powerdown"));
    const process = must(await daemonOf(pathsOf(id).pidFile), "it runs");
    await statusBecomes(provider, id, ({ state }) => state === "stopped");
    await until(async () => (await daemonOf(pathsOf(id).pidFile)) === undefined);
    assert.ok(guestReport(await provider.console(id, MIB)).isOff);
    assert.ok(process.pid > 1);
    await provider.destroy(id);
  });

  test("a guest that turns itself off while nobody looks is found so by the successor", async () => {
    let id: Uuid;
    {
      await using provider = host.open();
      id = await started(provider);
    }
    await control(id, (qmp) => qmp.execute("system_powerdown"));
    await until(async () => (await control(id, queryRunState)) === "shutdown");
    await using successor = host.open();
    await statusBecomes(successor, id, ({ state }) => state === "stopped");
    await until(async () => (await daemonOf(pathsOf(id).pidFile)) === undefined);
    assert.ok(guestReport(await successor.console(id, MIB)).isOff);
    await successor.destroy(id);
  });

  test("a QEMU that dies is a failed machine, which starts again", async () => {
    await using provider = host.open();
    const id = await started(provider);
    const process = must(await daemonOf(pathsOf(id).pidFile), "it runs");
    await killProcess(process, systemScheduler, 5000);
    const status = await provider.status(id);
    assert.equal(status.state, "failed");
    assert.match(status.reason ?? "", /QEMU ended/);
    await provider.start(id);
    await until(async () => guestReport(await provider.console(id, MIB)).bootCounts.length === 1);
    assert.equal((await provider.status(id)).state, "running");
    await provider.destroy(id);
  });

  test("a start that fails says why, leaves no process, and can be tried again", async () => {
    await using provider = host.open();
    const spec = specOf();
    await provider.create(spec);
    const overlay = pathsOf(spec.machineId).overlay(0);
    await writeFile(overlay, "damaged");
    await assert.rejects(provider.start(spec.machineId), /not in qcow2 format/);
    const status = await provider.status(spec.machineId);
    assert.equal(status.state, "stopped");
    assert.match(status.reason ?? "", /not in qcow2 format/);
    assert.equal(await daemonOf(pathsOf(spec.machineId).pidFile), undefined);
    await rm(overlay);
    await provider.start(spec.machineId);
    assert.equal((await provider.status(spec.machineId)).state, "running");
    await provider.destroy(spec.machineId);
  });

  test("a start that is aborted leaves no process", async () => {
    await using provider = host.open();
    const spec = specOf();
    await provider.create(spec);
    const stopping = new AbortController();
    const starting = provider.start(spec.machineId, stopping.signal);
    setTimeout(() => stopping.abort(new Error("enough")), 30);
    await assert.rejects(starting, /enough/);
    assert.equal(await daemonOf(pathsOf(spec.machineId).pidFile), undefined);
    await provider.destroy(spec.machineId);
  });

  test("nobody else may speak with QEMU", async () => {
    await using provider = host.open();
    const id = await started(provider);
    const { directory, controlSocket, eventsSocket } = pathsOf(id);
    assert.equal((await stat(directory)).mode & 0o777, 0o700);
    for (const socket of [controlSocket, eventsSocket])
      assert.equal((await stat(socket)).mode & 0o777, 0o600);
    await provider.destroy(id);
  });

  test("a predecessor that died between QEMU's start and its record is taken over", async () => {
    let id: Uuid;
    {
      await using provider = host.open();
      id = await started(provider);
    }
    const path = pathsOf(id).record;
    const { process, ...record } = JSON.parse(await readFile(path, "utf8")) as MachineRecord;
    await writeFile(path, JSON.stringify(record));
    await using successor = host.open();
    assert.equal((await successor.status(id)).state, "running");
    const adopted = JSON.parse(await readFile(path, "utf8")) as MachineRecord;
    assert.deepEqual(adopted.process, process);
    await successor.destroy(id);
  });

  test("a predecessor that died in the middle of a pivot: the disk is local, the machine goes on", async () => {
    let id: Uuid;
    {
      await using provider = host.open();
      id = await started(provider);
      await mirrorUntilReady(provider, id);
    }
    await control(id, (qmp) => qmp.execute("stop"));
    await using successor = host.open();
    const status = await successor.status(id);
    assert.equal(status.state, "running");
    assert.deepEqual(status.localDisks, [sources.disks[0]?.name]);
    await stillRuns(successor, id);
    await successor.moveToLocalStorage(id, () => undefined);
    const local = (await successor.status(id)).localDisks;
    assert.deepEqual(
      local,
      sources.disks.map((disk) => disk.name),
    );
    assert.deepEqual(await imagesOf(id), ["disk0.local.qcow2", "disk1.local.qcow2"]);
    await successor.destroy(id);
  });

  test("a predecessor that died after a pivot, before its record: the disk is local", async () => {
    let id: Uuid;
    {
      await using provider = host.open();
      id = await started(provider);
      await mirrorUntilReady(provider, id);
    }
    await control(id, async (qmp) => {
      await qmp.execute("stop");
      await qmp.execute("job-complete", { id: "move-disk0" });
      await until(async () => (await queryJob(qmp, "move-disk0"))?.status === "concluded");
    });
    await using successor = host.open();
    const status = await successor.status(id);
    assert.equal(status.state, "running");
    assert.deepEqual(status.localDisks, [sources.disks[0]?.name]);
    const devices = await control(id, (qmp) => queryDevices(qmp, 2));
    assert.deepEqual(
      devices.map((device) => device?.node),
      ["disk0-local", "disk1-overlay"],
    );
    await stillRuns(successor, id);
    await successor.destroy(id);
  });

  test("a mirror that a predecessor has left is taken up", async () => {
    let id: Uuid;
    {
      await using provider = host.open();
      id = await started(provider);
      await mirrorUntilReady(provider, id);
    }
    await using successor = host.open();
    assert.deepEqual((await successor.status(id)).localDisks, []);
    await successor.moveToLocalStorage(id, () => undefined);
    assert.equal((await successor.status(id)).localDisks.length, 2);
    await successor.stop(id, 0);
    await successor.start(id);
    assert.deepEqual(await imagesOf(id), ["disk0.local.qcow2", "disk1.local.qcow2"]);
    await stillRuns(successor, id);
    await successor.destroy(id);
  });

  test("an aborted move leaves no mirror", async () => {
    await using provider = host.open();
    const id = await started(provider);
    const stopping = new AbortController();
    const abort = (): void => stopping.abort(new Error("not any more"));
    await assert.rejects(provider.moveToLocalStorage(id, abort, stopping.signal), /not any more/);
    assert.deepEqual((await provider.status(id)).localDisks, []);
    assert.equal(await control(id, (qmp) => queryJob(qmp, "move-disk0")), undefined);
    await assert.rejects(stat(pathsOf(id).local(0)), { code: "ENOENT" });
    await stillRuns(provider, id);
    await provider.destroy(id);
  });

  test("closing the provider during a move leaves the mirror to the successor", async () => {
    let id: Uuid;
    {
      await using provider = host.open();
      id = await started(provider);
      const moving = Promise.withResolvers<void>();
      const move = provider.moveToLocalStorage(id, () => moving.resolve());
      const failed = assert.rejects(move, { code: "MOVE_FAILED" });
      await moving.promise;
      await provider[Symbol.asyncDispose]();
      await failed;
    }
    await using successor = host.open();
    await successor.moveToLocalStorage(id, () => undefined);
    assert.equal((await successor.status(id)).localDisks.length, 2);
    await stillRuns(successor, id);
    await successor.destroy(id);
  });

  test("a source that answers with errors: the machine waits, says so, and goes on by itself", async (t) => {
    try {
      accessSync("/usr/sbin/nbdkit");
    } catch {
      try {
        accessSync("/usr/bin/nbdkit");
      } catch {
        return t.skip("nbdkit is not installed");
      }
    }
    await using failing = await serveFailing(host, sources);
    await using provider = host.open();
    const id = await started(provider, specOf({ disks: failing.disks }));
    await failing.fail();
    const status = await statusBecomes(provider, id, ({ state }) => state === "failed");
    assert.match(status.reason ?? "", /waits for disk boot disk/);
    await failing.heal();
    await statusBecomes(provider, id, ({ state }) => state === "running");
    await stillRuns(provider, id);
    await provider.destroy(id);
  });

  test("a UEFI machine starts its firmware, with variables of its own", async (t) => {
    const firmware = await findUefiFirmware().catch((error: unknown) => String(error));
    if (typeof firmware === "string") return t.skip(firmware);
    await using provider = host.open();
    const spec = specOf({ firmware: "uefi", memoryBytes: 128 * MIB });
    await provider.create(spec);
    await provider.start(spec.machineId);
    await until(async () => /BdsDxe/.test(await provider.console(spec.machineId, MIB)), 60_000);
    const own = await stat(pathsOf(spec.machineId).firmwareVariables);
    assert.equal(own.size, (await stat(firmware.variablesFile)).size);
    await provider.destroy(spec.machineId);
  });

  test("a directory that cannot hold sockets is refused", () => {
    for (const directory of ["relative", `/${"x".repeat(57)}`])
      assert.throws(() => createQemuProvider({ ...unusedPorts, directory }), {
        code: "COMPUTE_DIRECTORY_UNFIT",
      });
  });

  async function mirrorUntilReady(provider: ComputeProvider, id: Uuid): Promise<void> {
    const ready = Promise.withResolvers<void>();
    const move = provider.moveToLocalStorage(id, ({ doneBytes, totalBytes }) => {
      if (doneBytes > 0 && doneBytes === totalBytes) ready.resolve();
      throw new Error("the reporter dies");
    });
    await assert.rejects(move, /the reporter dies/);
    await until(
      async () => (await control(id, (qmp) => queryJob(qmp, "move-disk0")))?.status === "ready",
    );
  }
});

const unusedPorts = {
  log: undefined as never,
  clock: undefined as never,
  scheduler: undefined as never,
};

type FailingSources = AsyncDisposable & {
  readonly disks: MachineSpec["disks"];
  fail(): Promise<void>;
  heal(): Promise<void>;
};

/** The boot disk behind a server whose reads fail while a file exists. */
async function serveFailing(host: QemuHost, sources: ContractSources): Promise<FailingSources> {
  const boot = must(sources.disks[0], "there is a boot disk");
  const image = join(boot.source.unixSocketPath, "..", "boot");
  const trigger = join(host.directory, "..", "failing");
  const socket = join(host.directory, "..", "failing.sock");
  const filter = ["--filter=error", "file", image, "error-pread=EIO", "error-pread-rate=100%"];
  const options = ["-f", "-r", "-U", socket, ...filter, `error-pread-file=${trigger}`];
  const server = spawn("nbdkit", options, { stdio: "ignore" });
  await until(async () => (await stat(socket).catch(() => undefined)) !== undefined);
  return {
    disks: [{ ...boot, source: { unixSocketPath: socket, exportName: "" } }],
    fail: () => writeFile(trigger, ""),
    heal: () => rm(trigger),
    async [Symbol.asyncDispose]() {
      server.kill("SIGKILL");
      await once(server, "exit");
      await rm(socket, { force: true });
    },
  };
}

async function guestReads(provider: ComputeProvider, id: Uuid, readsMin: number): Promise<void> {
  await until(async () => {
    const { readsDone, readsWrong } = guestReport(await provider.console(id, MIB));
    assert.equal(readsWrong, 0);
    return readsDone >= readsMin;
  });
}

async function stillRuns(provider: ComputeProvider, id: Uuid): Promise<void> {
  const { readsDone } = guestReport(await provider.console(id, MIB));
  await guestReads(provider, id, readsDone + 5);
}

async function statusBecomes(
  provider: ComputeProvider,
  id: Uuid,
  isMet: (status: MachineStatus) => boolean,
): Promise<MachineStatus> {
  let status = await provider.status(id);
  await until(async () => isMet((status = await provider.status(id))));
  return status;
}

async function until(isMet: () => Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await isMet())) {
    assert.ok(performance.now() < endMs, `in time: ${isMet}`);
    await wait(50);
  }
}
