import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { uuidOfName } from "@osr/base/uuid";

import { down } from "./down.ts";

test("a site is deleted only where it is the one that is meant, and nothing lives in it", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "osr-d-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  await assert.rejects(down({ directory }), { code: "SITE_NOT_FOUND" });
  const vaultId = uuidOfName("vault");
  const site = {
    vaultId,
    siteId: uuidOfName("site"),
    host: "127.0.0.1",
    processServerPort: 1,
    storageAccountPort: 2,
  };
  writeFileSync(join(directory, "site.json"), JSON.stringify(site));
  await assert.rejects(down({ directory, delete: site.siteId }), { code: "SITE_IS_ANOTHER" });
  const machine = join(directory, "replicas/12345678/machines", uuidOfName("machine"));
  mkdirSync(machine, { recursive: true });
  await assert.rejects(down({ directory, delete: vaultId }), { code: "SITE_HAS_MACHINES" });
  assert.equal(existsSync(machine), true);
  assert.deepEqual(await down({ directory }), { site: directory, ended: [], deleted: false });
  rmSync(machine, { recursive: true });
  await down({ directory, delete: vaultId });
  assert.equal(existsSync(directory), false);
});
