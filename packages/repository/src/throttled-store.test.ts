import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";

import type { Clock } from "@osr/base/clock";
import { systemRandomness as randomness } from "@osr/base/platform/system-randomness";
import type { Scheduler } from "@osr/base/scheduler";
import { MIB } from "@osr/base/units";

import { openDirectoryStore } from "./directory-store.ts";
import { objectStoreContract } from "./object-store.contract.ts";
import { type ObjectStore, bodyOf } from "./object-store.ts";
import { TokenBucket } from "./throttled-store-bucket.ts";
import { throttledStore } from "./throttled-store.ts";

/** A clock that stands still but for the sleeps, which take no real time. */
function virtualTime(): Clock & Scheduler & { nowMs: number } {
  const time = {
    nowMs: 1000,
    unixMs: () => time.nowMs,
    monotonicMs: () => time.nowMs,
    sleep: (ms: number, signal?: AbortSignal) => {
      signal?.throwIfAborted();
      time.nowMs += ms;
      return Promise.resolve();
    },
    after: () => ({ [Symbol.dispose]: () => undefined }),
  };
  return time;
}

async function temporaryStore(): Promise<{ inner: ObjectStore } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "osr-throttled-store-"));
  return {
    inner: await openDirectoryStore(path, { access: "write", randomness }),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true }),
  };
}

objectStoreContract("throttled store", async () => {
  const { inner, ...disposable } = await temporaryStore();
  const time = virtualTime();
  return {
    store: throttledStore(inner, {
      uploadBytesPerSecond: MIB,
      downloadBytesPerSecond: MIB,
      clock: time,
      scheduler: time,
    }),
    ...disposable,
  };
});

suite("throttled store", () => {
  test("bodies take as long as their bytes allow, in both directions, apart from each other", async () => {
    await using opened = await temporaryStore();
    const time = virtualTime();
    const store = throttledStore(opened.inner, {
      uploadBytesPerSecond: 2 * MIB,
      downloadBytesPerSecond: 4 * MIB,
      clock: time,
      scheduler: time,
    });
    let startMs = time.nowMs;
    for (const name of ["a", "b"]) await store.create(name, bodyOf(Buffer.alloc(8 * MIB)));
    // 16 MiB at 2 MiB/s, less the burst of a quarter of a second.
    assert.equal(Math.round(time.nowMs - startMs), 7750);
    startMs = time.nowMs;
    await store.read("a", 0, Buffer.alloc(8 * MIB));
    assert.equal(Math.round(time.nowMs - startMs), 1750);
    await store.head("a");
    await store.list("");
    assert.equal(Math.round(time.nowMs - startMs), 1750);
  });

  test("a direction without a rate is not slowed", async () => {
    await using opened = await temporaryStore();
    const time = virtualTime();
    const store = throttledStore(opened.inner, { clock: time, scheduler: time });
    await store.create("a", bodyOf(Buffer.alloc(8 * MIB)));
    await store.read("a", 0, Buffer.alloc(8 * MIB));
    assert.equal(time.nowMs, 1000);
  });

  test("takers of a bucket share its rate, in their order", async () => {
    const time = virtualTime();
    const waits: number[] = [];
    const scheduler: Scheduler = {
      ...time,
      sleep: (ms) => {
        waits.push(Math.round(ms));
        return Promise.resolve();
      },
    };
    const bucket = new TokenBucket({
      bytesPerSecond: 1000,
      burstBytes: 500,
      clock: time,
      scheduler,
    });
    await Promise.all([500, 1000, 1, 2000].map((bytes) => bucket.take(bytes)));
    assert.deepEqual(waits, [1000, 1001, 3001]);
    time.nowMs += 60_000;
    await bucket.take(500);
    assert.equal(waits.length, 3);
  });

  test("waiting ends with the signal", async () => {
    const time = virtualTime();
    const bucket = new TokenBucket({
      bytesPerSecond: 1,
      burstBytes: 1,
      clock: time,
      scheduler: time,
    });
    const reason = new Error("enough");
    const signal = AbortSignal.abort(reason);
    await assert.rejects(bucket.take(1000, signal), (error) => error === reason);
  });
});
