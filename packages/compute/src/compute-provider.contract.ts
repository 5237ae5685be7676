import assert from "node:assert/strict";
import { after, suite, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { MIB } from "@osr/base/units";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import { systemRandomness } from "@osr/base/platform/system-randomness";

import type {
  ComputeProvider,
  MachineSpec,
  MoveProgress,
  NetworkSpec,
} from "./compute-provider.ts";

/** What the contract's guest has said on its console, over all its boots. */
export type GuestReport = {
  /** As the guest's firmware tells it, of each boot. */
  readonly biosUuids: readonly string[];
  /** What each boot read from its disks. */
  readonly markers: readonly string[];
  /** Each boot adds one to a counter on its boot disk and says what it is now. */
  readonly bootCounts: readonly number[];
  /** Blocks of its boot disk that the guest has read; it goes on for ever, and writes as it does so. */
  readonly readsDone: number;
  /** Reads that failed or gave something else than the source holds. */
  readonly readsWrong: number;
  /** True where the guest turned itself off, as it does when asked. */
  readonly isOff: boolean;
};

/** The NBD exports of a boot disk and a data disk. They could be written to: nobody but the provider prevents that. */
export interface ContractSources extends AsyncDisposable {
  readonly disks: MachineSpec["disks"];
  readonly markers: readonly string[];
  /** The digest of all that the exports hold. */
  digest(): Promise<string>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** From now on the exports are elsewhere; the same disks at another place. */
  moved(): Promise<MachineSpec["disks"]>;
}

export type ComputeFixtures = {
  serveSources(): Promise<ContractSources>;
  guestReport(console: string): GuestReport;
  /** Everything that the provider's machines and networks have made: processes, files, links, namespaces. */
  leftovers(): Promise<readonly string[]>;
  readonly networks:
    | {
        /** Unique on this host. */
        readonly name: string;
        /** Ways by which a packet could leave the network, found by links and routes; nothing is sent. */
        readonly waysOut: (network: string) => Promise<readonly string[]>;
        /** Links and routes of the host, as text. */
        readonly hostNetwork: () => Promise<string>;
      }
    /** Why networks cannot be tested here. */
    | string;
  dispose(): Promise<void>;
};

const GUEST_TIMEOUT_MS = 20_000;
const GRACE_MS = 10_000;
const CONSOLE_BYTES = 256 * 1024;

/**
 * The law of the port. `open` gives a provider on the same state each time, so that a second one is the first one's
 * successor.
 */
export function computeProviderContract(
  name: string,
  open: () => ComputeProvider,
  fixtures: ComputeFixtures,
): void {
  suite(`ComputeProvider contract: ${name}`, () => {
    after(() => fixtures.dispose());
    lifeCycle(open, fixtures);
    sources(open, fixtures);
    localStorage(open, fixtures);
    networks(open, fixtures);
  });
}

function lifeCycle(open: () => ComputeProvider, fixtures: ComputeFixtures): void {
  test("a machine runs with a UUID of its own, is adopted by a successor, stops and starts", async () => {
    await using served = await fixtures.serveSources();
    const digest = await served.digest();
    const spec = machineSpec(served.disks);
    const { machineId } = spec;
    {
      await using provider = open();
      await provider.create(spec);
      await provider.create(spec);
      assert.equal((await provider.status(machineId)).state, "created");
      await provider.start(machineId);
      await provider.start(machineId);
      const report = await guestReads(provider, fixtures, machineId, 5);
      assert.deepEqual(report.biosUuids, [spec.biosUuid]);
      assert.deepEqual(report.markers, served.markers);
      assert.deepEqual(report.bootCounts, [1]);
    }
    await using successor = open();
    const adopted = await successor.list();
    assert.deepEqual(
      adopted.map((status) => [status.machineId, status.name, status.state]),
      [[machineId, spec.name, "running"]],
    );
    await successor.create(spec);
    await successor.start(machineId);
    const before = await report(successor, fixtures, machineId);
    assert.deepEqual(
      before.bootCounts,
      [1],
      "the predecessor's console is kept, nothing booted anew",
    );
    await guestReads(successor, fixtures, machineId, before.readsDone + 5);

    await successor.stop(machineId, GRACE_MS);
    await successor.stop(machineId, GRACE_MS);
    assert.deepEqual(await stateOf(successor, machineId), "stopped");
    assert.ok((await report(successor, fixtures, machineId)).isOff, "the guest was asked first");

    await successor.start(machineId);
    const again = await guestBoots(successor, fixtures, machineId, 2);
    assert.deepEqual(again.bootCounts, [1, 2], "what the guest wrote is still there");
    await successor.stop(machineId, 0);
    assert.equal(await stateOf(successor, machineId), "stopped");
    assert.equal(await served.digest(), digest, "the source was never written to");

    await successor.destroy(machineId);
    await successor.destroy(machineId);
    assert.deepEqual(await successor.list(), []);
    assert.deepEqual(await fixtures.leftovers(), []);
  });

  test("a running machine is destroyed with everything of it; what is unknown is refused", async () => {
    await using served = await fixtures.serveSources();
    const spec = machineSpec(served.disks);
    await using provider = open();
    await provider.create(spec);
    await provider.start(spec.machineId);
    await provider.destroy(spec.machineId);
    assert.deepEqual(await fixtures.leftovers(), []);
    for (const call of [
      () => provider.status(spec.machineId),
      () => provider.start(spec.machineId),
      () => provider.stop(spec.machineId, 0),
      () => provider.console(spec.machineId, CONSOLE_BYTES),
      () => provider.moveToLocalStorage(spec.machineId, () => undefined),
    ])
      await assert.rejects(call, OsrError);
  });

  test("the screen is given as a picture while the machine runs", async () => {
    await using served = await fixtures.serveSources();
    const spec = machineSpec(served.disks);
    await using provider = open();
    await provider.create(spec);
    await assert.rejects(() => provider.screenshot(spec.machineId), OsrError);
    await provider.start(spec.machineId);
    const picture = await provider.screenshot(spec.machineId);
    assert.equal(picture.toString("latin1", 1, 4), "PNG");
    await provider.destroy(spec.machineId);
    assert.deepEqual(await fixtures.leftovers(), []);
  });

  test("the console's end is given", async () => {
    await using served = await fixtures.serveSources();
    const spec = machineSpec(served.disks);
    await using provider = open();
    await provider.create(spec);
    assert.equal(await provider.console(spec.machineId, CONSOLE_BYTES), "");
    await provider.start(spec.machineId);
    await guestReads(provider, fixtures, spec.machineId, 3);
    await provider.stop(spec.machineId, 0);
    const all = await provider.console(spec.machineId, CONSOLE_BYTES);
    assert.equal(await provider.console(spec.machineId, 10), all.slice(-10));
    await provider.destroy(spec.machineId);
  });
}

function sources(open: () => ComputeProvider, fixtures: ComputeFixtures): void {
  test("a machine waits while its source is away, and never hears of it", async () => {
    await using served = await fixtures.serveSources();
    const spec = machineSpec(served.disks);
    await using provider = open();
    await provider.create(spec);
    await provider.start(spec.machineId);
    await guestReads(provider, fixtures, spec.machineId, 3);
    await served.pause();
    // Long enough for reads that are under way, and few in number, to be answered.
    await wait(300);
    const stalled = await report(provider, fixtures, spec.machineId);
    await wait(500);
    assert.equal((await report(provider, fixtures, spec.machineId)).readsDone, stalled.readsDone);
    await served.resume();
    await guestReads(provider, fixtures, spec.machineId, stalled.readsDone + 5);
    await provider.destroy(spec.machineId);
  });

  test("another shape is refused; another place of the sources is taken while it does not run", async () => {
    await using served = await fixtures.serveSources();
    const spec = machineSpec(served.disks);
    await using provider = open();
    await provider.create(spec);
    await assert.rejects(provider.create({ ...spec, cpuCount: spec.cpuCount + 1 }), OsrError);
    const moved = { ...spec, disks: await served.moved() };
    await provider.create(moved);
    await provider.start(spec.machineId);
    await guestReads(provider, fixtures, spec.machineId, 3);
    await assert.rejects(provider.create(spec), OsrError);
    await provider.destroy(spec.machineId);
  });
}

function localStorage(open: () => ComputeProvider, fixtures: ComputeFixtures): void {
  test("a machine moves to local storage while it runs, and no longer needs its source", async () => {
    await using served = await fixtures.serveSources();
    const digest = await served.digest();
    const spec = machineSpec(served.disks);
    const diskNames = spec.disks.map((disk) => disk.name);
    const progress: MoveProgress[] = [];
    {
      await using provider = open();
      await provider.create(spec);
      await assert.rejects(
        provider.moveToLocalStorage(spec.machineId, () => undefined),
        OsrError,
        "a machine that does not run is not moved",
      );
      await provider.start(spec.machineId);
      await guestReads(provider, fixtures, spec.machineId, 5);
      await assert.rejects(
        provider.moveToLocalStorage(
          spec.machineId,
          () => undefined,
          AbortSignal.abort(new Error("not now")),
        ),
        /not now/,
      );
      const stopping = new AbortController();
      await assert.rejects(
        provider.moveToLocalStorage(
          spec.machineId,
          () => stopping.abort(new Error("not any more")),
          stopping.signal,
        ),
        /not any more/,
      );
      assert.notDeepEqual((await provider.status(spec.machineId)).localDisks, diskNames);
      await provider.moveToLocalStorage(spec.machineId, (one) => progress.push(one));
      assert.deepEqual((await provider.status(spec.machineId)).localDisks, diskNames);
    }
    assert.equal(await served.digest(), digest, "the source was never written to");
    await served.pause();
    await using successor = open();
    await successor.moveToLocalStorage(spec.machineId, (one) => progress.push(one));
    assert.deepEqual((await successor.status(spec.machineId)).localDisks, diskNames);
    for (const [index, disk] of spec.disks.entries()) {
      const last = progress.findLast((one) => one.disk === disk.name);
      assert.deepEqual(last, {
        disk: diskNames[index],
        doneBytes: disk.sizeBytes,
        totalBytes: disk.sizeBytes,
      });
    }
    const { readsDone } = await report(successor, fixtures, spec.machineId);
    await guestReads(successor, fixtures, spec.machineId, readsDone + 10);
    await successor.stop(spec.machineId, GRACE_MS);
    await successor.start(spec.machineId);
    const { bootCounts } = await guestBoots(successor, fixtures, spec.machineId, 2);
    assert.deepEqual(bootCounts, [1, 2], "what the guest wrote before the move moved too");
    await successor.destroy(spec.machineId);
    assert.deepEqual(await fixtures.leftovers(), []);
  });
}

function networks(open: () => ComputeProvider, fixtures: ComputeFixtures): void {
  test("an isolated network has no way out, holds machines, and leaves nothing", async (t) => {
    if (typeof fixtures.networks === "string") {
      t.skip(fixtures.networks);
      return;
    }
    const { name, waysOut, hostNetwork } = fixtures.networks;
    const spec: NetworkSpec = {
      name,
      subnet: "10.231.77.0/24",
      gateway: "10.231.77.1",
      isolated: true,
      reservations: [
        { mac: "52:54:00:77:00:10", address: "10.231.77.10", hostName: "contract-guest" },
      ],
    };
    const hostBefore = await hostNetwork();
    await using served = await fixtures.serveSources();
    await using provider = open();
    const machine = {
      ...machineSpec(served.disks),
      nics: [{ network: name, mac: "52:54:00:77:00:10" }],
    };
    await assert.rejects(provider.create(machine), OsrError, "a network that is not there");
    await provider.ensureNetwork(spec);
    await provider.ensureNetwork(spec);
    await provider.ensureNetwork({ ...spec, reservations: [] });
    await provider.ensureNetwork(spec);
    await assert.rejects(provider.ensureNetwork({ ...spec, isolated: false }), OsrError);
    await provider.create(machine);
    await provider.start(machine.machineId);
    await guestReads(provider, fixtures, machine.machineId, 2);
    assert.deepEqual(await waysOut(name), []);
    assert.equal(await hostNetwork(), hostBefore, "the host has no new link and no new route");
    await assert.rejects(
      provider.probe(name, "10.231.77.1", 9, Buffer.alloc(0), {
        timeoutMs: 2000,
        replyBytesMax: 0,
      }),
      (error: unknown) => error instanceof OsrError && error.retryable,
      "nothing listens there",
    );
    await assert.rejects(provider.removeNetwork(name), OsrError, "a machine is attached");
    await provider.destroy(machine.machineId);
    await provider.removeNetwork(name);
    await provider.removeNetwork(name);
    assert.deepEqual(await fixtures.leftovers(), []);
    assert.equal(await hostNetwork(), hostBefore);
  });
}

function machineSpec(disks: MachineSpec["disks"]): MachineSpec {
  return {
    machineId: randomUuid(systemRandomness),
    name: "contract-guest",
    biosUuid: randomUuid(systemRandomness),
    firmware: "bios",
    cpuCount: 1,
    memoryBytes: 64 * MIB,
    disks,
    nics: [],
  };
}

async function report(
  provider: ComputeProvider,
  fixtures: ComputeFixtures,
  machineId: Uuid,
): Promise<GuestReport> {
  const said = fixtures.guestReport(await provider.console(machineId, CONSOLE_BYTES));
  assert.equal(said.readsWrong, 0, "the guest reads what its source holds");
  return said;
}

async function guestReads(
  provider: ComputeProvider,
  fixtures: ComputeFixtures,
  machineId: Uuid,
  readsMin: number,
): Promise<GuestReport> {
  return until(
    `the guest has read ${readsMin} blocks`,
    () => report(provider, fixtures, machineId),
    ({ readsDone }) => readsDone >= readsMin,
  );
}

async function guestBoots(
  provider: ComputeProvider,
  fixtures: ComputeFixtures,
  machineId: Uuid,
  count: number,
): Promise<GuestReport> {
  return until(
    `the guest has booted ${count} times`,
    () => report(provider, fixtures, machineId),
    ({ bootCounts }) => bootCounts.length >= count,
  );
}

async function stateOf(provider: ComputeProvider, machineId: Uuid): Promise<string> {
  return (await provider.status(machineId)).state;
}

async function until<T>(
  what: string,
  ask: () => Promise<T>,
  isMet: (answer: T) => boolean,
): Promise<T> {
  const endMs = performance.now() + GUEST_TIMEOUT_MS;
  for (;;) {
    const answer = await ask();
    if (isMet(answer)) return answer;
    assert.ok(performance.now() < endMs, `in time: ${what}; last: ${JSON.stringify(answer)}`);
    await wait(50);
  }
}
