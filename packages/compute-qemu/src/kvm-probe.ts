import { constants } from "node:fs";
import { access, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { messageOf, systemErrorCode } from "@osr/base/errors";
import { MIB } from "@osr/base/units";

import { runStatus } from "./command.ts";

/** How QEMU executes a machine's code, and why so. */
export type Accelerator = { readonly kind: "kvm" | "tcg"; readonly reason: string };

export type KvmProbeOptions = {
  readonly qemu: string;
  readonly kvmDevice?: string;
  readonly cpuInfoFile?: string;
  /** For the small boot that proves KVM; it takes about 0.1 s where KVM works. */
  readonly timeoutMs?: number;
};

const TIMEOUT_MS_DEFAULT = 2500;

/** `cli; mov al,0x31; out 0xf4,al; hlt; jmp $`: the debug-exit device turns 0x31 into exit status 99. */
const BOOT_CODE = Buffer.from([0xfa, 0xb0, 0x31, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd]);
const BOOT_STATUS = 99;
/** The firmware gives a disk of less than a cylinder no geometry, and does not boot from it. */
const IMAGE_BYTES = MIB;

/**
 * KVM only where a boot proves it. `/dev/kvm` can exist and be a software imitation that runs a boot sector slowly and
 * hangs a kernel for ever; such hosts show neither vmx nor svm, and the answer is `tcg` at once. Never throws, never hangs.
 */
export async function probeAccelerator(options: KvmProbeOptions): Promise<Accelerator> {
  const kvmDevice = options.kvmDevice ?? "/dev/kvm";
  try {
    await access(kvmDevice, constants.R_OK | constants.W_OK);
  } catch (error) {
    return { kind: "tcg", reason: `${kvmDevice}: ${systemErrorCode(error) ?? messageOf(error)}` };
  }
  try {
    const cpuInfo = await readFile(options.cpuInfoFile ?? "/proc/cpuinfo", "utf8");
    if (!/^flags\s*:.*\b(?:vmx|svm)\b/m.test(cpuInfo))
      return {
        kind: "tcg",
        reason: `${kvmDevice} exists, but the processor shows neither vmx nor svm`,
      };
    return await bootOnce(options.qemu, options.timeoutMs ?? TIMEOUT_MS_DEFAULT);
  } catch (error) {
    return { kind: "tcg", reason: messageOf(error) };
  }
}

async function bootOnce(qemu: string, timeoutMs: number): Promise<Accelerator> {
  const directory = await mkdtemp(join(tmpdir(), "osr-kvm-"));
  try {
    const image = join(directory, "boot.img");
    const content = Buffer.alloc(IMAGE_BYTES);
    BOOT_CODE.copy(content);
    content.writeUInt16LE(0xaa55, 510);
    await writeFile(image, content);
    const drive = {
      driver: "raw",
      "node-name": "boot",
      "read-only": true,
      file: { driver: "file", filename: image },
    };
    const args = [
      "-nodefaults -no-user-config -display none -no-reboot -m 16M -machine pc -accel kvm -cpu host".split(
        " ",
      ),
      ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"],
      ["-blockdev", JSON.stringify(drive), "-device", "virtio-blk-pci,drive=boot"],
    ];
    const status = await runStatus(qemu, args.flat(), timeoutMs);
    return status === BOOT_STATUS
      ? { kind: "kvm", reason: "a boot sector ran under KVM" }
      : { kind: "tcg", reason: `a boot sector did not run under KVM (${status})` };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** A probe that is made once, when it is first asked for. */
export function cachedProbe(options: KvmProbeOptions): () => Promise<Accelerator> {
  let answer: Promise<Accelerator> | undefined;
  return () => (answer ??= probeAccelerator(options));
}
