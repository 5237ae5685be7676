import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { promisify } from "node:util";

import { MIB } from "@osr/base/units";
import { LoopDisks, loopSkipReason, runTool } from "@osr/block-device/testing/loop-disk";

const MAIN = join(import.meta.dirname, "main.ts");
const POINT_MS_MAX = 120_000;
const COMMAND_MS_MAX = 60_000;

type Result = { readonly code: number; readonly out: string; readonly err: string };

/** Runs `osr` to its end. */
async function osr(...words: readonly string[]): Promise<Result> {
  const options = { timeout: COMMAND_MS_MAX, killSignal: "SIGKILL" } as const;
  try {
    const { stdout, stderr } = await promisify(execFile)(
      process.execPath,
      [MAIN, ...words],
      options,
    );
    return { code: 0, out: stdout, err: stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, out: stdout, err: stderr };
  }
}

/** Starts an `osr` that runs until the test ends, and waits for a line of its output. */
async function running(
  t: TestContext,
  words: readonly string[],
  isReady: (line: string) => boolean,
): Promise<{ readonly child: ChildProcess; readonly lines: readonly string[] }> {
  const child = spawn(process.execPath, [MAIN, ...words], { stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => ended(child));
  const errors: Buffer[] = [];
  child.stderr.on("data", (bytes: Buffer) => errors.push(bytes));
  const lines: string[] = [];
  for await (const line of createInterface(child.stdout)) {
    lines.push(line);
    if (!isReady(line)) continue;
    child.stdout.resume();
    return { child, lines };
  }
  throw new Error(`osr ${words.join(" ")} ended early:\n${Buffer.concat(errors).toString("utf8")}`);
}

async function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    const exit = once(child, "exit");
    child.kill("SIGTERM");
    await exit;
  }
  return child.exitCode;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** Waits until there are more points than `count`; gives all of them. */
async function pointsBeyond(site: string, count: number): Promise<{ point: number }[]> {
  const end = performance.now() + POINT_MS_MAX;
  while (performance.now() < end) {
    const { code, out, err } = await osr("-o", "json", "repository", "points", "--site", site);
    assert.equal(code, 0, err);
    const points = JSON.parse(out) as { point: number; offered: string }[];
    if (points.length > count) return points;
    await wait(500);
  }
  throw new Error(`no more than ${count} recovery points came`);
}

test("a disk is protected by the commands of osr and comes back, byte for byte, in every form", async (t) => {
  const reason = loopSkipReason("mkfs.ext4", "qemu-img", "nbdcopy");
  if (reason !== undefined) {
    t.skip(reason);
    return;
  }
  const disks = new LoopDisks(t);
  const folder = disks.folder();
  const disk = disks.create(24 * MIB);
  runTool("mkfs.ext4", "-q", disk.path);
  const site = join(folder, "site");
  const ports = { server: String(await freePort()), storage: String(await freePort()) };
  const up = await running(
    t,
    [
      ["up", "--no-vault", "--directory", site],
      ["--process-server-port", ports.server, "--storage-account-port", ports.storage],
    ].flat(),
    (line) => line.startsWith("ready"),
  );

  const machine = join(folder, "machine");
  const enrolled = await osr(
    "mobility-service",
    "enrol",
    "m1",
    "--site",
    site,
    "--out",
    machine,
    "--process-server",
    `127.0.0.1:${ports.server}`,
    "--point-interval",
    "15",
  );
  assert.equal(enrolled.code, 0, enrolled.err);
  const config = join(machine, "mobility-service.json");
  const statusFile = join(machine, "status.json");
  writeFileSync(
    config,
    JSON.stringify({
      ...(JSON.parse(readFileSync(config, "utf8")) as object),
      authority: join(machine, "authority.pem"),
      certificate: join(machine, "certificate.pem"),
      privateKey: join(machine, "private-key.pem"),
      disks: [disk.name],
      statusFile,
    }),
  );
  const agent = spawn(process.execPath, [MAIN, "mobility-service", "run", "--config", config], {
    stdio: "ignore",
  });
  t.after(() => ended(agent));
  const first = await pointsBeyond(site, 0);

  const changed = join(folder, "changed");
  writeFileSync(changed, randomBytes(3 * MIB));
  const dd = [
    `if=${changed}`,
    `of=${disk.path}`,
    "bs=1M",
    "seek=8",
    "oflag=direct",
    "conv=notrunc",
  ];
  runTool("dd", ...dd);
  // The second of these was cut after the write was through.
  await pointsBeyond(site, first.length + 1);
  const status = await osr("-o", "json", "mobility-service", "status", "--status-file", statusFile);
  assert.equal((JSON.parse(status.out) as { state: string }).state, "protected");
  assert.equal(await ended(agent), 0);
  const content = readFileSync(disk.backingFile);
  const at = ["--site", site, "--point", "latest", "--disk", disk.name];

  await t.test("materialised as raw and as qcow2", async () => {
    const raw = join(folder, "disk.raw");
    const toRaw = await osr("repository", "materialise", ...at, "--out", raw);
    assert.equal(toRaw.code, 0, toRaw.err);
    assert.ok(readFileSync(raw).equals(content));
    const qcow2 = join(folder, "disk.qcow2");
    const toQcow2 = await osr(
      "repository",
      "materialise",
      ...at,
      "--out",
      qcow2,
      "--format",
      "qcow2",
    );
    assert.equal(toQcow2.code, 0, toQcow2.err);
    runTool("qemu-img", "compare", "-f", "raw", raw, "-F", "qcow2", qcow2);
  });

  await t.test("served over NBD", async (inner) => {
    const sockets = join(folder, "s");
    const words = ["repository", "serve", ...at, "--socket-directory", sockets];
    await running(inner, words, (line) => line.startsWith("ready"));
    const copy = join(folder, "disk.copy");
    await promisify(execFile)("nbdcopy", [
      `nbd+unix:///?socket=${join(sockets, `${disk.name}.sock`)}`,
      copy,
    ]);
    assert.ok(readFileSync(copy).equals(content));
  });

  await t.test("an earlier point is what the disk was then", async () => {
    const out = join(folder, "earlier.raw");
    const slot = String(first[0]?.point);
    const earlier = await osr(
      "repository",
      "materialise",
      "--site",
      site,
      "--point",
      slot,
      "--disk",
      disk.name,
      "--out",
      out,
    );
    assert.equal(earlier.code, 0, earlier.err);
    const range = [8 * MIB, 11 * MIB] as const;
    assert.ok(
      !readFileSync(out)
        .subarray(...range)
        .equals(content.subarray(...range)),
    );
  });

  await t.test("without the site's roles, from the directory and the key alone", async () => {
    assert.equal(await ended(up.child), 0);
    const { vaultId } = JSON.parse(readFileSync(join(site, "site.json"), "utf8")) as {
      vaultId: string;
    };
    const alone = [
      ["--storage", join(site, "storage-account", "data"), "--vault", vaultId],
      ["--key", join(site, "secrets", "vault.key")],
    ].flat();
    const verified = await osr("-o", "json", "repository", "verify", ...alone);
    assert.equal(verified.code, 0, verified.err);
    assert.equal((JSON.parse(verified.out) as { findings: number }).findings, 0);
    const out = join(folder, "alone.raw");
    const point = ["--point", "latest", "--disk", disk.name, "--out", out];
    const materialised = await osr("repository", "materialise", ...alone, ...point);
    assert.equal(materialised.code, 0, materialised.err);
    assert.ok(readFileSync(out).equals(content));
    await damageFound(site, alone);
  });
});

/** Flips a bit in the largest object: verify must say so, with and without the key, by exit code 3. */
async function damageFound(site: string, alone: readonly string[]): Promise<void> {
  const objects = join(site, "storage-account", "data", "objects");
  const listed = runTool("find", objects, "-name", "*.seg", "-size", "+100k");
  const [segment = ""] = listed.trim().split("\n");
  const bytes = readFileSync(segment);
  bytes[5000] = (bytes[5000] ?? 0) ^ 1;
  writeFileSync(segment, bytes);
  for (const words of [alone, alone.slice(0, 4)]) {
    const { code, err } = await osr("repository", "verify", ...words);
    assert.equal(code, 3, err);
    assert.match(err, /\.seg: /);
  }
}

test("what cannot be done is refused with code, message and remedy", async (t) => {
  const disks = new LoopDisks(t);
  const folder = disks.folder();
  const missing = await osr("repository", "points", "--site", join(folder, "none"));
  assert.equal(missing.code, 1);
  assert.match(missing.err, /^SITE_NOT_FOUND: .*\n {2}remedy: /);
  const config = join(folder, "config.json");
  writeFileSync(config, '{"listen": {"host": 7}}');
  const wrong = await osr("storage-account", "run", "--config", config);
  assert.equal(wrong.code, 1);
  assert.match(wrong.err, /^CONFIGURATION_INVALID: .*listen\.host/);
  mkdirSync(join(folder, "directory"));
  const bare = await osr("repository", "verify", "--storage", join(folder, "directory"));
  assert.match(bare.err, /^REPOSITORY_OPTIONS_MISSING: --storage or --vault is missing/);
  assert.equal((await osr("repository", "nonsense")).code, 2);
  const managed = join(folder, "managed");
  mkdirSync(join(managed, "configuration-server"), { recursive: true });
  const id = "00000000-0000-4000-8000-000000000000";
  const ports = { processServerPort: 1, storageAccountPort: 2 };
  const fields = { vaultId: id, siteId: id, host: "127.0.0.1", ...ports };
  writeFileSync(join(managed, "site.json"), JSON.stringify(fields));
  const refused = await osr(
    "mobility-service",
    "enrol",
    "x",
    "--site",
    managed,
    "--out",
    join(folder, "x"),
    "--process-server",
    "127.0.0.1:1",
  );
  assert.match(refused.err, /^ENROL_BY_CONFIGURATION_SERVER: /);
});
