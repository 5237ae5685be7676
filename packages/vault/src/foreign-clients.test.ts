import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { access } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import { must } from "@osr/base/assert";

import { startTestPostgres } from "./testing/test-database.ts";
import { type Life, SLOTS, newLife } from "./testing/test-life.ts";
import { replicate } from "./testing/test-replication.ts";
import { SUBSCRIPTION } from "./testing/test-vault.ts";

/** What users of Microsoft's clients in other languages write. */
const CLIENTS = join(import.meta.dirname, "../../../interop/clients");
/** Debian's, which has the package python3-azure. */
const PYTHON = "/usr/bin/python3";
const GO = "/usr/bin/go";
const GO_PATH = "/usr/share/gocode";
const GO_CLIENT = `${GO_PATH}/src/github.com/Azure/azure-sdk-for-go/services/recoveryservices`;
const STEP_MS_MAX = 120_000;
const BUILD_MS_MAX = 600_000;
const run = promisify(execFile);

type Program = { readonly file: string; readonly words: readonly string[] };
type Language = {
  readonly name: string;
  /** Its package of Debian. */
  readonly needs: string;
  /** Rejects where the clients are not installed. */
  readonly look: () => Promise<unknown>;
  readonly program: (folder: string) => Promise<Program>;
};

const LANGUAGES: readonly Language[] = [
  {
    name: "Python",
    needs: "python3-azure",
    look: () => run(PYTHON, ["-c", "import azure.mgmt.recoveryservicessiterecovery"]),
    program: () => Promise.resolve({ file: PYTHON, words: [join(CLIENTS, "life-cycle.py")] }),
  },
  {
    name: "Go",
    needs: "golang-go golang-github-azure-azure-sdk-for-go-dev",
    look: () => Promise.all([access(GO), access(GO_CLIENT)]),
    program: async (folder) => {
      const file = join(folder, "life-cycle");
      await go(folder, "build", "-o", file, join(CLIENTS, "life-cycle.go"));
      return { file, words: [] };
    },
  },
];

/** With Debian's sources; its cache is kept in the folder. */
function go(folder: string, ...words: readonly string[]): Promise<unknown> {
  const env = {
    GOPATH: GO_PATH,
    GO111MODULE: "off",
    GOCACHE: join(folder, "go-cache"),
    PATH: "/usr/bin:/bin",
  };
  return run(GO, [...words], { env, timeout: BUILD_MS_MAX });
}

for (const { name, needs, look, program } of LANGUAGES)
  test(`Microsoft's ${name} client drives the life of a machine, from its policy to its failover and out`, async (t) => {
    const isThere = await look().then(
      () => true,
      () => false,
    );
    if (!isThere) return t.skip(`Microsoft's ${name} client is not installed (${needs})`);
    const folder = mkdtempSync(join(tmpdir(), "osr-clients-"));
    t.after(() => rmSync(folder, { recursive: true }));
    await using postgres = await startTestPostgres();
    await using life = await newLife(postgres);
    writeFileSync(join(folder, "ca.pem"), life.vault.authorityPem);
    writeFileSync(join(folder, "token"), life.vault.token, { mode: 0o600 });
    const built = await program(folder);
    const step = (word: string): Promise<unknown> => stepOf(built, life, folder, word);

    assert.deepEqual(await step("enable"), { state: "InitialReplicationPending" });
    await replicate(life.store, life.fabric.vaultId, must(await life.wish(), "wish"), SLOTS);
    await life.latest(12);
    assert.deepEqual(await step("fail-over"), {
      points: ["CrashConsistent", "AppConsistent", "CrashConsistent"],
      tested: "WaitingForCompletion",
      cleaned: "None",
      failedOver: "UnplannedFailoverCommitPending",
      committed: "UnplannedFailoverCommitted",
      items: 0,
    });
  });

/** Runs one step of a program against the vault of `life`. */
async function stepOf(
  { file, words }: Program,
  life: Life,
  folder: string,
  word: string,
): Promise<unknown> {
  const { stdout } = await run(file, [...words, word], {
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
