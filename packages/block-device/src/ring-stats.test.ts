import assert from "node:assert/strict";
import { test } from "node:test";

import { parseRingStats } from "./ring-stats.ts";

const TEXT = `entries: 17
overrun: 5
commit overrun: 20
bytes: 9520
oldest event ts:  1844.878328
now ts:  1850.000001
dropped events: 300
read events: 123456789
`;

function parse(text: string): { complete: boolean; lost: number; read: number } {
  const bytes = new TextEncoder().encode(text);
  const stats = { lost: -1, read: -1 };
  const complete = parseRingStats(bytes, bytes.length, stats);
  return { complete, ...stats };
}

test("sums what is lost and takes what was read", () => {
  assert.deepEqual(parse(TEXT), { complete: true, lost: 325, read: 123_456_789 });
});

test("the next text does not see the one before", () => {
  const bytes = Buffer.alloc(1024);
  const stats = { lost: 0, read: 0 };
  bytes.write(TEXT);
  parseRingStats(bytes, TEXT.length, stats);
  const quiet = TEXT.replace(": 5", ": 0").replace(": 20", ": 0").replace(": 300", ": 0");
  bytes.write(quiet);
  assert.equal(parseRingStats(bytes, quiet.length, stats), true);
  assert.equal(stats.lost, 0);
});

test("a counter that is missing or cut off is noticed", () => {
  assert.equal(parse(TEXT.replace("dropped events", "dropped")).complete, false);
  assert.equal(parse(TEXT.slice(0, TEXT.indexOf("read"))).complete, false);
  assert.equal(parse("").complete, false);
});
