import assert from "node:assert/strict";
import { test } from "node:test";

import { silentLog } from "@osr/base/log";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import type { MobilityService } from "@osr/mobility-service/mobility-service";

import { superviseMachine } from "./machine-supervisor.ts";
import type { MachineSettings, SettingsSource } from "./settings-source.ts";

const FIRST: MachineSettings = {
  isProtected: true,
  excludedDisks: [],
  resyncRequest: 0,
  pointIntervalSeconds: 15,
};

test("other settings change the replication that runs; only its end stops it", async () => {
  const done: string[] = [];
  const over = new AbortController();
  let current = FIRST;
  let next = Promise.withResolvers<void>();
  const tell = async (change: Partial<MachineSettings>): Promise<void> => {
    current = { ...current, ...change };
    const { resolve } = next;
    next = Promise.withResolvers();
    resolve();
    await new Promise((resolved) => void setImmediate(resolved));
  };
  const source: SettingsSource = {
    get current() {
      return current;
    },
    get processServers(): never {
      throw new Error("nobody asks");
    },
    certificatePem: "",
    isPatient: true,
    changed: (signal) =>
      Promise.race([
        next.promise,
        new Promise<void>((resolve) =>
          signal.addEventListener("abort", () => resolve(), { once: true }),
        ),
      ]),
    note: () => undefined,
  };
  const open = async (): ReturnType<Parameters<typeof superviseMachine>[0]["open"]> => {
    done.push("open");
    const stopped = Promise.withResolvers<void>();
    const service: Partial<MobilityService> = {
      run: () => stopped.promise,
      stop: async () => stopped.resolve(),
      setIntervals: ({ pointSeconds }) => void done.push(`every ${pointSeconds} s`),
      requestResync: () => void done.push("resync"),
    };
    return {
      service: service as MobilityService,
      exclude: (disks) => void done.push(`without ${disks.join()}`),
      [Symbol.asyncDispose]: async () => void done.push("close"),
    };
  };
  const writeIdle = async (): Promise<void> => void done.push("idle");
  const ports = { source, open, writeIdle, scheduler: systemScheduler, log: silentLog };
  const running = superviseMachine(ports, over.signal);
  await tell({ excludedDisks: ["serial:b"] });
  await tell({ resyncRequest: 1, excludedDisks: [] });
  await tell({ isProtected: false });
  over.abort();
  await running;
  // The first change came while the disks were being opened.
  const expected = ["open", "without serial:b", "every 15 s", "without ", "every 15 s", "resync"];
  assert.deepEqual(done, [...expected, "close", "idle"]);
});
