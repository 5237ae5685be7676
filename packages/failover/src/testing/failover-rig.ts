import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { must } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import { CACHE_BYTES_MIN, GranuleCache } from "@osr/nbd/granule-cache";
import { openDirectoryStore } from "@osr/repository/directory-store";
import { type DiskDescriptor, ensureDiskDescriptor } from "@osr/repository/disk-descriptor";
import { indexRootOf } from "@osr/repository/key-schedule";
import { logPrefix } from "@osr/repository/object-names";
import { bodyOf, readWhole } from "@osr/repository/object-store";
import type { RecoveryPoint } from "@osr/repository/recovery-point";
import { TestDisk, TestVault, testDescriptor } from "@osr/repository/testing/log-fixture";
import { ensureDataKey } from "@osr/repository/wrapped-key";

import { keysOfVault } from "../failover-keys.ts";
import type { FailoverPorts } from "../failover-ports.ts";
import { CopyingProvider } from "./copying-provider.ts";

const DISKS = [
  { name: "vdb", isBoot: false, sizeBytes: 600 * BLOCK_BYTES, identity: "wwid:data" },
  { name: "vda", isBoot: true, sizeBytes: 900 * BLOCK_BYTES - 512, identity: "serial:boot-1" },
];

/** A disk and what it holds now. */
type RigDisk = { readonly name: string; readonly log: TestDisk; readonly content: Buffer };

/** A protected machine of two disks, enrolled in another order than that of their names, and where it fails over. */
export class FailoverRig implements AsyncDisposable {
  readonly ports: FailoverPorts;
  readonly compute: CopyingProvider;
  readonly vault: TestVault;
  readonly machineId: Uuid;
  readonly #disks: readonly RigDisk[];
  readonly #directory: string;

  constructor(parts: {
    readonly directory: string;
    readonly vault: TestVault;
    readonly machineId: Uuid;
    readonly disks: readonly RigDisk[];
  }) {
    const { vault } = parts;
    this.#directory = parts.directory;
    this.#disks = parts.disks;
    this.vault = vault;
    this.machineId = parts.machineId;
    this.compute = new CopyingProvider(parts.directory);
    this.ports = {
      store: vault.store,
      vaultId: vault.vaultId,
      keys: keysOfVault(vault.store, vault),
      compute: this.compute,
      runDirectory: join(parts.directory, "run"),
      cache: new GranuleCache({ cacheBytes: CACHE_BYTES_MIN }),
      log: silentLog,
      clock: systemClock,
      scheduler: systemScheduler,
      randomness: systemRandomness,
    };
  }

  get disks(): readonly TestDisk[] {
    return this.#disks.map(({ log }) => log);
  }

  /** Changes both disks and makes a point; gives the SHA-256 of the disks at it, by name. */
  async cut(slot: number, tagClass?: RecoveryPoint["class"]): Promise<ReadonlyMap<string, string>> {
    const changes = new Map(this.#disks.map((disk) => [disk.log, [change(disk, slot)]]));
    await this.vault.cut(slot, changes, tagClass);
    return this.#digests();
  }

  /** Changes both disks and puts the tag of a point into their logs, without the object of the point. */
  async tagOnly(slot: number): Promise<ReadonlyMap<string, string>> {
    const tag = this.vault.tag(slot, this.disks);
    for (const disk of this.#disks) await disk.log.commit([change(disk, slot)], { tag });
    return this.#digests();
  }

  /** Everything that a failover has made and that is still there. */
  async leftovers(): Promise<readonly string[]> {
    const files = await readdir(this.ports.runDirectory);
    return [...files, ...this.compute.machines.keys(), ...this.compute.networks.keys()];
  }

  /** Changes one byte of the newest segment of a disk, `fromEnd` bytes before its end. */
  async damage(disk: TestDisk, fromEnd: number): Promise<void> {
    const { store } = this.vault;
    const { objects } = await store.list(logPrefix(disk.log));
    const { name } = must(objects.at(-1), "the newest segment");
    const bytes = await readWhole(store, name);
    const at = bytes.length - fromEnd;
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    await store.delete(name);
    await store.create(name, bodyOf(bytes));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#directory, { recursive: true });
  }

  #digests(): ReadonlyMap<string, string> {
    return new Map(
      this.#disks.map(({ name, content }) => [
        name,
        createHash("sha256").update(content).digest("hex"),
      ]),
    );
  }
}

export async function failoverRig(): Promise<FailoverRig> {
  const directory = await mkdtemp(join(tmpdir(), "osr-fo-"));
  await mkdir(join(directory, "run"), { mode: 0o700 });
  const store = await openDirectoryStore(join(directory, "account"), {
    access: "write",
    randomness: systemRandomness,
  });
  const vault = new TestVault(store);
  const machineId = randomUuid(vault.randomness);
  const disks: RigDisk[] = [];
  for (const { name, ...fields } of DISKS) {
    const log = await enrol(vault, { machineId, name, ...fields });
    disks.push({ name, log, content: Buffer.alloc(fields.sizeBytes) });
  }
  return new FailoverRig({ directory, vault, machineId, disks });
}

/** Writes 20 blocks that tell slot and disk, at another place for each slot. */
function change(disk: RigDisk, slot: number): { block: number; bytes: Buffer } {
  const bytes = Buffer.alloc(20 * BLOCK_BYTES, `slot ${slot} of ${disk.name} `);
  const block = (slot * 37) % 500;
  bytes.copy(disk.content, block * BLOCK_BYTES);
  return { block, bytes };
}

async function enrol(
  vault: TestVault,
  fields: Pick<DiskDescriptor, "machineId" | "name" | "isBoot" | "sizeBytes" | "identity">,
): Promise<TestDisk> {
  const { store, vaultId, vaultKey, randomness } = vault;
  const diskId = randomUuid(randomness);
  const dataKey = await ensureDataKey(store, { vaultId, vaultKey, diskId, randomness });
  const descriptor = { ...testDescriptor(diskId, fields.machineId, fields.sizeBytes), ...fields };
  await ensureDiskDescriptor(store, vaultId, descriptor, { indexRoot: indexRootOf(dataKey) });
  const disk = new TestDisk(vault, dataKey);
  await disk.claim();
  return disk;
}
