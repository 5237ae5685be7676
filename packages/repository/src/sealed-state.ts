import { createCipheriv, createDecipheriv, createHash } from "node:crypto";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";

import { assert } from "@osr/base/assert";
import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError, hasCode, messageOf } from "@osr/base/errors";
import {
  type Shape,
  integer,
  list,
  object,
  oneOf,
  parseJson,
  text,
  uuidText,
} from "@osr/base/json-shape";
import type { JsonObject } from "@osr/base/json-value";
import { MIB } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";

import { sealingKeyOf } from "./key-schedule.ts";
import {
  SEALED_PREFIX,
  parseSealedName,
  sealedStateName,
  sealedStatePrefix,
} from "./object-names.ts";
import { type ObjectStore, listAll } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { parseCanonicalObject, readSmallObject } from "./small-object.ts";

export const SEALED_BYTES_MAX = 64 * MIB;
const PLAIN_BYTES_MAX = 256 * MIB;
/** A vault with 1,000 machines has about 10,000 documents. */
export const SEALED_DOCUMENTS_MAX = 1_000_000;
/** Objects of somebody without the key that are passed over. */
export const FORGED_SEALS_MAX = 1000;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const ZSTD_LEVEL = 3;

export type SealedDocument = {
  readonly kind: string;
  readonly id: string;
  readonly seq: number;
  /** Null: it is gone. */
  readonly value: JsonObject | null;
};

/** One object of a vault's sealed state: docs/formats/sealed-state.md. */
export type SealedState = {
  readonly epoch: number;
  readonly writerId: Uuid;
  readonly unixMs: number;
  readonly kind: "changes" | "whole";
  /** SHA-256 of the authentic object before, in hex; "" for the first one. */
  readonly previous: string;
  readonly schema: number;
  readonly documents: readonly SealedDocument[];
};

/** Which sealed object, and the vault key that opens it. */
export type SealedStateId = {
  readonly vaultId: Uuid;
  readonly vaultKey: Buffer;
  readonly number: number;
};

const jsonObjectOrNull: Shape<JsonObject | null> = (value, path) => {
  if (value === null) return null;
  if (typeof value === "object" && !Array.isArray(value)) return value as JsonObject;
  throw new OsrError(REPOSITORY_ERRORS.SEALED_STATE_INVALID, `${path} is no object`);
};

const stateShape: Shape<SealedState & { readonly format: number }> = object({
  format: integer(1, 1),
  epoch: integer(1),
  writerId: uuidText,
  unixMs: integer(0),
  kind: oneOf("changes", "whole"),
  previous: text(64),
  schema: integer(1),
  documents: list(
    object<SealedDocument>({
      kind: text(64),
      id: text(2048),
      seq: integer(0),
      value: jsonObjectOrNull,
    }),
    SEALED_DOCUMENTS_MAX,
  ),
});

/** The bytes of one object. `nonce`: 12 random bytes, used for nothing else. */
export function encodeSealedState(state: SealedState, id: SealedStateId, nonce: Buffer): Buffer {
  assert(nonce.length === NONCE_BYTES, "length of the nonce");
  const plain = Buffer.from(canonicalJson({ format: 1, ...state }), "utf8");
  assert(plain.length <= PLAIN_BYTES_MAX, "the state of a vault is within its limit");
  const packed = zstdCompressSync(plain, {
    params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL },
  });
  const cipher = createCipheriv("aes-256-gcm", sealingKeyOf(id.vaultKey, id.vaultId), nonce);
  cipher.setAAD(nameBytes(id));
  const ciphertext = cipher.update(packed);
  cipher.final();
  const { vaultId, number } = id;
  const fields = {
    format: 1,
    vaultId,
    number,
    nonce: nonce.toString("hex"),
    ciphertext: ciphertext.toString("hex"),
    tag: cipher.getAuthTag().toString("hex"),
  };
  const bytes = Buffer.from(canonicalJson(fields), "utf8");
  assert(bytes.length <= SEALED_BYTES_MAX, "the sealed state of a vault is within its limit");
  return bytes;
}

/** What everybody can see of a sealed object. Throws SEALED_STATE_INVALID. */
export function parseSealed(bytes: Buffer): {
  readonly nonce: Buffer;
  readonly tag: Buffer;
  readonly ciphertext: Buffer;
} {
  const fields = parseCanonicalObject(bytes, REPOSITORY_ERRORS.SEALED_STATE_INVALID);
  const nonce = hexField(fields, "nonce", NONCE_BYTES);
  const tag = hexField(fields, "tag", TAG_BYTES);
  return { nonce, tag, ciphertext: hexField(fields, "ciphertext") };
}

/** Throws SEALED_STATE_INVALID (wrong key, changed bytes) or FORMAT_NEWER. */
export function decodeSealedState(bytes: Buffer, id: SealedStateId): SealedState {
  const { nonce, tag, ciphertext } = parseSealed(bytes);
  const key = sealingKeyOf(id.vaultKey, id.vaultId);
  const decipher = createDecipheriv("aes-256-gcm", key, nonce)
    .setAAD(nameBytes(id))
    .setAuthTag(tag);
  const packed = decipher.update(ciphertext);
  try {
    decipher.final();
  } catch (cause) {
    throw invalid(`${nameOf(id)} does not open under the vault key`, cause);
  }
  try {
    const plain = zstdDecompressSync(packed, { maxOutputLength: PLAIN_BYTES_MAX });
    const { format: _, ...state } = parseJson(plain.toString("utf8"), stateShape);
    return state;
  } catch (cause) {
    throw invalid(`${nameOf(id)}: ${messageOf(cause)}`, cause);
  }
}

/** How an object is named by the one after it. */
export function sealedHash(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Vaults that have sealed state in the account. */
export async function sealedVaults(
  store: ObjectStore,
  signal?: AbortSignal,
): Promise<readonly Uuid[]> {
  const vaults = new Set<Uuid>();
  for await (const { name } of listAll(store, SEALED_PREFIX, signal)) {
    const parsed = parseSealedName(name);
    if (parsed !== undefined) vaults.add(parsed.vaultId);
  }
  return [...vaults];
}

export type SealedChain = {
  /** Of the newest authentic object. */
  readonly number: number;
  readonly sha256: string;
  readonly epoch: number;
  readonly schema: number;
  /** What there is: the last value of each document that is not gone. */
  readonly documents: readonly SealedDocument[];
  /** Numbers that somebody without the key has taken. */
  readonly forged: readonly number[];
};

/** Reads the whole state of a vault; undefined where it has none. Throws SEALED_STATE_BROKEN, SEALED_STATE_INVALID. */
export async function readSealedChain(
  store: ObjectStore,
  vault: { readonly vaultId: Uuid; readonly vaultKey: Buffer },
  signal?: AbortSignal,
): Promise<SealedChain | undefined> {
  const numbers: number[] = [];
  for await (const { name } of listAll(store, sealedStatePrefix(vault.vaultId), signal)) {
    const parsed = parseSealedName(name);
    if (parsed !== undefined) numbers.push(parsed.number);
  }
  const forged: number[] = [];
  const newestFirst: ReadObject[] = [];
  for (const number of numbers.toReversed()) {
    const read = await readOne(store, { ...vault, number }, signal);
    if (read === undefined) forged.push(number);
    else newestFirst.push(read);
    if (forged.length > FORGED_SEALS_MAX)
      throw invalid(`${FORGED_SEALS_MAX} objects of vault ${vault.vaultId} do not open`);
    if (read?.state.kind === "whole") break;
  }
  const chain = newestFirst.toReversed();
  const [first] = chain;
  const last = chain.at(-1);
  if (first === undefined || last === undefined) {
    if (forged.length === 0) return undefined;
    throw invalid(`nothing of vault ${vault.vaultId} opens under this vault key`);
  }
  if (first.state.kind !== "whole" && first.state.previous !== "")
    throw brokenSeal(`object ${first.number} has none before it`);
  checkChain(chain);
  const { number, sha256, state } = last;
  const { epoch, schema } = state;
  return { number, sha256, epoch, schema, documents: merged(chain), forged };
}

type ReadObject = {
  readonly number: number;
  readonly sha256: string;
  readonly state: SealedState;
};

/** Undefined where it is not authentic. */
async function readOne(
  store: ObjectStore,
  id: SealedStateId,
  signal: AbortSignal | undefined,
): Promise<ReadObject | undefined> {
  const bytes = await readSmallObject(store, nameOf(id), SEALED_BYTES_MAX, signal);
  try {
    return { number: id.number, sha256: sealedHash(bytes), state: decodeSealedState(bytes, id) };
  } catch (error) {
    if (hasCode(error, REPOSITORY_ERRORS.SEALED_STATE_INVALID)) return undefined;
    throw error;
  }
}

function checkChain(chain: readonly ReadObject[]): void {
  for (const [index, { number, state }] of chain.entries()) {
    const before = chain[index - 1];
    if (before === undefined) continue;
    if (state.previous !== before.sha256)
      throw brokenSeal(`object ${number} does not follow object ${before.number}`);
    if (state.epoch < before.state.epoch) throw brokenSeal(`object ${number} has an older epoch`);
  }
}

function merged(chain: readonly ReadObject[]): readonly SealedDocument[] {
  const documents = new Map<string, SealedDocument>();
  for (const document of chain.flatMap(({ state }) => state.documents))
    documents.set(JSON.stringify([document.kind, document.id]), document);
  return [...documents.values()].filter(({ value }) => value !== null);
}

function nameOf({ vaultId, number }: SealedStateId): string {
  return sealedStateName(vaultId, number);
}

function nameBytes(id: SealedStateId): Buffer {
  return Buffer.from(nameOf(id), "utf8");
}

function hexField(fields: Record<string, unknown>, name: string, bytes?: number): Buffer {
  const value = fields[name];
  const isHex = typeof value === "string" && value.length % 2 === 0 && /^[0-9a-f]*$/.test(value);
  if (!isHex || (bytes !== undefined && value.length !== bytes * 2))
    throw invalid(`${name} is not the hex text that it should be`);
  return Buffer.from(value, "hex");
}

function invalid(message: string, cause?: unknown): OsrError {
  return new OsrError(REPOSITORY_ERRORS.SEALED_STATE_INVALID, message, { cause });
}

/** SEALED_STATE_BROKEN. */
export function brokenSeal(message: string): OsrError {
  return new OsrError(REPOSITORY_ERRORS.SEALED_STATE_BROKEN, `the sealed state: ${message}`);
}
