import { type Shape, object, text, uuidText } from "@osr/base/json-shape";
import { KIB } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";

/** The site as the vault knows it. The private key is a secret. */
export type FabricIdentity = {
  readonly fabricId: Uuid;
  readonly name: string;
  readonly vaultId: Uuid;
  readonly vaultUrl: string;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  /** Of the vault. */
  readonly authorityPem: string;
};

export const fabricIdentityShape: Shape<FabricIdentity> = object<FabricIdentity>({
  fabricId: uuidText,
  name: text(64),
  vaultId: uuidText,
  vaultUrl: text(2048),
  certificatePem: text(16 * KIB),
  privateKeyPem: text(16 * KIB),
  authorityPem: text(16 * KIB),
});

/** Where the fabric's identity is kept in the state. */
export const FABRIC_IDENTITY = "fabric";
