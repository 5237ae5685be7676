import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { GIB, MIB, TIB } from "@osr/base/units";
import { uuid } from "@osr/base/uuid";
import type { MachineSpec } from "@osr/compute/compute-provider";

import { checkMachineSpec } from "./machine-limits.ts";
import type { MachineRecord } from "./machine-record.ts";
import { MachineStore, isSameMachine } from "./machine-store.ts";

const SOURCE = { unixSocketPath: "/run/nbd.sock", exportName: "root" };
const DISK = { name: "root", sizeBytes: GIB, isBoot: true, source: SOURCE };
const NIC = { network: "test", mac: "52:54:00:00:00:01" };
const SPEC: MachineSpec = {
  machineId: uuid("0f8fad5b-d9cb-469f-a165-70867728950e"),
  name: "web",
  biosUuid: uuid("7c9e6679-7425-40de-944b-e07fc1f90ae7"),
  firmware: "uefi",
  cpuCount: 2,
  memoryBytes: 512 * MIB,
  disks: [DISK, { ...DISK, name: "data", isBoot: false, serial: "s" }],
  nics: [NIC],
};
const RECORD: MachineRecord = { version: 1, spec: SPEC, phase: "created", localDisks: [] };

suite("machine records", () => {
  let directory = "";
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "osr-rec-"));
  });
  after(() => rm(directory, { recursive: true }));

  test("a record is read as it was written, by any process", async () => {
    const store = new MachineStore(directory);
    const process = { pid: 4711, startTicks: 12_345, bootId: "b" };
    const full: MachineRecord = {
      ...RECORD,
      phase: "started",
      process,
      localDisks: ["root"],
      reason: "why",
    };
    for (const record of [RECORD, full]) {
      await store.write(record);
      assert.deepEqual(await new MachineStore(directory).list(), [record]);
    }
    const { mode } = await stat(store.pathsOf(SPEC.machineId).directory);
    assert.equal(mode & 0o777, 0o700);
  });

  test("nothing, something else, and a damaged record", async () => {
    const other = new MachineStore(join(directory, "other"));
    assert.deepEqual(await other.list(), []);
    await assert.rejects(other.demand(SPEC.machineId), { code: "MACHINE_UNKNOWN" });
    const { directory: home, record } = other.pathsOf(SPEC.machineId);
    await mkdir(home, { recursive: true });
    assert.deepEqual(await other.list(), [], "made by half");
    for (const text of ["", "{", "{}", JSON.stringify({ ...RECORD, version: 2 })]) {
      await writeFile(record, text);
      await assert.rejects(other.read(SPEC.machineId), { code: "RECORD_DAMAGED" }, text);
    }
  });

  test("a machine is the same wherever its sources are", () => {
    const moved = { ...SOURCE, unixSocketPath: "/run/other.sock" };
    const disks = SPEC.disks.map((disk) => ({ ...disk, source: moved }));
    assert.ok(isSameMachine(SPEC, { ...SPEC, disks }));
    assert.ok(!isSameMachine(SPEC, { ...SPEC, disks: disks.slice(0, 1) }));
    assert.ok(!isSameMachine(SPEC, { ...SPEC, cpuCount: 3 }));
  });

  test("what QEMU could not be is refused", () => {
    checkMachineSpec(SPEC);
    const wrong: readonly MachineSpec[] = [
      { ...SPEC, name: "a,b" },
      { ...SPEC, name: "" },
      { ...SPEC, cpuCount: 0 },
      { ...SPEC, cpuCount: 1.5 },
      { ...SPEC, memoryBytes: MIB + 1 },
      { ...SPEC, memoryBytes: 2 * TIB },
      { ...SPEC, disks: [] },
      { ...SPEC, disks: [{ ...DISK, isBoot: false }] },
      { ...SPEC, disks: [DISK, { ...DISK, name: "two" }] },
      { ...SPEC, disks: [DISK, { ...DISK, isBoot: false }] },
      { ...SPEC, disks: [{ ...DISK, sizeBytes: 511 }] },
      { ...SPEC, disks: [{ ...DISK, sizeBytes: 17 * TIB }] },
      { ...SPEC, disks: [{ ...DISK, source: { ...SOURCE, unixSocketPath: "nbd.sock" } }] },
      { ...SPEC, nics: [{ ...NIC, mac: "52-54-00-00-00-01" }] },
      { ...SPEC, nics: Array.from({ length: 9 }, () => NIC) },
    ];
    for (const spec of wrong)
      assert.throws(() => checkMachineSpec(spec), { code: "MACHINE_SPEC_INVALID" });
  });
});
