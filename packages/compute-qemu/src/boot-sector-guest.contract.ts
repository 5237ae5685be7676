import type { GuestReport } from "@osr/compute/compute-provider.contract";

const SECTOR_BYTES = 512;
const SECTOR_OF_MARKER = 8;
const BOOT_DISK_BYTES = 8 * 1024 * 1024;
const DATA_DISK_BYTES = 1024 * 1024;

/** `boot-sector-guest.s`, assembled as its first lines say; it boots in a second, without kernel or file system. */
const CODE = [
  "+jHAjtiOwI7QvAB8/Pu+Zny0QrKAzRNyA+nkAfTr/VJQuv0D7KggdPtYuvgD7lrDrITAdAXo5//r9sOwCuvgUIjg6AEA",
  "WFDA6AToAQBYJA88CnICBCcEMOvFiR5+fL52fDDAzRPDEAADAAB+AAABAAAAAAAAABAAAQAAoAAAAAAAAAAAAAAAAAAA",
  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAVaq+gH/oKv7o2wC4gEKIwrsIAOhG/g+CtAC+kX/oEv6+AKDoDP7oFP60",
  "QrKBuwgA6Cn+cg++mX/o9/2+AKDo8f3o+f20QrKAuwkA6A7+cn7/BgCgtEOygLsJAOj+/XJuvp9/6Mz9oQCg6NX96M79",
  "ugIGuAAB7zHtoWwE+/Q7BmwEdPi6AAbt9sQBdUpFiS4AoLRDsoC7CgDowf1yMbiDAPflJf8fg8BAicO0QrKA6Kv9chu+",
  "pn/oef2J2OiD/bAg6F79vgCg6Gn96HH966q+qX/oXv3ror61f+hW/boEBrgAIO/pOP24APCOwDH/JmaBPV9TTV90CIPH",
  "EHXxHgfDJmaLRRgeB6Nif2bB6BCiZH+IJmd/vlB/uQAEtIfNFXIavgCQgDwBdBMPtlwBAd6sCgR1+0aB/gCYcunDjXwI",
  "vot/6O78uRAAigVH6Pv84vjp6/wAAAAAAAAAAAAAAAAAAAAA//8AAACTAAD//wCQAJMAAAAAAAAAAAAAAAAAAAAAAABP",
  "U1ItR1VFU1QKAHV1aWQ9AG1hcmtlcj0AZGF0YT0AYm9vdHM9AHIgAGRpc2stZXJyb3IKAHBvd2VyaW5nIG9mZgo=",
];

/** The disk that the guest boots from. Each sector begins with its number, so that the guest's reads can be checked. */
export function bootDiskImage(marker: string): Buffer {
  const image = Buffer.alloc(BOOT_DISK_BYTES);
  for (let sector = 0; sector < image.byteLength / SECTOR_BYTES; sector++)
    image.write(sectorText(sector), sector * SECTOR_BYTES, "latin1");
  image.fill(0, 9 * SECTOR_BYTES, 11 * SECTOR_BYTES);
  Buffer.from(CODE.join(""), "base64").copy(image);
  image.write(`${marker}\0`, SECTOR_OF_MARKER * SECTOR_BYTES, "latin1");
  return image;
}

/** A disk that the guest only reads the marker of. */
export function dataDiskImage(marker: string): Buffer {
  const image = Buffer.alloc(DATA_DISK_BYTES);
  image.write(`${marker}\0`, SECTOR_OF_MARKER * SECTOR_BYTES, "latin1");
  return image;
}

/** Reads what the guest printed. The last line may be cut and does not count. */
export function guestReport(console: string): GuestReport {
  const lines = console.split("\n").slice(0, -1);
  const values = (key: string): string[] =>
    lines.filter((line) => line.startsWith(key)).map((line) => line.slice(key.length));
  const reads = values("r ");
  const isRight = (read: string): boolean => {
    const [sector = "", text] = read.split(" ");
    return text === sectorText(Number.parseInt(sector, 16));
  };
  return {
    biosUuids: values("uuid=").map(uuidOfSmbios),
    markers: [...values("marker="), ...values("data=")],
    bootCounts: values("boots=").map((count) => Number.parseInt(count, 16)),
    readsDone: reads.length,
    readsWrong: reads.filter((read) => !isRight(read)).length + values("disk-error").length,
    isOff: lines.at(-1) === "powering off",
  };
}

function sectorText(sector: number): string {
  return `S${sector.toString(16).padStart(4, "0")}`;
}

/** SMBIOS keeps the first three fields of a UUID in little-endian order. */
function uuidOfSmbios(hex: string): string {
  const bytes = Buffer.from(hex, "hex");
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  const text = bytes.toString("hex");
  const cuts = [0, 8, 12, 16, 20, 32];
  return cuts
    .slice(1)
    .map((end, index) => text.slice(cuts[index], end))
    .join("-");
}
