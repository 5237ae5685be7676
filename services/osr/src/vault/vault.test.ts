import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import { processesWith, startRoleChild } from "../testing/role-child.ts";

const MAIN = join(import.meta.dirname, "../main.ts");
const run = promisify(execFile);
const VAULT =
  "/subscriptions/s/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/v?api-version=1";

/** A folder with a vault's configuration; nothing of it runs. The storage account is not needed to start. */
function vaultFolder(): { folder: string; config: string } & Disposable {
  const folder = mkdtempSync(join(tmpdir(), "osr-vault-"));
  // PostgreSQL's user passes through.
  chmodSync(folder, 0o711);
  const file = (name: string, content: string): string => {
    writeFileSync(join(folder, name), content, { mode: 0o600 });
    return name;
  };
  const token = file("a.token", "a");
  const config = file(
    "config.json",
    JSON.stringify({
      listen: { host: "127.0.0.1", port: 0, names: ["127.0.0.1"] },
      directory: "vault",
      storageAccount: { endpoint: "https://127.0.0.1:1", container: "osr", tokenFile: token },
      ingestTokenFile: token,
      readerTokenFile: token,
      vaultKeyFile: file("vault.key", "07".repeat(32)),
      replicaHostSocket: "host.sock",
    }),
  );
  return {
    folder,
    config: join(folder, config),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

async function osr(...words: string[]): Promise<any> {
  const { stdout } = await run(process.execPath, [MAIN, ...words, "-o", "json"]);
  return JSON.parse(stdout);
}

async function put(port: number, ca: string, token: string): Promise<number> {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const outgoing = request(`https://127.0.0.1:${port}${VAULT}`, { method: "PUT", ca, headers });
  outgoing.end(JSON.stringify({ location: "here" }));
  const [message] = await once(outgoing, "response");
  message.resume();
  return message.statusCode;
}

test("a vault by osr: tokens while it runs and while it does not, credentials, and nothing left", async () => {
  using place = vaultFolder();
  const { config } = place;
  const tokenFile = join(place.folder, "owner.token");
  const words = ["--config", config, "--name", "me", "--role", "Owner", "--out", tokenFile];
  const made = await osr("token", "create", ...words);
  assert.equal(statSync(tokenFile).mode & 0o777, 0o600);
  const vault = await startRoleChild(["vault", "run"], config);
  const { port } = vault.facts;
  try {
    const ca = readFileSync(join(place.folder, "vault/authority.pem"), "utf8");
    const token = readFileSync(tokenFile, "utf8").trim();
    assert.equal(await put(port, ca, token), 201);
    const out = join(place.folder, "credentials.json");
    const credentials = await osr("vault", "credentials", "--config", config, "--out", out);
    assert.match(credentials.vault, /\/vaults\/v$/);
    assert.equal(JSON.parse(readFileSync(out, "utf8")).vaultAuthorityPem, ca);
    await osr("vault", "backup", "--config", config, "--out", join(place.folder, "backup.gz"));
    await osr("token", "revoke", made.id, "--config", config);
    assert.equal(await put(port, ca, token), 401);
  } finally {
    await vault.end("SIGTERM");
  }
  const [{ revoked }] = await osr("token", "list", "--config", config);
  assert.notEqual(revoked, "");
  // What the backup holds comes back in a new database: the token is good again.
  renameSync(join(place.folder, "vault/postgres"), join(place.folder, "old"));
  await osr("vault", "restore", "--config", config, "--from", join(place.folder, "backup.gz"));
  const [restored] = await osr("token", "list", "--config", config);
  assert.deepEqual([restored.id, restored.revoked], [made.id, ""]);
  assert.deepEqual(processesWith(place.folder), []);
});
