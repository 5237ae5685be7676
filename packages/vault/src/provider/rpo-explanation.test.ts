import assert from "node:assert/strict";
import { test } from "node:test";

import type { MachineReplicationFacts } from "@osr/contracts/replication-facts";

import { explainRpo } from "./rpo-explanation.ts";

const disk = {
  identity: "serial:a",
  name: "vda",
  sizeBytes: 2 ** 30,
  stage: "delta",
  progressPermille: 1000,
  dirtyBytes: 100,
  pendingUploadBytes: 3000,
  readBytes: 0,
  sentBytes: 0,
} as const;
const machine: MachineReplicationFacts = {
  state: "protected",
  agentVersion: "1",
  pointsMade: 1,
  pointsMissed: 0,
  disks: [disk, { ...disk, name: "vdb", dirtyBytes: 50, secondsLeft: 7 }],
  health: [],
};
const facts = {
  machine,
  uploadBytesPerSecond: 1000,
  newestPointUnixMs: 1_000_000,
  pointIntervalSeconds: 300,
  nowUnixMs: 1_000_000 + 900_000,
};

test("what waits is told by hop, with the time that it takes, and where most of it is", () => {
  const { rpoSeconds, hops, slowestHop, summary } = explainRpo(facts);
  assert.equal(rpoSeconds, 900);
  assert.deepEqual(
    hops.map(({ hop, pendingBytes, secondsLeft }) => [hop, pendingBytes, secondsLeft]),
    [
      ["source", 150, 7],
      ["processServer", 6000, undefined],
      ["upload", 6000, 6],
      ["apply", 0, 0],
    ],
  );
  assert.equal(slowestHop, "upload");
  assert.match(summary, /900 s old.*waits at: upload/);
});

test("a point that is younger than two intervals is as it should be", () => {
  const { summary } = explainRpo({ ...facts, nowUnixMs: 1_000_000 + 400_000 });
  assert.match(summary, /as it should be/);
});

test("without a report and without a point there is nothing to reckon with", () => {
  const explained = explainRpo({
    ...facts,
    machine: undefined,
    newestPointUnixMs: undefined,
    uploadBytesPerSecond: undefined,
  });
  assert.equal("rpoSeconds" in explained, false);
  assert.equal(explained.slowestHop, undefined);
  assert.ok(explained.hops.every(({ pendingBytes }) => pendingBytes === 0));
  assert.match(explained.summary, /no recovery point yet/);
});
