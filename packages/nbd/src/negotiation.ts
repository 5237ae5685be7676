import type { BlockSource } from "@osr/base/block-source";

import {
  ALLOCATION_CONTEXT,
  ALLOCATION_CONTEXT_ID,
  HANDSHAKE_FLAGS,
  INFO_TYPES,
  OPTIONS,
  OPTIONS_MAX,
  OPTION_REPLIES,
  TRANSMISSION_FLAGS,
} from "./nbd-protocol.ts";
import {
  decodeInfoRequest,
  decodeMetaContextRequest,
  encodeBlockSizeInfo,
  encodeExportInfo,
  encodeExportName,
  encodeMetaContext,
  encodeNameInfo,
  encodeOptionReply,
  encodeServerEntry,
} from "./negotiation-codec.ts";

/** What client and server have agreed on when the transmission begins. */
export type Agreement = {
  readonly exportName: string;
  readonly source: BlockSource;
  readonly structuredReplies: boolean;
  /** True where the client chose `base:allocation`, so that it may ask for block status. */
  readonly allocation: boolean;
};

/**
 * What to do after an option: send `reply`, then
 * - `continue`: read the next option;
 * - `tls`: begin TLS on the connection, then go on with `secured`;
 * - `transmit`: begin the transmission;
 * - `end`: close after sending; `drop`: close at once.
 */
export type NegotiationStep =
  | { readonly next: "continue" | "tls" | "end" | "drop"; readonly reply: Buffer }
  | { readonly next: "transmit"; readonly reply: Buffer; readonly agreement: Agreement };

const NOTHING = Buffer.alloc(0);
const DROP: NegotiationStep = { next: "drop", reply: NOTHING };

/**
 * The server's side of the option haggling (fixed newstyle), without any input or output. Where TLS is required, every
 * option but STARTTLS and ABORT is refused until the connection is secured.
 */
export class Negotiation {
  readonly #exports: ReadonlyMap<string, BlockSource>;
  readonly #tlsOffered: boolean;
  #secure: boolean;
  #zeroes = true;
  #structuredReplies = false;
  /** The export for which `base:allocation` was chosen. */
  #allocationOf: BlockSource | undefined;
  #options = 0;

  constructor(
    exports: ReadonlyMap<string, BlockSource>,
    options: { readonly tlsRequired: boolean },
  ) {
    this.#exports = exports;
    this.#tlsOffered = options.tlsRequired;
    this.#secure = !options.tlsRequired;
  }

  /** Takes the client's flags; false where it sets one that is not known, and must be dropped. */
  acceptClientFlags(flags: number): boolean {
    this.#zeroes = (flags & HANDSHAKE_FLAGS.NO_ZEROES) === 0;
    return flags <= (HANDSHAKE_FLAGS.FIXED_NEWSTYLE | HANDSHAKE_FLAGS.NO_ZEROES);
  }

  /** The TLS handshake has succeeded. Nothing can have been agreed on before it, since every option was refused. */
  secured(): void {
    this.#secure = true;
  }

  option(option: number, data: Buffer): NegotiationStep {
    this.#options += 1;
    if (this.#options > OPTIONS_MAX) return DROP;
    if (option === OPTIONS.ABORT)
      return { next: "end", reply: encodeOptionReply(option, OPTION_REPLIES.ACK) };
    if (option === OPTIONS.STARTTLS) return this.#startTls(data);
    // EXPORT_NAME knows no error reply: the specification wants the connection closed.
    if (!this.#secure)
      return option === OPTIONS.EXPORT_NAME ? DROP : refuse(option, OPTION_REPLIES.TLS_REQUIRED);
    switch (option) {
      case OPTIONS.EXPORT_NAME:
        return this.#exportName(data);
      case OPTIONS.LIST:
        return this.#list(data);
      case OPTIONS.INFO:
      case OPTIONS.GO:
        return this.#infoOrGo(option, data);
      case OPTIONS.STRUCTURED_REPLY:
        if (data.length > 0) return refuse(option, OPTION_REPLIES.INVALID);
        this.#structuredReplies = true;
        return accept(option);
      case OPTIONS.LIST_META_CONTEXT:
      case OPTIONS.SET_META_CONTEXT:
        return this.#metaContext(option, data);
      default:
        return refuse(option, OPTION_REPLIES.UNSUPPORTED);
    }
  }

  #startTls(data: Buffer): NegotiationStep {
    if (!this.#tlsOffered) return refuse(OPTIONS.STARTTLS, OPTION_REPLIES.UNSUPPORTED);
    if (this.#secure || data.length > 0) return refuse(OPTIONS.STARTTLS, OPTION_REPLIES.INVALID);
    return { next: "tls", reply: encodeOptionReply(OPTIONS.STARTTLS, OPTION_REPLIES.ACK) };
  }

  #exportName(data: Buffer): NegotiationStep {
    const found = this.#find(data.toString("utf8"));
    if (found === undefined) return DROP;
    const reply = encodeExportName(found.source.sizeBytes, this.#flags(), this.#zeroes);
    return { next: "transmit", reply, agreement: this.#agreement(found) };
  }

  #list(data: Buffer): NegotiationStep {
    if (data.length > 0) return refuse(OPTIONS.LIST, OPTION_REPLIES.INVALID);
    const entries = [...this.#exports.keys()].map((name) =>
      encodeOptionReply(OPTIONS.LIST, OPTION_REPLIES.SERVER, encodeServerEntry(name)),
    );
    return accept(OPTIONS.LIST, entries);
  }

  #infoOrGo(option: number, data: Buffer): NegotiationStep {
    const request = decodeInfoRequest(data);
    if (request === undefined) return refuse(option, OPTION_REPLIES.INVALID);
    const found = this.#find(request.name);
    if (found === undefined) return refuse(option, OPTION_REPLIES.UNKNOWN_EXPORT);
    const infos = [encodeExportInfo(found.source.sizeBytes, this.#flags())];
    if (request.infos.includes(INFO_TYPES.NAME)) infos.push(encodeNameInfo(found.name));
    if (request.infos.includes(INFO_TYPES.BLOCK_SIZE)) infos.push(encodeBlockSizeInfo());
    const step = accept(
      option,
      infos.map((info) => encodeOptionReply(option, OPTION_REPLIES.INFO, info)),
    );
    if (option === OPTIONS.INFO) return step;
    return { next: "transmit", reply: step.reply, agreement: this.#agreement(found) };
  }

  #metaContext(option: number, data: Buffer): NegotiationStep {
    const sets = option === OPTIONS.SET_META_CONTEXT;
    if (sets) this.#allocationOf = undefined;
    const request = decodeMetaContextRequest(data);
    if (request === undefined) return refuse(option, OPTION_REPLIES.INVALID);
    if (sets && !this.#structuredReplies) return refuse(option, OPTION_REPLIES.INVALID);
    const found = this.#find(request.name);
    if (found === undefined) return refuse(option, OPTION_REPLIES.UNKNOWN_EXPORT);
    const asked =
      request.queries.includes(ALLOCATION_CONTEXT) ||
      // Wildcards only list.
      (!sets && (request.queries.length === 0 || request.queries.includes("base:")));
    if (!asked) return accept(option);
    if (sets) this.#allocationOf = found.source;
    const context = encodeMetaContext(sets ? ALLOCATION_CONTEXT_ID : 0);
    return accept(option, [encodeOptionReply(option, OPTION_REPLIES.META_CONTEXT, context)]);
  }

  /** The empty name means the default export: the one of that name, or the only one there is. */
  #find(name: string): { readonly name: string; readonly source: BlockSource } | undefined {
    const source = this.#exports.get(name);
    if (source !== undefined) return { name, source };
    const [only] = this.#exports;
    if (name !== "" || this.#exports.size !== 1 || only === undefined) return undefined;
    return { name: only[0], source: only[1] };
  }

  #flags(): number {
    return (
      TRANSMISSION_FLAGS.HAS_FLAGS +
      TRANSMISSION_FLAGS.READ_ONLY +
      TRANSMISSION_FLAGS.SEND_FLUSH +
      TRANSMISSION_FLAGS.CAN_MULTI_CONNECTION +
      (this.#structuredReplies ? TRANSMISSION_FLAGS.SEND_DONT_FRAGMENT : 0)
    );
  }

  #agreement(found: { readonly name: string; readonly source: BlockSource }): Agreement {
    return {
      exportName: found.name,
      source: found.source,
      structuredReplies: this.#structuredReplies,
      allocation: this.#structuredReplies && this.#allocationOf === found.source,
    };
  }
}

function accept(option: number, replies: readonly Buffer[] = []): NegotiationStep {
  return {
    next: "continue",
    reply: Buffer.concat([...replies, encodeOptionReply(option, OPTION_REPLIES.ACK)]),
  };
}

function refuse(option: number, type: number): NegotiationStep {
  return { next: "continue", reply: encodeOptionReply(option, type) };
}
