import {
  ALLOCATION_CONTEXT,
  BLOCK_BYTES_MAX,
  BLOCK_BYTES_PREFERRED,
  HANDSHAKE_FLAGS,
  INFO_TYPES,
  MAGIC,
  NAME_BYTES_MAX,
  QUERIES_MAX,
} from "./nbd-protocol.ts";

export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
const OPTION_REPLY_HEADER_BYTES = 20;

/** The first 18 bytes of a connection, server to client. */
export function encodeGreeting(): Buffer {
  const bytes = Buffer.alloc(18);
  bytes.writeBigUInt64BE(MAGIC.GREETING, 0);
  bytes.writeBigUInt64BE(MAGIC.OPTION, 8);
  bytes.writeUInt16BE(HANDSHAKE_FLAGS.FIXED_NEWSTYLE | HANDSHAKE_FLAGS.NO_ZEROES, 16);
  return bytes;
}

export type OptionHeader = { readonly option: number; readonly dataBytes: number };

/** Undefined where the magic is wrong: the client speaks something else. */
export function decodeOptionHeader(bytes: Buffer): OptionHeader | undefined {
  if (bytes.length !== OPTION_HEADER_BYTES || bytes.readBigUInt64BE(0) !== MAGIC.OPTION)
    return undefined;
  return { option: bytes.readUInt32BE(8), dataBytes: bytes.readUInt32BE(12) };
}

export function encodeOptionReply(option: number, type: number, data?: Buffer): Buffer {
  const dataBytes = data?.length ?? 0;
  const bytes = Buffer.alloc(OPTION_REPLY_HEADER_BYTES + dataBytes);
  bytes.writeBigUInt64BE(MAGIC.OPTION_REPLY, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(type, 12);
  bytes.writeUInt32BE(dataBytes, 16);
  data?.copy(bytes, OPTION_REPLY_HEADER_BYTES);
  return bytes;
}

/** One export in the answer to LIST. */
export function encodeServerEntry(name: string): Buffer {
  const text = Buffer.from(name, "utf8");
  const bytes = Buffer.alloc(4 + text.length);
  bytes.writeUInt32BE(text.length, 0);
  text.copy(bytes, 4);
  return bytes;
}

/** Size and transmission flags of the chosen export, inside an INFO reply. */
export function encodeExportInfo(sizeBytes: number, flags: number): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt16BE(INFO_TYPES.EXPORT, 0);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 2);
  bytes.writeUInt16BE(flags, 10);
  return bytes;
}

export function encodeNameInfo(name: string): Buffer {
  const text = Buffer.from(name, "utf8");
  const bytes = Buffer.alloc(2 + text.length);
  bytes.writeUInt16BE(INFO_TYPES.NAME, 0);
  text.copy(bytes, 2);
  return bytes;
}

export function encodeBlockSizeInfo(): Buffer {
  const bytes = Buffer.alloc(14);
  bytes.writeUInt16BE(INFO_TYPES.BLOCK_SIZE, 0);
  bytes.writeUInt32BE(1, 2);
  bytes.writeUInt32BE(BLOCK_BYTES_PREFERRED, 6);
  bytes.writeUInt32BE(BLOCK_BYTES_MAX, 10);
  return bytes;
}

/** The answer to EXPORT_NAME, which has no reply header; old clients want 124 zeros after it. */
export function encodeExportName(sizeBytes: number, flags: number, zeroes: boolean): Buffer {
  const bytes = Buffer.alloc(zeroes ? 134 : 10);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 0);
  bytes.writeUInt16BE(flags, 8);
  return bytes;
}

export function encodeMetaContext(contextId: number): Buffer {
  const bytes = Buffer.alloc(4 + ALLOCATION_CONTEXT.length);
  bytes.writeUInt32BE(contextId, 0);
  bytes.write(ALLOCATION_CONTEXT, 4, "latin1");
  return bytes;
}

export type InfoRequest = { readonly name: string; readonly infos: readonly number[] };

/** Data of INFO and GO. Undefined where it is not well-formed. */
export function decodeInfoRequest(data: Buffer): InfoRequest | undefined {
  const name = decodeText(data, 0, NAME_BYTES_MAX);
  if (name === undefined || data.length < name.end + 2) return undefined;
  const count = data.readUInt16BE(name.end);
  if (data.length !== name.end + 2 + 2 * count) return undefined;
  const infos: number[] = [];
  for (let i = 0; i < count; i++) infos.push(data.readUInt16BE(name.end + 2 + 2 * i));
  return { name: name.text, infos };
}

export type MetaContextRequest = { readonly name: string; readonly queries: readonly string[] };

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. Undefined where it is not well-formed. */
export function decodeMetaContextRequest(data: Buffer): MetaContextRequest | undefined {
  const name = decodeText(data, 0, NAME_BYTES_MAX);
  if (name === undefined || data.length < name.end + 4) return undefined;
  const count = data.readUInt32BE(name.end);
  if (count > QUERIES_MAX) return undefined;
  const queries: string[] = [];
  let end = name.end + 4;
  for (let i = 0; i < count; i++) {
    const query = decodeText(data, end, NAME_BYTES_MAX);
    if (query === undefined) return undefined;
    queries.push(query.text);
    end = query.end;
  }
  return end === data.length ? { name: name.text, queries } : undefined;
}

function decodeText(
  data: Buffer,
  offset: number,
  bytesMax: number,
): { readonly text: string; readonly end: number } | undefined {
  if (data.length < offset + 4) return undefined;
  const bytes = data.readUInt32BE(offset);
  const end = offset + 4 + bytes;
  if (bytes > bytesMax || end > data.length) return undefined;
  return { text: data.toString("utf8", offset + 4, end), end };
}
