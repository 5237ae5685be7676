import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, suite, test } from "node:test";
import { promisify } from "node:util";

import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { KIB, MIB } from "@osr/base/units";
import { createAuthority, issueCertificate } from "@osr/certificates/site-authority";

import { cachedSource } from "./cached-source.ts";
import { GranuleCache } from "./granule-cache.ts";
import { ModelSource, modelBytes } from "./model-source.contract.ts";
import { type NbdListen, startNbdServer } from "./nbd-server.ts";

const PROGRAM_TIMEOUT_MS = 60_000;
const execute = promisify(execFile);

async function run(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await execute(program, args, {
    timeout: PROGRAM_TIMEOUT_MS,
    maxBuffer: 16 * MIB,
  });
  return stdout;
}

async function isMissing(program: string): Promise<boolean> {
  return await run(program, "--version").then(
    () => false,
    () => true,
  );
}

/** A disk of 48 MiB with data, holes and an odd tail, as the server's export `vda` and as a file. */
async function diskOf(t: TestContext, listen: (directory: string) => Promise<NbdListen>) {
  const directory = await mkdtemp(join(tmpdir(), "osr-nbd-"));
  const bytes = modelBytes(48 * MIB + 5 * 512, 11);
  const frozen = join(directory, "frozen.raw");
  await writeFile(frozen, bytes);
  const cache = new GranuleCache({ cacheBytes: 16 * MIB });
  const source = cachedSource(new ModelSource(bytes), { cache });
  const server = await startNbdServer({
    listen: await listen(directory),
    exports: new Map([["vda", source]]),
    log: silentLog,
    scheduler: systemScheduler,
  });
  t.after(async () => {
    await server.close();
    await source[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });
  return { directory, bytes, frozen, server };
}

async function unixDisk(t: TestContext) {
  const disk = await diskOf(t, async (directory) => ({
    unixSocketPath: join(directory, "nbd.sock"),
  }));
  return { ...disk, uri: `nbd+unix:///vda?socket=${disk.directory}/nbd.sock` };
}

/** A disk over TLS on loopback, and the folder with the client's certificate that GnuTLS programs want. */
async function tlsDisk(t: TestContext) {
  const days = { days: 1, clock: systemClock };
  const authority = await createAuthority({ commonName: "site", ...days });
  const identity = { commonName: "reader", ipAddresses: ["127.0.0.1"], ...days };
  const serverIdentity = await issueCertificate(authority, { ...identity, usage: "server" });
  const clientIdentity = await issueCertificate(authority, { ...identity, usage: "client" });
  const disk = await diskOf(t, async () => ({
    host: "127.0.0.1",
    port: 0,
    tls: { ...serverIdentity, clientAuthorityPem: authority.certificatePem, allows: () => true },
  }));
  const certificates = join(disk.directory, "certificates");
  await mkdir(certificates);
  await writeFile(join(certificates, "ca-cert.pem"), authority.certificatePem);
  await writeFile(join(certificates, "client-cert.pem"), clientIdentity.certificatePem);
  await writeFile(join(certificates, "client-key.pem"), clientIdentity.privateKeyPem);
  return { ...disk, certificates };
}

void suite("programs that read our exports", async () => {
  const hasNbdCopy = !(await isMissing("nbdcopy"));
  const hasQemu = !(await isMissing("qemu-img"));
  const noNbdCopy = {
    skip: hasNbdCopy ? false : "nbdcopy and nbdinfo (libnbd-bin) are not installed",
  };
  const noQemu = { skip: hasQemu ? false : "qemu-img and qemu-io (qemu-utils) are not installed" };

  test("nbdinfo: size, flags, contexts, list and map", noNbdCopy, async (t) => {
    const { uri, bytes } = await unixDisk(t);
    const { exports } = JSON.parse(await run("nbdinfo", "--json", uri)) as {
      exports: Record<string, unknown>[];
    };
    const [info] = exports;
    assert.equal(info?.["export-size"], bytes.length);
    assert.equal(info["is_read_only"], true);
    assert.equal(info["can_multi_conn"], true);
    assert.equal(info["can_df"], true);
    assert.deepEqual(info["contexts"], ["base:allocation"]);
    assert.match(await run("nbdinfo", "--list", uri), /export="vda"/);
    const map = JSON.parse(await run("nbdinfo", "--map", "--json", uri)) as {
      offset: number;
      length: number;
      type: number;
    }[];
    let at = 0;
    for (const { offset, length, type } of map) {
      assert.equal(offset, at);
      if (type === 3) assert.ok(bytes.subarray(at, at + length).every((byte) => byte === 0));
      at += length;
    }
    assert.equal(at, bytes.length);
    assert.ok(map.length > 10);
  });

  test("nbdcopy: the same bytes, over several connections and one by one", noNbdCopy, async (t) => {
    const { uri, bytes, directory } = await unixDisk(t);
    for (const options of [[], ["--synchronous"], ["--connections=1", "--request-size=4194304"]]) {
      const copy = join(directory, "copy.raw");
      await run("nbdcopy", ...options, uri, copy);
      assert.ok(bytes.equals(await readFile(copy)), `nbdcopy ${options.join(" ")}`);
      await rm(copy);
    }
  });

  test(
    "nbdinfo and nbdcopy over TLS, with the client's certificate and not without",
    noNbdCopy,
    async (t) => {
      const { server, certificates, bytes, directory } = await tlsDisk(t);
      const address = `127.0.0.1:${server.port}/vda`;
      const uri = `nbds://${address}?tls-certificates=${certificates}`;
      assert.equal((await run("nbdinfo", "--size", uri)).trim(), String(bytes.length));
      const copy = join(directory, "copy.raw");
      await run("nbdcopy", uri, copy);
      assert.ok(bytes.equals(await readFile(copy)));
      await assert.rejects(run("nbdinfo", "--size", `nbd://${address}`), /TLS|encrypt/i);
      const empty = join(directory, "empty");
      await mkdir(empty);
      await assert.rejects(run("nbdinfo", "--size", `nbds://${address}?tls-certificates=${empty}`));
    },
  );

  test("qemu-img: compare and convert", noQemu, async (t) => {
    const { uri, frozen, directory, bytes } = await unixDisk(t);
    assert.match(
      await run("qemu-img", "compare", "-f", "raw", "-F", "raw", uri, frozen),
      /identical/,
    );
    const qcow2 = join(directory, "copy.qcow2");
    await run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, qcow2);
    assert.match(
      await run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", qcow2, frozen),
      /identical/,
    );
    // The comparison is no formality: one byte makes the difference.
    bytes.writeUInt8((bytes[20 * MIB] ?? 0) ^ 1, 20 * MIB);
    await writeFile(frozen, bytes);
    await assert.rejects(run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", qcow2, frozen));
  });

  test("qemu-img over TLS", noQemu, async (t) => {
    const { server, certificates, frozen } = await tlsDisk(t);
    const image = {
      driver: "nbd",
      "server.type": "inet",
      "server.host": "127.0.0.1",
      "server.port": server.port,
      export: "vda",
      "tls-creds": "site",
    };
    const options = Object.entries(image).map(([key, value]) => `${key}=${value}`);
    const output = await run(
      "qemu-img",
      "compare",
      "--object",
      `tls-creds-x509,id=site,dir=${certificates},endpoint=client`,
      "--image-opts",
      options.join(","),
      `driver=raw,file.driver=file,file.filename=${frozen}`,
    );
    assert.match(output, /identical/);
  });

  test("an overlay of QEMU over the export: writes stay in the overlay", noQemu, async (t) => {
    const { uri, directory, bytes } = await unixDisk(t);
    const overlay = join(directory, "overlay.qcow2");
    await run("qemu-img", "create", "-q", "-f", "qcow2", "-b", uri, "-F", "raw", overlay);
    const at = 30 * MIB;
    await run("qemu-io", "-c", `write -P 0x5a ${at} ${64 * KIB}`, "-c", "flush", overlay);
    const flat = join(directory, "flat.raw");
    await run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", overlay, flat);
    const expected = Buffer.from(bytes);
    expected.fill(0x5a, at, at + 64 * KIB);
    assert.ok(expected.equals(await readFile(flat)));
    await run("qemu-img", "rebase", "-f", "qcow2", "-b", "", overlay);
    assert.match(
      await run("qemu-io", "-c", `read -P 0x5a ${at} ${64 * KIB}`, overlay),
      /read 65536/,
    );
  });
});
