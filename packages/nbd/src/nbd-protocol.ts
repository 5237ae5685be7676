import { KIB, MIB } from "@osr/base/units";

/**
 * Numbers of the NBD protocol, as its specification (doc/proto.md of the NetworkBlockDevice project) names them.
 * Everything on the wire is big-endian.
 */
export const MAGIC = {
  /** "NBDMAGIC", the first 8 bytes of a server. */
  GREETING: 0x4e42444d41474943n,
  /** "IHAVEOPT", before the server's flags and before each option. */
  OPTION: 0x49484156454f5054n,
  OPTION_REPLY: 0x3e889045565a9n,
  REQUEST: 0x25609513,
  SIMPLE_REPLY: 0x67446698,
  STRUCTURED_REPLY: 0x668e33ef,
} as const;

export const HANDSHAKE_FLAGS = { FIXED_NEWSTYLE: 1, NO_ZEROES: 2 } as const;

export const OPTIONS = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
} as const;

export const OPTION_REPLIES = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  UNSUPPORTED: 0x8000_0001,
  INVALID: 0x8000_0003,
  TLS_REQUIRED: 0x8000_0005,
  UNKNOWN_EXPORT: 0x8000_0006,
  TOO_BIG: 0x8000_0009,
} as const;

export const INFO_TYPES = { EXPORT: 0, NAME: 1, BLOCK_SIZE: 3 } as const;

export const TRANSMISSION_FLAGS = {
  HAS_FLAGS: 1,
  READ_ONLY: 2,
  SEND_FLUSH: 4,
  SEND_DONT_FRAGMENT: 128,
  CAN_MULTI_CONNECTION: 256,
} as const;

export const COMMANDS = {
  READ: 0,
  WRITE: 1,
  DISCONNECT: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

export const COMMAND_FLAGS = { DONT_FRAGMENT: 4, ONE_EXTENT: 8 } as const;

export const CHUNK_FLAG_DONE = 1;
export const CHUNK_TYPES = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  ERROR: 0x8001,
} as const;

/** Error numbers on the wire; those of Linux, on every system. */
export const WIRE_ERRORS = { EPERM: 1, EIO: 5, EINVAL: 22, EOVERFLOW: 75, ESHUTDOWN: 108 } as const;

/** State of an extent in the context `base:allocation`. */
export const ALLOCATION = { DATA: 0, HOLE_AND_ZERO: 3 } as const;
export const ALLOCATION_CONTEXT = "base:allocation";
/** The number under which replies name `base:allocation`. */
export const ALLOCATION_CONTEXT_ID = 1;

/** Longest name of an export, in bytes of UTF-8, by the specification. */
export const NAME_BYTES_MAX = 4096;
/** Longest data of one option. */
export const OPTION_BYTES_MAX = 16 * KIB;
/** Options that one client may send. */
export const OPTIONS_MAX = 128;
/** Meta context queries in one option. */
export const QUERIES_MAX = 64;
/** Longest read; also the longest payload of a (refused) write that is skipped and not answered by hanging up. */
export const REQUEST_BYTES_MAX = 32 * MIB;
/** What clients are told to prefer, and to stay within. */
export const BLOCK_BYTES_PREFERRED = 64 * KIB;
export const BLOCK_BYTES_MAX = 4 * MIB;
