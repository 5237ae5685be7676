import fs from "node:fs/promises";
import path from "node:path";

import {
  fileSystemId,
  hasBootCode,
  IDENTITY_BYTES,
  mdMemberId,
  mdSuperblockAtEnd,
  partitionTableId,
  physicalVolumeId,
} from "./on-disk-identity.ts";
import { type SystemRoots, readNames, readNumber, readText } from "./system-roots.ts";

const SECTOR_BYTES = 512;
/** Type of a CD drive among SCSI devices. */
const SCSI_TYPE_CD = "5";
const SERIAL_PAGE_HEADER_BYTES = 4;
const SUPERBLOCK_BYTES = 4096;

/** What the kernel says about one entry of /sys/block. */
export type DiskFacts = {
  readonly name: string;
  /** `major:minor`. */
  readonly device: string;
  readonly major: number;
  readonly minor: number;
  readonly kind: "disk" | "memory" | "removable" | "layer" | "path";
  /** Loop and network block devices: made by somebody on this machine, for whatever purpose. */
  readonly isVirtual: boolean;
  readonly isReadOnly: boolean;
  /** `diskseq`; 0 where the kernel, before 5.15, does not count. */
  readonly sequence: number;
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  /** Names of the devices that a layer consists of. */
  readonly below: readonly string[];
  readonly identity: string | undefined;
  readonly hasBootCode: boolean;
};

/** Undefined where the disk vanishes meanwhile. */
export async function readDiskFacts(
  name: string,
  roots: SystemRoots,
): Promise<DiskFacts | undefined> {
  const folder = path.join(roots.sysfs, "block", name);
  const sectors = readNumber(folder, "size");
  const isHidden = readText(folder, "hidden") === "1";
  // Hidden disks, the paths of NVMe multipath, have no device number to open them by.
  const device = readText(folder, "dev") ?? (isHidden ? "0:0" : undefined);
  if (device === undefined || sectors === undefined) return undefined;
  const [major, minor] = device.split(":").map(Number);
  const kind = isHidden ? "path" : kindOf(name, folder);
  const sizeBytes = sectors * SECTOR_BYTES;
  const { start, end } =
    kind === "disk" && sizeBytes > 0 ? await readEnds(name, sizeBytes, roots) : NOTHING;
  return {
    name,
    device,
    major: major ?? 0,
    minor: minor ?? 0,
    kind,
    isVirtual: /^(loop|nbd)\d+$/.test(name),
    isReadOnly: readText(folder, "ro") === "1",
    sequence: readNumber(folder, "diskseq") ?? 0,
    sizeBytes,
    logicalSectorBytes: readNumber(folder, "queue/logical_block_size") ?? SECTOR_BYTES,
    below: readNames(folder, "slaves"),
    identity: kind === "disk" ? identityOf(folder, start, end) : undefined,
    hasBootCode: hasBootCode(start),
  };
}

function kindOf(name: string, folder: string): DiskFacts["kind"] {
  if (/^z?ram\d+$/.test(name)) return "memory";
  if (/^(sr|fd)\d+$/.test(name) || readText(folder, "device/type") === SCSI_TYPE_CD)
    return "removable";
  if (readText(folder, "removable") === "1") return "removable";
  if (/^(dm-|md)/.test(name) || readNames(folder, "slaves").length > 0) return "layer";
  return "disk";
}

/** By what the disk says of itself if it can, else by what is written on it, which a new partitioning changes. */
function identityOf(folder: string, start: Buffer, end: Buffer): string | undefined {
  const wwid = readText(folder, "wwid") ?? readText(folder, "device/wwid");
  const serial =
    readText(folder, "serial") ??
    readText(folder, "device/serial") ??
    readText(folder, "device/vpd_pg80")?.slice(SERIAL_PAGE_HEADER_BYTES);
  return (
    labelled("wwid", wwid) ??
    labelled("serial", serial) ??
    labelled("mduuid", mdMemberId(start, end)) ??
    labelled("pvuuid", physicalVolumeId(start)) ??
    labelled("ptuuid", partitionTableId(start)) ??
    labelled("fsuuid", fileSystemId(start))
  );
}

/** Blanks that pad fixed fields are no part of an identity; one of zeros alone is none. */
function labelled(label: string, text: string | undefined): string | undefined {
  const value = text
    ?.replaceAll(/[^\x21-\x7e]+/g, " ")
    .trim()
    .replaceAll(" ", "_");
  return value === undefined || /^0*$/.test(value) ? undefined : `${label}:${value}`;
}

/** What tells of a disk's content: its start, and where an md superblock near its end would be. */
type DiskEnds = { readonly start: Buffer; readonly end: Buffer };

const NOTHING: DiskEnds = { start: Buffer.alloc(0), end: Buffer.alloc(0) };

/** A disk that cannot be read can still be known by its serial number. */
async function readEnds(name: string, sizeBytes: number, roots: SystemRoots): Promise<DiskEnds> {
  try {
    await using file = await fs.open(path.join(roots.dev, name), "r");
    const read = async (offset: number, bytes: number): Promise<Buffer> => {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, offset);
      return buffer.subarray(0, bytesRead);
    };
    const start = await read(0, IDENTITY_BYTES);
    const end = mdSuperblockAtEnd(sizeBytes);
    return { start, end: end > 0 ? await read(end, SUPERBLOCK_BYTES) : NOTHING.end };
  } catch {
    return NOTHING;
  }
}
