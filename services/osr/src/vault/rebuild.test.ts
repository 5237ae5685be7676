import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import { systemScheduler } from "@osr/base/platform/system-scheduler";

import { startRoleChild } from "../testing/role-child.ts";
import { startTestAccount } from "../testing/test-account.ts";

const MAIN = join(import.meta.dirname, "../main.ts");
const VAULT =
  "/subscriptions/s/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/v?api-version=1";
const SEALED_POLL_MS = 50;

/** A storage account that runs, and the folder of a vault that uses it. */
async function place(): Promise<
  AsyncDisposable & { folder: string; config: string; account: string }
> {
  const folder = mkdtempSync(join(tmpdir(), "osr-rebuild-"));
  // PostgreSQL's user passes through.
  chmodSync(folder, 0o711);
  const file = (name: string, content: string): string => {
    writeFileSync(join(folder, name), content, { mode: 0o600 });
    return name;
  };
  const account = await startTestAccount(folder);
  const { tokenFile } = account.access;
  const config = file(
    "config.json",
    JSON.stringify({
      listen: { host: "127.0.0.1", port: 0, names: ["127.0.0.1"] },
      directory: "vault",
      storageAccount: account.access,
      ingestTokenFile: tokenFile,
      readerTokenFile: tokenFile,
      vaultKeyFile: file("vault.key", "07".repeat(32)),
      replicaHostSocket: "host.sock",
    }),
  );
  return {
    folder,
    config: join(folder, config),
    account: account.directory,
    [Symbol.asyncDispose]: async () => {
      await account[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function osr(...words: string[]): Promise<any> {
  const run = promisify(execFile);
  const { stdout } = await run(process.execPath, [MAIN, ...words, "-o", "json"]);
  return JSON.parse(stdout);
}

async function ownerToken(at: { folder: string; config: string }, name: string): Promise<string> {
  const out = join(at.folder, `${name}.token`);
  const words = ["--config", at.config, "--name", name, "--role", "Owner", "--out", out];
  await osr("token", "create", ...words);
  return readFileSync(out, "utf8").trim();
}

async function ask(
  at: { folder: string; port: number },
  method: string,
  token: string,
): Promise<{ status: number | undefined; body: any }> {
  const ca = readFileSync(join(at.folder, "vault/authority.pem"), "utf8");
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const outgoing = request(`https://127.0.0.1:${at.port}${VAULT}`, { method, ca, headers });
  outgoing.end(method === "PUT" ? JSON.stringify({ location: "here", tags: { a: "b" } }) : "");
  const [message] = await once(outgoing, "response");
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return { status: message.statusCode, body: JSON.parse(Buffer.concat(chunks).toString("utf8")) };
}

/** Sealed objects in the account, by now. */
async function sealed(at: { config: string; account: string }): Promise<void> {
  for (;;) {
    const names = await readdir(at.account, { recursive: true });
    if (names.some((name) => name.includes("sealed") && name.endsWith(".json"))) return;
    await systemScheduler.sleep(SEALED_POLL_MS);
  }
}

test("a vault whose folder is gone comes back from its storage account and key, with its authority", async () => {
  await using at = await place();
  const first = await startRoleChild(["vault", "run"], at.config);
  const made = await ask({ ...at, ...first.facts }, "PUT", await ownerToken(at, "first"));
  assert.equal(made.status, 201);
  await sealed(at);
  const authority = readFileSync(join(at.folder, "vault/authority.pem"), "utf8");
  await first.end("SIGTERM");
  rmSync(join(at.folder, "vault"), { recursive: true });

  const [row] = await osr("vault", "rebuild", "--config", at.config);
  assert.deepEqual([row.epoch, row.id.endsWith("/vaults/v")], [2, true]);
  assert.equal(readFileSync(join(at.folder, "vault/authority.pem"), "utf8"), authority);
  const second = await startRoleChild(["vault", "run"], at.config);
  try {
    const shown = await ask({ ...at, ...second.facts }, "GET", await ownerToken(at, "second"));
    assert.deepEqual(
      [shown.status, shown.body.tags, shown.body.id],
      [200, { a: "b" }, made.body.id],
    );
  } finally {
    await second.end("SIGTERM");
  }
});
