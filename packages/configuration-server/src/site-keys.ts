import { createHmac, hkdfSync } from "node:crypto";

import { OsrError } from "@osr/base/errors";
import { derivedAuthorityKey } from "@osr/certificates/authority-key";

import { CONFIGURATION_SERVER_ERRORS } from "./configuration-server-errors.ts";

const SECRET = /^[0-9a-f]{64}$/;

/** What follows from a site's secret, so that whoever has the secret is the site's configuration server. All are secrets. */
export type SiteKeys = {
  readonly authorityKeyPem: string;
  /** Seals the local state. */
  readonly stateKey: Buffer;
  /** What the vault keeps to know the site again. In hex. */
  readonly takeoverKey: string;
};

/** Reads the content of a site secret's file. Throws SITE_SECRET_INVALID. */
export function parseSiteSecret(text: string): Buffer {
  const hex = text.trim();
  if (SECRET.test(hex)) return Buffer.from(hex, "hex");
  throw new OsrError(
    CONFIGURATION_SERVER_ERRORS.SITE_SECRET_INVALID,
    "the site secret is not 64 hexadecimal digits",
  );
}

export function siteKeysOf(secret: Buffer): SiteKeys {
  return {
    authorityKeyPem: derivedAuthorityKey(secret, "osr1|site-authority"),
    stateKey: Buffer.from(hkdfSync("sha256", secret, Buffer.alloc(0), "osr1|site-state", 32)),
    takeoverKey: createHmac("sha256", secret).update("osr1|fabric-takeover").digest("hex"),
  };
}
