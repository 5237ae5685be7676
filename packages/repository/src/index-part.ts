import { createCipheriv, createDecipheriv } from "node:crypto";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";

import { OsrError } from "@osr/base/errors";
import { uuidToBytes } from "@osr/base/uuid";

import { FORMAT_VERSION, type ObjectHeader } from "./object-header.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { writeU64 } from "./u64.ts";

/** One sealed part of an index: docs/formats/segment.md. */
const PART_KINDS = { DIRECTORY: 1, SHARD: 2 } as const;
export const DIRECTORY_PART = 0;

const TAG_BYTES = 16;
const AAD_BYTES = 56;
const ZSTD_PARAMETERS = { [constants.ZSTD_c_compressionLevel]: 3 };

/** Whose index it is. The key belongs to the object; disk, timeline, generation and seq are authenticated with it. */
export type IndexOwner = { readonly header: ObjectHeader; readonly indexKey: Buffer };

/** Compresses and encrypts a part: `zstd ‖ tag`. */
export function sealPart(plain: Buffer, part: number, owner: IndexOwner): Buffer {
  const packed = zstdCompressSync(plain, {
    params: ZSTD_PARAMETERS,
    pledgedSrcSize: plain.length,
    chunkSize: plain.length + 1024,
  });
  const cipher = createCipheriv("aes-256-gcm", owner.indexKey, nonceOf(part));
  cipher.setAAD(aadOf(part, owner.header));
  const ciphertext = cipher.update(packed);
  cipher.final();
  return Buffer.concat([ciphertext, cipher.getAuthTag()]);
}

/** Opens a part whose plaintext has at most `plainBytesMax` bytes. Throws INDEX_DAMAGED, INDEX_UNAUTHENTIC. */
export function openPart(
  sealed: Buffer,
  part: number,
  owner: IndexOwner,
  plainBytesMax: number,
): Buffer {
  if (sealed.length <= TAG_BYTES)
    throw new OsrError(REPOSITORY_ERRORS.INDEX_DAMAGED, `part ${part} of the index is too short`);
  const end = sealed.length - TAG_BYTES;
  const decipher = createDecipheriv("aes-256-gcm", owner.indexKey, nonceOf(part));
  decipher.setAAD(aadOf(part, owner.header));
  decipher.setAuthTag(sealed.subarray(end));
  const packed = decipher.update(sealed.subarray(0, end));
  try {
    decipher.final();
  } catch (cause) {
    throw new OsrError(
      REPOSITORY_ERRORS.INDEX_UNAUTHENTIC,
      `part ${part} of the index does not open with this key`,
      { cause },
    );
  }
  try {
    return zstdDecompressSync(packed, { maxOutputLength: plainBytesMax });
  } catch (cause) {
    throw new OsrError(
      REPOSITORY_ERRORS.INDEX_DAMAGED,
      `part ${part} of the index does not unpack`,
      { cause },
    );
  }
}

function nonceOf(part: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(part, 0);
  return nonce;
}

function aadOf(part: number, header: ObjectHeader): Buffer {
  const aad = Buffer.alloc(AAD_BYTES);
  aad.writeUInt16LE(FORMAT_VERSION, 0);
  aad.writeUInt16LE(part === DIRECTORY_PART ? PART_KINDS.DIRECTORY : PART_KINDS.SHARD, 2);
  aad.writeUInt32LE(part, 4);
  uuidToBytes(header.vaultId).copy(aad, 8);
  uuidToBytes(header.diskId).copy(aad, 24);
  aad.writeUInt32LE(header.timeline, 40);
  aad.writeUInt32LE(header.generation, 44);
  writeU64(aad, header.seq, 48);
  return aad;
}
