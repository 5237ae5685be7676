import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";

import { type Artefact, cachedArtefact } from "./artefact-cache.ts";
import { silentNarrator } from "./narrator.ts";

async function ownCache(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "osr-cache-test-"));
  const before = process.env["OSR_CACHE_DIRECTORY"];
  process.env["OSR_CACHE_DIRECTORY"] = directory;
  t.after(async () => {
    if (before === undefined) delete process.env["OSR_CACHE_DIRECTORY"];
    else process.env["OSR_CACHE_DIRECTORY"] = before;
    await rm(directory, { recursive: true });
  });
  return join(directory, "rig");
}

function artefact(recipe: string, built: string[]): Artefact {
  return {
    name: "thing",
    recipe: [recipe],
    async build(directory) {
      built.push(recipe);
      await wait(50);
      await writeFile(join(directory, "content"), recipe);
    },
  };
}

test("an artefact is built once for each recipe, also by two runs at once", async (t) => {
  await ownCache(t);
  const built: string[] = [];
  const [first, second] = await Promise.all([
    cachedArtefact(artefact("a", built), silentNarrator),
    cachedArtefact(artefact("a", built), silentNarrator),
  ]);
  assert.equal(first, second);
  assert.equal(await readFile(join(first, "content"), "utf8"), "a");
  const other = await cachedArtefact(artefact("b", built), silentNarrator);
  assert.notEqual(other, first);
  assert.equal(await cachedArtefact(artefact("a", built), silentNarrator), first);
  assert.deepEqual(built, ["a", "b"]);
});

test("a build that fails leaves nothing, and the next one is tried afresh", async (t) => {
  const root = await ownCache(t);
  const failing: Artefact = {
    ...artefact("a", []),
    async build(directory) {
      await writeFile(join(directory, "half"), "");
      throw new Error("planted");
    },
  };
  await assert.rejects(cachedArtefact(failing, silentNarrator), /planted/);
  assert.deepEqual(await readdir(root), []);
  const directory = await cachedArtefact(artefact("a", []), silentNarrator);
  assert.deepEqual(await readdir(directory), ["content"]);
});

test("old versions go, the newest by use stay", async (t) => {
  await ownCache(t);
  const a = await cachedArtefact(artefact("a", []), silentNarrator);
  const b = await cachedArtefact(artefact("b", []), silentNarrator);
  await wait(20);
  await cachedArtefact(artefact("a", []), silentNarrator);
  await wait(20);
  const c = await cachedArtefact(artefact("c", []), silentNarrator);
  assert.deepEqual([existsSync(a), existsSync(b), existsSync(c)], [true, false, true]);
});
