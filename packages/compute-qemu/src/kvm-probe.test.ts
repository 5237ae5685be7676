import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { cachedProbe, probeAccelerator } from "./kvm-probe.ts";
import { missingQemu } from "./qemu-fixtures.contract.ts";
import { QEMU } from "./qemu-process.ts";

suite("KVM probe", () => {
  let directory = "";
  let fakeDevice = "";
  let intelCpu = "";
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "osr-kvmt-"));
    fakeDevice = await file("kvm", "");
    intelCpu = await file("cpuinfo", "processor: 0\nflags\t\t: fpu vme vmx sse\n");
  });
  after(() => rm(directory, { recursive: true }));

  async function file(name: string, text: string): Promise<string> {
    const path = join(directory, name);
    await writeFile(path, text);
    return path;
  }

  async function program(name: string, text: string): Promise<string> {
    const path = await file(name, `#!/bin/sh\n${text}\n`);
    await chmod(path, 0o755);
    return path;
  }

  test("no device: tcg", async () => {
    const answer = await probeAccelerator({ qemu: QEMU, kvmDevice: join(directory, "none") });
    assert.equal(answer.kind, "tcg");
    assert.match(answer.reason, /ENOENT/);
  });

  test("a device without vmx or svm is an imitation: tcg, and QEMU is not even started", async () => {
    const cpuInfoFile = await file("plain", "flags\t\t: fpu vme sse vmxnet\n");
    const answer = await probeAccelerator({
      qemu: join(directory, "none"),
      kvmDevice: fakeDevice,
      cpuInfoFile,
    });
    assert.deepEqual(answer.kind, "tcg");
    assert.match(answer.reason, /neither vmx nor svm/);
  });

  test("a boot that does not finish is killed at its limit: tcg", async () => {
    const qemu = await program("hangs", "exec sleep 600");
    const answer = await probeAccelerator({
      qemu,
      kvmDevice: fakeDevice,
      cpuInfoFile: intelCpu,
      timeoutMs: 50,
    });
    assert.equal(answer.kind, "tcg");
    assert.match(answer.reason, /SIGKILL/);
  });

  test("a QEMU that refuses, or is missing: tcg", async () => {
    const options = { kvmDevice: fakeDevice, cpuInfoFile: intelCpu };
    const refuses = await program("refuses", "exit 1");
    assert.equal((await probeAccelerator({ qemu: refuses, ...options })).kind, "tcg");
    const none = join(directory, "none");
    assert.equal((await probeAccelerator({ qemu: none, ...options })).kind, "tcg");
  });

  test("a boot that finishes: kvm", async (t) => {
    const missing = missingQemu();
    if (missing !== undefined) return t.skip(missing);
    // The real QEMU and the real boot sector; only the accelerator is exchanged, since few test hosts have KVM.
    const qemu = await program(
      "by-tcg",
      `for a; do shift; case "$a" in kvm) a=tcg;; host) a=max;; esac; set -- "$@" "$a"; done; exec ${QEMU} "$@"`,
    );
    const options = { qemu, kvmDevice: fakeDevice, cpuInfoFile: intelCpu, timeoutMs: 20_000 };
    assert.equal((await probeAccelerator(options)).kind, "kvm");
  });

  test("the answer is asked for once", () => {
    const probe = cachedProbe({ qemu: QEMU, kvmDevice: join(directory, "none") });
    assert.equal(probe(), probe());
  });
});
