import { createHash, timingSafeEqual } from "node:crypto";

import { type Shape, list, object, oneOf, optional, parseJson, text } from "@osr/base/json-shape";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import { SecretFile } from "@osr/repository/secret-file";

export const TOKEN_ROLES = ["ingest", "reader", "maintainer"] as const;
export type TokenRole = (typeof TOKEN_ROLES)[number];
export type Permission = "create" | "read" | "list" | "delete";

/** Nobody may overwrite: the store has no such operation. */
const PERMISSIONS: Readonly<Record<TokenRole, readonly Permission[]>> = {
  ingest: ["create", "read", "list"],
  reader: ["read", "list"],
  maintainer: ["create", "read", "list", "delete"],
};

const TOKENS_MAX = 1024;
const TOKEN_BYTES = 32;

type HashedToken = { readonly role: TokenRole; readonly sha256: string; readonly name?: string };
type TokensDocument = { readonly tokens: readonly HashedToken[] };

const sha256Text: Shape<string> = (value, path) => {
  const checked = text(64)(value, path);
  return /^[0-9a-f]{64}$/.test(checked) ? checked : text(0)(value, path);
};

const tokensShape: Shape<TokensDocument> = object<TokensDocument>({
  tokens: list(
    object<HashedToken>({
      role: oneOf(...TOKEN_ROLES),
      sha256: sha256Text,
      name: optional(text(255)),
    }),
    TOKENS_MAX,
  ),
});

export function isPermitted(role: TokenRole, permission: Permission): boolean {
  return PERMISSIONS[role].includes(permission);
}

/** A fresh access token. A secret: it goes into a file of whoever may use it, mode 0600. */
export function newToken(randomness: Randomness): string {
  return randomness.bytes(TOKEN_BYTES).toString("base64url");
}

/** Content of the storage account's tokens file: SHA-256 of each token, so that the file gives nobody access. */
export function encodeTokens(
  tokens: readonly { readonly role: TokenRole; readonly token: string; readonly name?: string }[],
): string {
  const hashed = tokens.map(({ role, token, name }) => ({
    role,
    sha256: sha256(token).toString("hex"),
    ...(name === undefined ? {} : { name }),
  }));
  return `${JSON.stringify({ tokens: hashed } satisfies TokensDocument, undefined, 2)}\n`;
}

/** Who may do what, from a file that may change under the running role. */
export class TokenFile {
  readonly #file: SecretFile;
  readonly #log: Log;
  #text: string | undefined;
  #tokens: readonly { readonly role: TokenRole; readonly digest: Buffer }[] = [];

  constructor(path: string, log: Log) {
    this.#file = new SecretFile(path);
    this.#log = log;
  }

  /** Reads the file; throws INPUT_INVALID or the system error where it is not good. */
  async load(): Promise<void> {
    const current = await this.#file.read();
    if (current === this.#text) return;
    const { tokens } = parseJson(current, tokensShape);
    this.#tokens = tokens.map(({ role, sha256: hex }) => ({
      role,
      digest: Buffer.from(hex, "hex"),
    }));
    this.#text = current;
  }

  /** The role of `token`. Looks at every known token, so that the time tells nothing about them. */
  async roleOf(token: string): Promise<TokenRole | undefined> {
    try {
      await this.load();
    } catch (error) {
      // Somebody is editing it, perhaps; those who had access keep it, and the log says why nothing changes.
      this.#log.error("the tokens file cannot be used; the tokens before it stay valid", { error });
    }
    const digest = sha256(token);
    let found: TokenRole | undefined;
    for (const known of this.#tokens) if (timingSafeEqual(known.digest, digest)) found = known.role;
    return found;
  }
}

function sha256(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
