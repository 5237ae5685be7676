import assert from "node:assert/strict";
import { test } from "node:test";

import { BLOCK_BYTES } from "@osr/base/block-range";
import type { PreparedFreeze } from "@osr/block-device/freezer";

import { ChangeIntake } from "./change-intake.ts";
import { KeptRuns } from "./kept-runs.ts";
import { FREEZE_MS_MAX, type QuietInstantPorts, readQuietInstant } from "./quiet-instant.ts";
import { Remainder } from "./remainder.ts";

/** A frozen machine whose every step can be made to go wrong. It fails where something happens in the wrong state. */
class Bench {
  readonly steps: string[] = [];
  frozen = false;
  nowMs = 1000;
  /** Changes that the drains find, first to last; then none. */
  changes: (number | "lost" | Error)[] = [];
  fail: Partial<Record<"freeze" | "read" | "thaw" | "hook" | "pause", Error>> = {};
  room = true;
  isSwapCurrent = true;
  readonly remainder = new Remainder(new KeptRuns(new Uint32Array(2)));

  run(more: Partial<QuietInstantPorts> = {}): ReturnType<typeof readQuietInstant> {
    const prepared: PreparedFreeze = {
      fileSystems: [],
      sync: () => Promise.reject(new Error("not now")),
      freeze: () => {
        this.#step("freeze", false);
        this.frozen = this.fail.freeze === undefined;
        this.#throw("freeze");
        return { frozen: [], synced: [] };
      },
      thaw: () => {
        this.steps.push("thaw");
        this.frozen = false;
        this.#throw("thaw");
      },
      release: () => Promise.reject(new Error("not now")),
      [Symbol.asyncDispose]: () => Promise.reject(new Error("not now")),
    };
    const tracker = {
      drain: () => {
        this.#step("drain", true);
        const changes = this.changes.shift() ?? 0;
        if (changes instanceof Error) throw changes;
        return changes === "lost" ? { changes: 0, lost: true } : { changes, lost: false };
      },
      mismatched: () => undefined,
    };
    const disk = {
      readRemainder: () => {
        this.#step("read", true);
        this.#throw("read");
        return this.room;
      },
    };
    return readQuietInstant({
      prepared,
      changes: new ChangeIntake(tracker),
      isSwapCurrent: () => this.isSwapCurrent,
      disks: [disk],
      remainder: this.remainder,
      clock: { monotonicMs: () => this.nowMs, unixMs: () => 1_700_000_000_123.5 },
      pause: (ms) => {
        this.#step("pause", true);
        this.#throw("pause");
        this.nowMs += ms;
      },
      quietWindow: "required",
      beforeThaw: () => {
        this.#step("hook", true);
        this.#throw("hook");
        this.nowMs += 70;
      },
      ...more,
    });
  }

  #step(name: string, frozen: boolean): void {
    assert.equal(this.frozen, frozen, `${name} while ${this.frozen ? "" : "not "}frozen`);
    this.steps.push(name);
  }

  #throw(step: keyof Bench["fail"]): void {
    if (this.fail[step] !== undefined) throw this.fail[step];
  }
}

const PROOF = ["drain", "read", "drain", "pause", "drain"];

test("freeze, drain, read, drain twice, hook, thaw: in this order, once, and nothing else", () => {
  const bench = new Bench();
  const instant = bench.run();
  assert.deepEqual(bench.steps, ["freeze", ...PROOF, "hook", "thaw"]);
  assert.deepEqual(instant, { kind: "proven", unixMs: 1_700_000_000_123, frozenMs: 2, heldMs: 70 });
});

test("changes before drain A do no harm; changes after it mean once more", () => {
  const quiet = new Bench();
  quiet.changes = [5];
  assert.equal(quiet.run().kind, "proven");
  assert.deepEqual(quiet.steps, ["freeze", ...PROOF, "hook", "thaw"]);
  for (const changes of [
    [0, 1],
    [0, 0, 1],
  ]) {
    const bench = new Bench();
    bench.changes = changes;
    assert.equal(bench.run().kind, "proven");
    assert.deepEqual(bench.steps, ["freeze", ...PROOF, ...PROOF, "hook", "thaw"]);
  }
});

test("a machine that never stands still is thawed after its time, without a point", () => {
  const bench = new Bench();
  bench.changes = Array.from({ length: 10_000 }, () => 1);
  assert.deepEqual(bench.run(), { kind: "busy" });
  assert.ok(bench.nowMs - 1000 >= FREEZE_MS_MAX && bench.nowMs - 1000 < FREEZE_MS_MAX + 10);
  assert.equal(bench.steps.at(-1), "thaw");
  assert.ok(!bench.steps.includes("hook"));
});

test("with the planted fault, changes between the drains go unnoticed", () => {
  const bench = new Bench();
  bench.changes = [0, 1, 1];
  assert.equal(bench.run({ quietWindow: "unchecked" }).kind, "proven");
});

for (const [name, prepare, kind] of [
  ["the freeze fails", (b: Bench) => (b.fail.freeze = new Error("busy")), "failed"],
  ["a disk cannot be read", (b: Bench) => (b.fail.read = new Error("EIO")), "failed"],
  ["the wait fails", (b: Bench) => (b.fail.pause = new Error("?")), "failed"],
  ["the hook fails", (b: Bench) => (b.fail.hook = new Error("nobody")), "failed"],
  ["the guard thawed first", (b: Bench) => (b.fail.thaw = new Error("guard")), "failed"],
  ["the remainder does not fit", (b: Bench) => (b.room = false), "noRoom"],
  ["events are lost at A", (b: Bench) => (b.changes = ["lost"]), "lost"],
  ["events are lost at B", (b: Bench) => (b.changes = [0, 0, "lost"]), "lost"],
  ["events cannot be read", (b: Bench) => (b.changes = [0, new Error("EIO")]), "lost"],
] as const)
  test(`nothing stays frozen and no point is proven where ${name}`, () => {
    const bench = new Bench();
    prepare(bench);
    assert.equal(bench.run().kind, kind);
    assert.equal(bench.frozen, false);
    assert.equal(bench.steps.filter((step) => step === "thaw").length, 1);
    assert.equal(bench.steps.at(-1), "thaw");
  });

test("lost events make all disks distrusted, before whoever drains goes on", () => {
  const drains = [{ changes: 0, lost: true }];
  const reasons: string[] = [];
  const disk = {
    changed: () => undefined,
    changedBlocks: () => undefined,
    distrust: (reason: string) => reasons.push(reason),
  };
  const intake = new ChangeIntake({
    drain: () => drains.shift() ?? { changes: 0, lost: false },
    mismatched: () => undefined,
  });
  for (const index of [0, 1]) intake.add(index, disk);
  assert.equal(intake.drain(), "lost");
  assert.deepEqual(reasons, ["TRACKING_LOST", "TRACKING_LOST"]);
  assert.equal(intake.drain(), 0);
});

test("where areas of swap changed by the last drain, there is no instant", () => {
  const bench = new Bench();
  bench.isSwapCurrent = false;
  assert.equal(bench.run().kind, "swapChanged");
  assert.equal(bench.frozen, false);
});

test("the remainder takes runs of several disks until it is full", () => {
  const remainder = new Remainder(new KeptRuns(new Uint32Array(2)));
  const room = remainder.memory.length / BLOCK_BYTES;
  remainder.push(0, 7, 256);
  remainder.push(1, 2 ** 32 - 1, 1);
  assert.equal(remainder.roomBlocks, room - 257);
  assert.equal(remainder.starts[1], 2 ** 32 - 1);
  remainder.clear();
  for (let run = 0; run < room; run++) remainder.push(0, run * 2, 1);
  assert.equal(remainder.roomBlocks, 0);
  assert.throws(() => remainder.push(0, 0, 1), { code: "INTERNAL_ASSERTION" });
});
