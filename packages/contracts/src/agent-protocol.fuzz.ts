import assert from "node:assert/strict";

import * as fc from "fast-check";

import { OsrError } from "@osr/base/errors";
import { type Shape, parseJson } from "@osr/base/json-shape";
import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { uuidOfName } from "@osr/base/uuid";

import {
  batchReplyShape,
  comparisonReplyShape,
  comparisonRequestShape,
  heartbeatReplyShape,
  heartbeatRequestShape,
  sessionReplyShape,
  sessionRequestShape,
} from "./agent-protocol.ts";

const SHAPES: readonly Shape<unknown>[] = [
  sessionRequestShape,
  sessionReplyShape,
  batchReplyShape,
  heartbeatRequestShape,
  heartbeatReplyShape,
  comparisonRequestShape,
  comparisonReplyShape,
];

const diskId = uuidOfName("disk");
const acked = { diskId, spooledInterval: 1, spooledRecordNo: 0, vaultedInterval: 0 };
const machine = {
  hostName: "m",
  biosUuid: diskId,
  operatingSystem: "Debian",
  kernel: "6.12",
  firmware: "bios",
  cpuCount: 2,
  memoryBytes: 2 ** 30,
};
const WHOLE: readonly object[] = [
  {
    protocol: 1,
    epoch: 1,
    agentVersion: "1",
    machine,
    disks: [{ identity: "serial:a", name: "vda", sizeBytes: 4096, isBoot: true }],
  },
  { groupId: diskId, newestSlot: -1, disks: [{ ...acked, identity: "a", nextInterval: 1 }] },
  { ...acked, delayMs: 0 },
  { epoch: 1, pointsMissed: 0, health: [{ code: "A", message: "b", hint: "c" }] },
  { disks: [acked], delayMs: 0 },
  { epoch: 1 },
  { headSeq: 1, blockCount: 1, key: "00" },
];

/** A body that was whole, with the value at some path replaced. */
const changed = fc
  .tuple(
    fc.nat(WHOLE.length - 1),
    fc.array(fc.nat(9), { maxLength: 4 }),
    fc.oneof(fc.anything(), fc.jsonValue(), fc.constantFrom("__proto__", -1, 2 ** 60, [], {}, "")),
  )
  .map(([which, path, value]) => {
    const root: { body: unknown } = { body: structuredClone(WHOLE[which]) };
    let holder: Record<string, unknown> = root;
    let key = "body";
    for (const step of path) {
      const inner = holder[key];
      if (typeof inner !== "object" || inner === null) break;
      holder = inner as Record<string, unknown>;
      key = Object.keys(holder)[step % Object.keys(holder).length] ?? "other";
    }
    holder[key] = value;
    return textOf(root.body);
  });

function textOf(value: unknown): string {
  try {
    return JSON.stringify(value) ?? "";
  } catch {
    return "{";
  }
}

export const agentProtocolFuzz = fuzzTarget(
  "agent-protocol",
  "JSON bodies of the agent protocol: refused by field, or read as a value of the shape",
  fc.property(fc.nat(SHAPES.length - 1), fc.oneof(changed, fc.string()), (which, text) => {
    const shape = SHAPES[which]!;
    try {
      const read = parseJson(text, shape);
      assert.deepEqual(parseJson(JSON.stringify(read), shape), read);
    } catch (error) {
      if (!(error instanceof OsrError) || error.code !== "INPUT_INVALID") throw error;
    }
  }),
);
