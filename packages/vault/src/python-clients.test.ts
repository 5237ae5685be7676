import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import { must } from "@osr/base/assert";

import { startTestPostgres } from "./testing/test-database.ts";
import { type Life, SLOTS, newLife } from "./testing/test-life.ts";
import { replicate } from "./testing/test-replication.ts";
import { SUBSCRIPTION } from "./testing/test-vault.ts";

const SCRIPT = join(import.meta.dirname, "../../../interop/clients/life-cycle.py");
/** Debian's, which has the package python3-azure. */
const PYTHON = "/usr/bin/python3";
const STEP_MS_MAX = 120_000;
const run = promisify(execFile);

/** Why there are no Python clients here. */
async function missingClients(): Promise<string | undefined> {
  try {
    await run(PYTHON, ["-c", "import azure.mgmt.recoveryservicessiterecovery"]);
    return undefined;
  } catch {
    return "Microsoft's Python clients are not installed (apt-get install python3-azure)";
  }
}

/** Runs one step of the script against the vault of `life`. */
async function step(life: Life, folder: string, word: string): Promise<any> {
  const { stdout } = await run(PYTHON, [SCRIPT, word], {
    timeout: STEP_MS_MAX,
    env: {
      VAULT_URL: life.vault.url,
      VAULT_CA: join(folder, "ca.pem"),
      VAULT_TOKEN_FILE: join(folder, "token"),
      SUBSCRIPTION,
      MACHINE_ID: life.machineId,
    },
  });
  return JSON.parse(stdout);
}

test("Microsoft's Python clients drive the life of a machine, from its policy to its failover and out", async (t) => {
  const missing = await missingClients();
  if (missing !== undefined) return t.skip(missing);
  const folder = mkdtempSync(join(tmpdir(), "osr-python-"));
  t.after(() => rmSync(folder, { recursive: true }));
  await using postgres = await startTestPostgres();
  await using life = await newLife(postgres);
  writeFileSync(join(folder, "ca.pem"), life.vault.authorityPem);
  writeFileSync(join(folder, "token"), life.vault.token, { mode: 0o600 });

  assert.deepEqual(await step(life, folder, "enable"), { state: "InitialReplicationPending" });
  await replicate(life.store, life.fabric.vaultId, must(await life.wish(), "wish"), SLOTS);
  await life.latest(12);
  const { jobs, ...told } = await step(life, folder, "fail-over");
  assert.deepEqual(told, {
    points: ["CrashConsistent", "AppConsistent", "CrashConsistent"],
    tested: "WaitingForCompletion",
    cleaned: "None",
    failedOver: "UnplannedFailoverCommitPending",
    committed: "UnplannedFailoverCommitted",
    items: 0,
  });
  for (const kind of ["TestFailover", "UnplannedFailover", "ApplyRecoveryPoint", "DisableDr"])
    assert.ok(jobs.includes(kind), `${kind} in ${jobs}`);
});
