import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const SKIP = process.platform !== "linux" && "the settings are glibc's";
const MODULE = JSON.stringify(new URL("./kept-memory.ts", import.meta.url).href);

test(
  "the process becomes one with the settings, its words and its flags stay",
  { skip: SKIP },
  (t) => {
    const folder = mkdtempSync(join(tmpdir(), "osr-memory-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const main = join(folder, "main.mjs");
    writeFileSync(
      main,
      `const { keepFreedMemory } = await import(${MODULE});
     const { pid, env, argv, execArgv } = process;
     const starts = (env.STARTS ?? "") + pid + " ";
     env.STARTS = starts;
     keepFreedMemory();
     const { MALLOC_MMAP_THRESHOLD_: map, MALLOC_TRIM_THRESHOLD_: trim } = env;
     process.stdout.write(JSON.stringify({ starts, map, trim, words: argv.slice(2), execArgv }));`,
    );
    const { stdout, stderr } = spawnSync(
      process.execPath,
      ["--no-deprecation", main, "run", "--config"],
      { encoding: "utf8", timeout: 30_000 },
    );
    assert.equal(stderr, "");
    const { starts, ...rest } = JSON.parse(stdout) as { readonly starts: string };
    const [first, second, third] = starts.split(" ");
    assert.deepEqual([second, third], [first, ""]);
    assert.deepEqual(rest, {
      map: "8388608",
      trim: "67108864",
      words: ["run", "--config"],
      execArgv: ["--no-deprecation"],
    });
  },
);
