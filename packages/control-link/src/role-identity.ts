import { readFileSync } from "node:fs";

import { OsrError, messageOf, systemErrorCode } from "@osr/base/errors";
import { type Shape, object, parseJson, text, uuidText } from "@osr/base/json-shape";
import { KIB } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";

import { writeSecretFile } from "./secret-file.ts";
import { LINK_ERRORS } from "./link-errors.ts";

/** Who a role is, once it is enrolled. The private key is a secret. */
export type RoleIdentity = {
  readonly id: Uuid;
  /** `host:port` of the configuration server. */
  readonly configurationServer: string;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly authorityPem: string;
};

const pem = text(16 * KIB);
const shape: Shape<RoleIdentity> = object<RoleIdentity>({
  id: uuidText,
  configurationServer: text(512),
  certificatePem: pem,
  privateKeyPem: pem,
  authorityPem: pem,
});

/** Where the identity is kept. `write` is durable when it returns, and a crash leaves the old or the new one. */
export interface IdentityStore {
  read(): RoleIdentity | undefined;
  write(identity: RoleIdentity): void;
}

/** One file, 0600, so that key and certificate always belong together. `read` throws IDENTITY_INVALID. */
export function identityFile(path: string): IdentityStore {
  return {
    read() {
      let json: string;
      try {
        json = readFileSync(path, "utf8");
      } catch (error) {
        if (systemErrorCode(error) === "ENOENT") return undefined;
        throw error;
      }
      try {
        return parseJson(json, shape);
      } catch (cause) {
        throw new OsrError(LINK_ERRORS.IDENTITY_INVALID, `${path}: ${messageOf(cause)}`, { cause });
      }
    },
    write: (identity) => writeSecretFile(path, `${JSON.stringify(identity, null, 2)}\n`),
  };
}
