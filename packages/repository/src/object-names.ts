import { type Uuid, isUuid } from "@osr/base/uuid";

/** Names of objects: docs/formats/object.md. */
const FORMAT_FOLDER = "v1";
const HEX_64 = /^[0-9a-f]{16}$/;

/** One log: the history of a disk on one timeline. */
export type LogId = { readonly vaultId: Uuid; readonly diskId: Uuid; readonly timeline: number };

/** The first timeline of a disk. */
export const TIMELINE_ROOT = 1;

export type ParsedName =
  | { readonly kind: "wrapped-key"; readonly diskId: Uuid; readonly version: number }
  | { readonly kind: "disk-descriptor"; readonly diskId: Uuid; readonly timeline: number }
  | {
      readonly kind: "segment";
      readonly diskId: Uuid;
      readonly timeline: number;
      readonly seq: number;
    }
  | { readonly kind: "recovery-point"; readonly groupId: Uuid; readonly slot: number };

/** Prefix of everything in a vault. */
export function vaultPrefix(vaultId: Uuid): string {
  return `${FORMAT_FOLDER}/${vaultId}/`;
}

export function logPrefix(log: LogId): string {
  return `${timelinePrefix(log)}log/`;
}

/** `seq` from 1. Names sort as their numbers do. */
export function segmentName(log: LogId, seq: number): string {
  return `${logPrefix(log)}${hex64(seq)}.seg`;
}

export function diskDescriptorName(log: LogId): string {
  return `${timelinePrefix(log)}disk.json`;
}

/** Prefix of everything of a disk, on all its timelines. */
export function diskPrefix(vaultId: Uuid, diskId: Uuid): string {
  return `${vaultPrefix(vaultId)}d/${diskId}/`;
}

/** A name that sorts after all that is ours on a timeline. */
export function timelineEnd(log: LogId): string {
  return `${timelinePrefix(log)}zzz`;
}

/** The timeline that a name with the prefix of its disk belongs to; undefined where it is none of ours. */
export function timelineOfName(vaultId: Uuid, diskId: Uuid, name: string): number | undefined {
  return parseTimeline(name.slice(diskPrefix(vaultId, diskId).length).split("/")[0]);
}

export function wrappedKeyName(vaultId: Uuid, diskId: Uuid, version: number): string {
  return `${vaultPrefix(vaultId)}k/${diskId}/${version}.json`;
}

/** Prefix of the recovery points of all replication groups. */
export function groupPrefix(vaultId: Uuid): string {
  return `${vaultPrefix(vaultId)}g/`;
}

export function recoveryPointPrefix(vaultId: Uuid, groupId: Uuid): string {
  return `${groupPrefix(vaultId)}${groupId}/rp/`;
}

export function recoveryPointName(vaultId: Uuid, groupId: Uuid, slot: number): string {
  return `${recoveryPointPrefix(vaultId, groupId)}${hex64(slot)}.json`;
}

/** Prefix of the sealed state of all vaults of the account, so that a vault can be found by its key alone. */
export const SEALED_PREFIX = `${FORMAT_FOLDER}/sealed/`;

export function sealedStatePrefix(vaultId: Uuid): string {
  return `${SEALED_PREFIX}${vaultId}/`;
}

/** `number` from 1. */
export function sealedStateName(vaultId: Uuid, number: number): string {
  return `${sealedStatePrefix(vaultId)}${hex64(number)}.json`;
}

/** Vault and number of a sealed object; undefined for names that are none. */
export function parseSealedName(
  name: string,
): { readonly vaultId: Uuid; readonly number: number } | undefined {
  if (!name.startsWith(SEALED_PREFIX)) return undefined;
  const [vaultId, file, ...rest] = name.slice(SEALED_PREFIX.length).split("/");
  const number = parseHex64(withoutSuffix(file, ".json"));
  if (!isUuid(vaultId) || number === undefined || number === 0 || rest.length > 0) return undefined;
  return { vaultId, number };
}

/** What `name` says about its object; undefined for names that are none of ours. */
export function parseObjectName(vaultId: Uuid, name: string): ParsedName | undefined {
  if (!name.startsWith(vaultPrefix(vaultId))) return undefined;
  const parts = name.slice(vaultPrefix(vaultId).length).split("/");
  const id = parts[1];
  if (!isUuid(id)) return undefined;
  switch (`${parts[0]}${parts.length}`) {
    case "k3": {
      const version = decimal(withoutSuffix(parts[2], ".json"));
      return version === undefined ? undefined : { kind: "wrapped-key", diskId: id, version };
    }
    case "d4": {
      const timeline = parseTimeline(parts[2]);
      return timeline === undefined || parts[3] !== "disk.json"
        ? undefined
        : { kind: "disk-descriptor", diskId: id, timeline };
    }
    case "d5": {
      const timeline = parseTimeline(parts[2]);
      const seq = parseHex64(withoutSuffix(parts[4], ".seg"));
      return timeline === undefined || parts[3] !== "log" || seq === undefined || seq === 0
        ? undefined
        : { kind: "segment", diskId: id, timeline, seq };
    }
    case "g4": {
      const slot = parseHex64(withoutSuffix(parts[3], ".json"));
      return parts[2] !== "rp" || slot === undefined
        ? undefined
        : { kind: "recovery-point", groupId: id, slot };
    }
    default:
      return undefined;
  }
}

function timelinePrefix(log: LogId): string {
  return `${diskPrefix(log.vaultId, log.diskId)}t${log.timeline}/`;
}

function hex64(value: number): string {
  return value.toString(16).padStart(16, "0");
}

function parseHex64(text: string | undefined): number | undefined {
  if (text === undefined || !HEX_64.test(text)) return undefined;
  const value = Number.parseInt(text, 16);
  return Number.isSafeInteger(value) ? value : undefined;
}

function parseTimeline(text: string | undefined): number | undefined {
  return text?.startsWith("t") === true ? decimal(text.slice(1)) : undefined;
}

function decimal(text: string | undefined): number | undefined {
  return text !== undefined && /^[1-9][0-9]{0,8}$/.test(text) ? Number(text) : undefined;
}

function withoutSuffix(text: string | undefined, suffix: string): string | undefined {
  return text?.endsWith(suffix) === true ? text.slice(0, -suffix.length) : undefined;
}
