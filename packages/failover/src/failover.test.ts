import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { suite, test } from "node:test";
import { promisify } from "node:util";

import { OsrError } from "@osr/base/errors";
import type { Uuid } from "@osr/base/uuid";
import type { NetworkSpec } from "@osr/compute/compute-provider";
import { logPrefix } from "@osr/repository/object-names";
import type { TestDisk } from "@osr/repository/testing/log-fixture";

import { adoptFailedOverMachines } from "./adoption.ts";
import {
  type FailoverProgress,
  type FailoverRequest,
  type FailoverStep,
  startFailover,
} from "./failover.ts";
import { httpProbe } from "./machine-answer.ts";
import { listReplicas, readReplicaState, writeReplicaState } from "./replica-state.ts";
import { ERRORS, exportSha256 } from "./testing/copying-provider.ts";
import { type FailoverRig, failoverRig } from "./testing/failover-rig.ts";

const NEVER = new AbortController().signal;

const NETWORK: NetworkSpec = {
  name: "testnet",
  subnet: "10.77.0.0/24",
  gateway: "10.77.0.1",
  isolated: true,
  reservations: [],
};

function requestOf(rig: FailoverRig, more: Partial<FailoverRequest> = {}): FailoverRequest {
  return {
    machineId: rig.machineId,
    groupId: rig.vault.groupId,
    point: { kind: "latest-processed" },
    replica: { nics: [{ network: NETWORK.name, mac: "52:54:00:00:00:01" }] },
    network: NETWORK,
    answer: httpProbe({
      network: NETWORK.name,
      address: "10.77.0.10",
      port: 80,
      path: "/",
      timeoutMs: 5000,
    }),
    movesToLocalStorage: false,
    ...more,
  };
}

const hasNbdCopy = await promisify(execFile)("nbdcopy", ["--version"]).then(
  () => true,
  () => false,
);

void suite(
  "failover",
  { skip: hasNbdCopy ? false : "nbdcopy (libnbd-bin) is not installed" },
  () => {
    test("a machine starts from its newest point and reads exactly what its disks held", async () => {
      await using rig = await failoverRig();
      await rig.cut(10);
      const expected = await rig.cut(11);
      await rig.disks[0]?.commit([{ block: 0, bytes: Buffer.alloc(4096, "later") }]);
      const steps: string[] = [];
      const machine = await startFailover(
        requestOf(rig, { onProgress: ({ step, state }) => steps.push(`${step} ${state}`) }),
        rig.ports,
      );
      assert.equal(machine.point.slot, 11);
      const made = rig.compute.machines.get(machine.replicaId);
      assert.deepEqual(made?.read, expected);
      const { spec } = made;
      assert.deepEqual(
        spec.disks.map(({ name, isBoot, serial }) => [name, isBoot, serial]),
        [
          ["vda", true, "boot-1"],
          ["vdb", false, undefined],
        ],
      );
      // The fixture's description names the machine id as the source's SMBIOS UUID.
      assert.notEqual(spec.biosUuid, rig.machineId);
      assert.equal(spec.name, "fixture");
      assert.deepEqual(
        steps.filter((step) => step.endsWith("done")),
        "choose-point preflight open-disks serve-disks network create start answer"
          .split(" ")
          .map((step) => `${step} done`),
      );
      assert.equal((await machine.status()).state, "running");
      assert.equal(await machine.console(7), "fixture");

      await machine.cleanup();
      await machine.cleanup();
      assert.deepEqual(await rig.leftovers(), []);
    });

    test("the point of a slot", async () => {
      await using rig = await failoverRig();
      const expected = await rig.cut(10);
      await rig.cut(11);
      await rig.cut(12, "fuzzy");
      const choose = (slot: number) =>
        startFailover(requestOf(rig, { point: { kind: "custom", slot } }), rig.ports);
      const machine = await choose(10);
      assert.deepEqual(rig.compute.machines.get(machine.replicaId)?.read, expected);
      await machine.cleanup();
      await assert.rejects(choose(12), { code: "POINT_FUZZY" });
      await assert.rejects(choose(99), { code: "POINT_UNKNOWN" });
      assert.deepEqual(await rig.leftovers(), []);
    });

    test("neither a fuzzy nor a forged point is the newest one; a forged one is refused by name", async () => {
      await using rig = await failoverRig();
      await assert.rejects(startFailover(requestOf(rig), rig.ports), { code: "POINT_NONE" });
      await rig.cut(10);
      await rig.cut(11, "fuzzy");
      const { store } = rig.ports;
      const prefix = `v1/${rig.vault.vaultId}/g/${rig.vault.groupId}/rp/`;
      const { objects } = await store.list(prefix);
      const genuine = Buffer.alloc(objects[0]?.sizeBytes ?? 0);
      await store.read(objects[0]?.name ?? "", 0, genuine);
      const forged = genuine.toString("utf8").replace(`"slot":10`, `"slot":12`);
      const name = `${prefix}${(12).toString(16).padStart(16, "0")}.json`;
      const bytes = Buffer.from(forged);
      await store.create(name, {
        sizeBytes: bytes.length,
        async *open() {
          yield bytes;
        },
      });
      const machine = await startFailover(requestOf(rig), rig.ports);
      assert.equal(machine.point.slot, 10);
      await machine.cleanup();
      const custom = requestOf(rig, { point: { kind: "custom", slot: 12 } });
      await assert.rejects(startFailover(custom, rig.ports), { code: "POINT_INVALID" });
    });

    test("latest means the newest point that the logs prove, with or without its object", async () => {
      await using rig = await failoverRig();
      await rig.cut(10);
      const expected = await rig.tagOnly(11);
      // A tag that only one of the two disks has is no point.
      const [first] = rig.disks;
      await first?.commit([], { tag: rig.vault.tag(12, rig.disks) });
      const machine = await startFailover(requestOf(rig, { point: { kind: "latest" } }), rig.ports);
      assert.equal(machine.point.slot, 11);
      assert.deepEqual(rig.compute.machines.get(machine.replicaId)?.read, expected);
      await machine.cleanup();
      const processed = await startFailover(requestOf(rig), rig.ports);
      assert.equal(processed.point.slot, 10);
      await processed.cleanup();
    });

    test("what cannot work is refused beforehand, with every reason", async () => {
      await using rig = await failoverRig();
      await rig.cut(10);
      const other = requestOf(rig, { machineId: rig.vault.groupId });
      const ports = { ...rig.ports, runDirectory: `/${"x".repeat(80)}` };
      await assert.rejects(startFailover(other, ports), (error: unknown) => {
        assert.ok(error instanceof OsrError && error.code === "FAILOVER_REFUSED");
        const { reasons } = error.details as { reasons: { code: string }[] };
        assert.deepEqual(
          reasons.map(({ code }) => code),
          ["MACHINE_NOT_IN_POINT", "RUN_DIRECTORY_UNFIT"],
        );
        return true;
      });
    });

    test("a failure at any step undoes everything", async () => {
      await using rig = await failoverRig();
      await rig.cut(10);
      const planted = new OsrError(ERRORS.PLANTED, "planted");
      for (const moment of ["before", "after"] as const)
        for (const call of ["ensureNetwork", "create", "start"] as const) {
          rig.compute[moment] = (called) => {
            if (called === call) throw planted;
          };
          await assert.rejects(startFailover(requestOf(rig), rig.ports), planted);
          rig.compute[moment] = () => undefined;
          assert.deepEqual(await rig.leftovers(), [], `${moment} ${call}`);
        }
      const unwritable = { ...rig.ports, runDirectory: `${rig.ports.runDirectory}/file` };
      await writeFile(unwritable.runDirectory, "");
      await assert.rejects(startFailover(requestOf(rig), unwritable), { code: "ENOTDIR" });
      await rm(unwritable.runDirectory);
      rig.compute.answers = [new OsrError(ERRORS.NO_ANSWER, "silent")];
      const answer = httpProbe({
        network: "testnet",
        address: "10.77.0.10",
        port: 80,
        path: "/",
        timeoutMs: 300,
      });
      await assert.rejects(startFailover(requestOf(rig, { answer }), rig.ports), {
        code: "REPLICA_SILENT",
      });
      assert.deepEqual(await rig.leftovers(), []);
    });

    test("cancelling at any step undoes everything", async () => {
      await using rig = await failoverRig();
      await rig.cut(10);
      const steps: FailoverStep[] = [
        "choose-point",
        "preflight",
        "open-disks",
        "serve-disks",
        "network",
        "create",
        "start",
        "answer",
      ];
      for (const at of steps)
        for (const when of ["started", "done"] as const) {
          const cancel = new AbortController();
          const cancelled = startFailover(
            requestOf(rig, {
              signal: cancel.signal,
              onProgress: ({ step, state }) => {
                if (step === at && state === when) cancel.abort(new Error(`cancelled at ${at}`));
              },
            }),
            rig.ports,
          );
          await assert.rejects(cancelled, { message: `cancelled at ${at}` });
          assert.deepEqual(await rig.leftovers(), [], `${at} ${when}`);
        }
    });

    test("a failover that takes too long is undone", async () => {
      await using rig = await failoverRig();
      await rig.cut(10);
      rig.compute.answers = [new OsrError(ERRORS.NO_ANSWER, "silent")];
      await assert.rejects(startFailover(requestOf(rig, { timeoutMs: 700 }), rig.ports), {
        code: "FAILOVER_TIMEOUT",
      });
      assert.deepEqual(await rig.leftovers(), []);
    });

    test("a damaged index stops the failover before anything is made", async () => {
      await using rig = await failoverRig();
      await rig.cut(10);
      // In the footer, which the signature of the point covers.
      await rig.damage(rig.disks[0] as TestDisk, 60);
      const steps: string[] = [];
      const onProgress = ({ step, state }: FailoverProgress): number =>
        steps.push(`${step} ${state}`);
      await assert.rejects(startFailover(requestOf(rig, { onProgress }), rig.ports), OsrError);
      assert.equal(steps.at(-1), "open-disks failed");
      assert.deepEqual(await rig.leftovers(), []);
    });

    test("a machine that reads damaged data gets an error, never other bytes", async () => {
      await using rig = await failoverRig();
      await rig.cut(10);
      const disk = rig.disks[0] as TestDisk;
      const { objects } = await rig.ports.store.list(logPrefix(disk.log));
      // In the first frame, right behind its header.
      await rig.damage(disk, (objects.at(-1)?.sizeBytes ?? 0) - 128 - 40);
      await assert.rejects(startFailover(requestOf(rig), rig.ports), /nbdcopy/);
      assert.deepEqual(await rig.leftovers(), []);
    });

    test("the first answer may take a while; a machine that stops is not waited for", async () => {
      await using rig = await failoverRig();
      await rig.cut(10);
      const silent = new OsrError(ERRORS.NO_ANSWER, "booting");
      rig.compute.answers = [
        silent,
        "HTTP/1.1 503 Starting\r\n\r\n",
        silent,
        "HTTP/1.1 200 OK\r\n\r\n",
      ];
      const machine = await startFailover(requestOf(rig), rig.ports);
      await machine.cleanup();

      await using other = await failoverRig();
      await other.cut(10);
      other.compute.answers = [silent];
      other.compute.after = (call) => {
        if (call === "start")
          for (const made of other.compute.machines.values()) made.state = "failed";
      };
      await assert.rejects(startFailover(requestOf(other), other.ports), {
        code: "REPLICA_FAILED",
      });
      assert.deepEqual(await other.leftovers(), []);
    });

    test("after the move to local storage nothing is served any more", async () => {
      await using rig = await failoverRig();
      const expected = await rig.cut(10);
      const states: string[] = [];
      const machine = await startFailover(
        requestOf(rig, {
          movesToLocalStorage: true,
          onProgress: ({ step, state, move }) => {
            if (step === "move") states.push(`${state} ${move?.disk ?? ""}`.trim());
          },
        }),
        rig.ports,
      );
      assert.ok(machine.isServed);
      await machine.moveToLocalStorage();
      assert.ok(!machine.isServed);
      assert.deepEqual(states, ["started", "running vda", "running vdb", "done"]);
      const made = rig.compute.machines.get(machine.replicaId);
      assert.deepEqual(made?.read, expected);
      for (const { source } of made.spec.disks)
        await assert.rejects(exportSha256(source, rig.ports.runDirectory));
      await machine.cleanup();
      assert.deepEqual(await rig.leftovers(), []);
    });

    test("a move that fails leaves the machine as it is, and may be repeated", async () => {
      await using rig = await failoverRig();
      await rig.cut(10);
      rig.compute.before = (call) => {
        if (call === "moveToLocalStorage") throw new OsrError(ERRORS.PLANTED, "planted");
      };
      const machine = await startFailover(requestOf(rig, { movesToLocalStorage: true }), rig.ports);
      await assert.rejects(machine.moveToLocalStorage(), { code: "PLANTED" });
      assert.ok(machine.isServed);
      rig.compute.before = () => undefined;
      await machine.moveToLocalStorage();
      assert.ok(!machine.isServed);
      await machine.cleanup();
    });
  },
);

void suite(
  "adoption",
  { skip: hasNbdCopy ? false : "nbdcopy (libnbd-bin) is not installed" },
  () => {
    test("a successor serves the disks again where the machine looks for them", async () => {
      await using rig = await failoverRig();
      const expected = await rig.cut(10);
      const machine = await startFailover(requestOf(rig), rig.ports);
      await rig.cut(11);
      const spec = rig.compute.machines.get(machine.replicaId)?.spec;
      assert.ok(spec !== undefined);
      await machine[Symbol.asyncDispose]();
      for (const { source } of spec.disks)
        await assert.rejects(exportSha256(source, rig.ports.runDirectory));

      const { machines, undone, failed } = await adoptFailedOverMachines(rig.ports, NEVER);
      assert.deepEqual([undone, failed], [[], []]);
      const [adopted] = machines;
      assert.equal(adopted?.replicaId, machine.replicaId);
      assert.equal(adopted.point.slot, 10);
      for (const { name, source } of spec.disks)
        assert.equal(await exportSha256(source, rig.ports.runDirectory), expected.get(name));
      await adopted.cleanup();
      assert.deepEqual(await rig.leftovers(), []);
    });

    test("a machine that was being moved is moved on; a moved one needs nothing of the storage account", async () => {
      await using rig = await failoverRig();
      await rig.cut(10);
      rig.compute.before = (call) => {
        if (call === "moveToLocalStorage") throw new OsrError(ERRORS.PLANTED, "planted");
      };
      const machine = await startFailover(requestOf(rig, { movesToLocalStorage: true }), rig.ports);
      await machine[Symbol.asyncDispose]();
      rig.compute.before = () => undefined;
      const { machines } = await adoptFailedOverMachines(rig.ports, NEVER);
      await machines[0]?.moveToLocalStorage();
      assert.equal((await machines[0]?.status())?.localDisks.length, 2);
      await machines[0]?.[Symbol.asyncDispose]();

      const keys = { ...rig.ports.keys, dataKey: () => Promise.reject(new Error("not needed")) };
      const again = await adoptFailedOverMachines({ ...rig.ports, keys }, NEVER);
      assert.deepEqual(again.failed, []);
      assert.equal(again.machines[0]?.isServed, false);
      await again.machines[0]?.cleanup();
      assert.deepEqual(await rig.leftovers(), []);
    });

    test("a failover that was cut off is undone, one whose machine is gone is forgotten", async () => {
      await using rig = await failoverRig();
      await rig.cut(10);
      const cutOff = await startFailover(requestOf(rig), rig.ports);
      const gone = await startFailover(requestOf(rig), rig.ports);
      const { runDirectory, keys } = rig.ports;
      const groupKey = (groupId: Uuid): Buffer => keys.groupKey(groupId);
      const state = await readReplicaState(runDirectory, cutOff.replicaId, groupKey);
      assert.ok(state !== undefined);
      await cutOff[Symbol.asyncDispose]();
      await gone[Symbol.asyncDispose]();
      await writeReplicaState(runDirectory, { ...state, phase: "starting" });
      rig.compute.machines.delete(gone.replicaId);
      const { machines, undone } = await adoptFailedOverMachines(rig.ports, NEVER);
      assert.deepEqual(machines, []);
      assert.deepEqual(undone.toSorted(), [cutOff.replicaId, gone.replicaId].toSorted());
      assert.deepEqual(await rig.leftovers(), []);
    });

    test("what cannot be adopted now is kept, and does not stop the others", async () => {
      await using rig = await failoverRig();
      await rig.cut(10);
      const sound = await startFailover(requestOf(rig), rig.ports);
      const broken = await startFailover(requestOf(rig), rig.ports);
      await sound[Symbol.asyncDispose]();
      await broken[Symbol.asyncDispose]();
      await writeFile(`${rig.ports.runDirectory}/${broken.replicaId}/failover.json`, "{");
      const { machines, failed } = await adoptFailedOverMachines(rig.ports, NEVER);
      assert.deepEqual(
        machines.map(({ replicaId }) => replicaId),
        [sound.replicaId],
      );
      assert.equal(failed[0]?.replicaId, broken.replicaId);
      assert.ok(rig.compute.machines.has(broken.replicaId));
      assert.ok((await listReplicas(rig.ports.runDirectory)).includes(broken.replicaId));
      await machines[0]?.cleanup();
    });
  },
);
