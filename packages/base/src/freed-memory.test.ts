import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

const isGlibc = (process.report.getReport() as { header: { glibcVersionRuntime?: string } }).header
  .glibcVersionRuntime;
const SKIP = isGlibc === undefined && "the C library is not glibc";
const ROUNDS = 50;
/** Of one round. */
const PAGES = 16 * 256;

test("memory that was freed is taken again without page faults", { skip: SKIP }, () => {
  const url = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href);
  const faults = (isKept: boolean): number => {
    const program = `
      const { freeBuffer } = await import(${url("./free-buffer.ts")});
      const { keepFreedMemory } = await import(${url("./freed-memory.ts")});
      if (${isKept}) keepFreedMemory(${32 * 2 ** 20});
      const round = () => {
        const buffers = Array.from({ length: 16 }, () => Buffer.allocUnsafeSlow(${2 ** 20}).fill(1));
        for (const buffer of buffers) freeBuffer(buffer);
      };
      round();
      const before = process.resourceUsage().minorPageFault;
      for (let i = 0; i < ${ROUNDS}; i++) round();
      process.stdout.write(String(process.resourceUsage().minorPageFault - before));`;
    const { stdout, stderr } = spawnSync(
      process.execPath,
      ["--input-type=module", "--eval", program],
      { encoding: "utf8", timeout: 60_000 },
    );
    assert.equal(stderr, "");
    return Number(stdout);
  };
  // Each round touches all its pages. How many of them are given back and taken anew depends on what glibc has learnt by then.
  const without = faults(false);
  const kept = faults(true);
  assert.ok(kept < PAGES && kept * 10 < without, `${kept} faults, ${without} without it`);
});
