import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";

import { AlignedBufferPool, alignedBuffer } from "./aligned-buffer.ts";

test("every buffer of a pool is fit for O_DIRECT", (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "osr-aligned-"));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const file = path.join(folder, "file");
  fs.writeFileSync(file, Buffer.alloc(8192, 7));
  let fd: number;
  try {
    fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_DIRECT);
  } catch {
    t.skip(`${folder} is on a file system without O_DIRECT`);
    return;
  }
  t.after(() => fs.closeSync(fd));
  const pool = new AlignedBufferPool({ bufferBytes: 8192, count: 3 });
  for (let buffer = pool.take(); buffer !== undefined; buffer = pool.take()) {
    assert.equal(fs.readSync(fd, buffer, 0, 8192, 0), 8192);
    assert.deepEqual(buffer, Buffer.alloc(8192, 7));
  }
});

test("a pool ends, and takes back only what is its own, once", () => {
  const pool = new AlignedBufferPool({ bufferBytes: 4096, count: 2 });
  const first = pool.take();
  const second = pool.take();
  assert.ok(first !== undefined && second !== undefined);
  assert.notEqual(first.byteOffset, second.byteOffset);
  assert.equal(pool.take(), undefined);
  pool.give(first);
  assert.throws(() => pool.give(first), { code: "INTERNAL_ASSERTION" });
  assert.throws(() => pool.give(Buffer.alloc(4096)), { code: "INTERNAL_ASSERTION" });
  assert.equal(pool.freeCount, 1);
  assert.equal(pool.take(), first);
});

test("buffers that cannot be aligned are refused", () => {
  assert.throws(() => alignedBuffer(0), { code: "INTERNAL_ASSERTION" });
  assert.throws(() => new AlignedBufferPool({ bufferBytes: 512, count: 1 }), {
    code: "INTERNAL_ASSERTION",
  });
  assert.equal(alignedBuffer(5000).length, 5000);
});
