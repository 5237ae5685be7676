import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { silentLog } from "@osr/base/log";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { HOUR_MS, MIB } from "@osr/base/units";
import { LoopDisks, loopSkipReason, runTool } from "@osr/block-device/testing/loop-disk";
import { FakeVault } from "@osr/configuration-server/testing/fake-vault";
import type { DesiredItem, FabricMachine } from "@osr/contracts/fabric-protocol";
import type { StorageGrant } from "@osr/contracts/site-protocol";
import type { MobilityStatus } from "@osr/mobility-service/mobility-status";
import { groupKeyOf } from "@osr/repository/key-schedule";
import { ensureDataKey } from "@osr/repository/wrapped-key";

import { openStore } from "../repository/open-store.ts";
import { makeSite } from "../site/make-site.ts";
import { CONTAINER } from "../site/site.ts";
import { diskIdOf } from "@osr/repository/disk-id";
import { readVaultKey } from "../site/vault-key-file.ts";

const OSR = join(import.meta.dirname, "../main.ts");
const AGENT = fileURLToPath(import.meta.resolve("@osr/service-mobility-service/main"));
const WAIT_MS_MAX = 90_000;

async function osr(main: string, ...words: readonly string[]): Promise<string> {
  const options = { timeout: 60_000, killSignal: "SIGKILL" } as const;
  return (await promisify(execFile)(process.execPath, [main, ...words], options)).stdout;
}

/** Starts a role that runs until the test ends, and waits until it says that it is ready. */
async function role(
  t: TestContext,
  main: string,
  words: readonly string[],
  isReady: (line: string) => boolean = (line) => line.includes('"ready":true'),
): Promise<ChildProcess> {
  const child = spawn(process.execPath, [main, ...words], { stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => ended(child));
  const errors: Buffer[] = [];
  child.stderr.on("data", (bytes: Buffer) => errors.push(bytes));
  if (main === AGENT) return child;
  for await (const line of createInterface(child.stdout)) {
    if (!isReady(line)) continue;
    child.stdout.resume();
    return child;
  }
  throw new Error(`${words.join(" ")} ended early:\n${Buffer.concat(errors).toString("utf8")}`);
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill("SIGTERM");
  await exit;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function eventually<T>(what: string, probe: () => T | undefined): Promise<T> {
  const end = performance.now() + WAIT_MS_MAX;
  while (performance.now() < end) {
    const found = probe();
    if (found !== undefined) return found;
    await wait(100);
  }
  throw new Error(`still not so: ${what}`);
}

test("a machine replicates as its vault wishes, with keys that came by its configuration server, also while the vault is away", async (t) => {
  const reason = loopSkipReason("mkfs.ext4");
  if (reason !== undefined) {
    t.skip(reason);
    return;
  }
  const disks = new LoopDisks(t);
  const folder = disks.folder();
  const disk = disks.create(24 * MIB);
  runTool("mkfs.ext4", "-q", disk.path);
  const at = (name: string): string => join(folder, name);
  const account = await storageAccount(t, at("account"));
  await using vault = await FakeVault.start();

  const config = at("cs/config.json");
  const port = String(await freePort());
  const named = ["--host", "127.0.0.1", "--port", port, "--name", "127.0.0.1"];
  await osr(OSR, "configuration-server", "init", "--directory", at("cs"), ...named);
  writeFileSync(at("credentials"), JSON.stringify(await vault.credentials()), { mode: 0o600 });
  const registered = ["--credentials", at("credentials"), "--name", "site-a"];
  await osr(OSR, "configuration-server", "register", "--config", config, ...registered);
  await role(t, OSR, ["configuration-server", "run", "--config", config]);
  const token = async (name: string): Promise<string> => {
    const words = ["--config", config, "--role", name, "--out", at(`${name}.token`)];
    await osr(OSR, "configuration-server", "token", "create", ...words);
    return at(`${name}.token`);
  };

  const serverPort = await freePort();
  const identity = ["--out", at("ps-identity.json"), "--address", "127.0.0.1"];
  await osr(OSR, "process-server", "enrol", "--token", await token("process-server"), ...identity);
  writeFileSync(
    at("ps.json"),
    JSON.stringify({
      identityFile: "ps-identity.json",
      listen: { host: "127.0.0.1", port: serverPort },
      address: { host: "127.0.0.1", port: serverPort },
      spoolDirectory: "spool",
      cacheBytesMax: 512 * MIB,
      metricsPort: 0,
    }),
  );
  vault.wish({ storage: account.grant });
  const server = await role(t, OSR, ["process-server", "run", "--config", at("ps.json")]);

  const statusFile = at("run/status.json");
  writeFileSync(at("agent.json"), JSON.stringify({ disks: [disk.name], statusFile }));
  const agentFiles = ["--state", at("agent"), "--config", at("agent.json")];
  await osr(AGENT, "enrol", "--token", await token("mobility-service"), ...agentFiles);
  const agent = await role(t, AGENT, ["run", "--config", at("agent.json")]);
  const machine = await eventually("the machine has registered", () =>
    vault.statuses
      .flatMap(({ machines }) => machines)
      .find((one) => one.registration !== undefined),
  );
  const status = (): MobilityStatus =>
    JSON.parse(readFileSync(statusFile, "utf8")) as MobilityStatus;
  await eventually("nothing is replicated yet", () =>
    existsSync(statusFile) && status().state === "idle" ? true : undefined,
  );

  const item = await account.item(machine, vault);
  vault.wish({ items: [item] });
  const point = await eventually("a recovery point", () => status().newestPoint);
  assert.equal(status().state, "protected");
  assert.equal(status().processServer, `127.0.0.1:${serverPort}`);

  await t.test("the point has the disk as it is", async () => {
    const out = at("disk.raw");
    const words = ["--point", "latest", "--disk", disk.name, "--out", out];
    await osr(OSR, "repository", "materialise", ...account.reader(vault), ...words);
    assert.ok(readFileSync(out).equals(readFileSync(disk.backingFile)));
  });

  await t.test("the vault is away, and the process server is started again", async (inner) => {
    await vault.stop();
    await ended(server);
    await role(inner, OSR, ["process-server", "run", "--config", at("ps.json")]);
    await eventually("a newer point", () =>
      (status().newestPoint?.slot ?? 0) > point.slot ? true : undefined,
    );
    assert.deepEqual(
      status().disks.map(({ stage, lastResync }) => [stage, lastResync]),
      [["delta", undefined]],
      "without a resync",
    );
    await vault.start();
  });

  await t.test("a machine that is not protected any more does nothing", async () => {
    vault.wish({ items: [{ ...item, isProtected: false, stoppedReason: "FAILED_OVER" }] });
    const idle = await eventually("idle", () => (status().state === "idle" ? status() : undefined));
    assert.equal(idle.health[0]?.message, "FAILED_OVER");
    assert.equal(agent.exitCode, null);
  });
});

type Account = {
  readonly grant: StorageGrant;
  /** Options of `osr repository` for it. */
  reader(vault: FakeVault): string[];
  /** A machine as a vault protects it: with the keys of its disks. */
  item(machine: FabricMachine, vault: FakeVault): Promise<DesiredItem>;
};

/** The embedded storage account, and the vault key with which a vault would make data keys. */
async function storageAccount(t: TestContext, directory: string): Promise<Account> {
  const storageAccountPort = await freePort();
  const { folder } = await makeSite({
    directory,
    host: "127.0.0.1",
    storageAccountPort,
    processServerPort: 1,
    processServerName: [],
    vaultPort: 1,
    configurationServerPort: 1,
    vault: false,
  });
  await role(t, OSR, ["storage-account", "run", "--config", folder.storageAccount.configFile]);
  const endpoint = `https://127.0.0.1:${storageAccountPort}`;
  const common = { endpoint, container: CONTAINER, authority: folder.authorityFile };
  return {
    grant: {
      endpoint,
      container: CONTAINER,
      token: readFileSync(folder.tokenFile("ingest"), "utf8").trim(),
      authorityPem: readFileSync(folder.authorityFile, "utf8"),
      expiresUnixMs: Date.now() + 72 * HOUR_MS,
    },
    reader: ({ vaultId }) =>
      [
        ["--storage", endpoint, "--container", CONTAINER, "--vault", vaultId],
        ["--token-file", folder.tokenFile("reader"), "--authority", folder.authorityFile],
        ["--key", folder.vaultKeyFile],
      ].flat(),
    async item({ machineId, registration }, { vaultId }) {
      const vaultKey = readVaultKey(folder.vaultKeyFile);
      using open = openStore({ ...common, tokenFile: folder.tokenFile("ingest") }, silentLog);
      const [disk] = registration?.disks ?? [];
      const identity = disk?.identity ?? "";
      const diskId = diskIdOf(machineId, identity);
      const wanted = { vaultId, vaultKey, diskId, randomness: systemRandomness };
      const { bytes } = await ensureDataKey(open.store, wanted);
      const groupKey = groupKeyOf(vaultKey, machineId).toString("hex");
      const granted = { identity, diskId, timeline: 1, dataKey: bytes.toString("hex") };
      return {
        grant: { machineId, groupId: machineId, groupKey, disks: [granted] },
        isProtected: true,
        excludedDisks: [],
        pointIntervalSeconds: 15,
        appPointIntervalSeconds: 0,
        resyncRequest: 0,
      };
    },
  };
}
