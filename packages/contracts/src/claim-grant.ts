import { type Shape, integer, object, text, uuidText } from "@osr/base/json-shape";
import type { Uuid } from "@osr/base/uuid";

/**
 * The vault's permission to claim a log after a `failover` fence: docs/formats/segment.md, Log and fences. Names one claim,
 * that of `generation` on `timeline`, so that it serves once. No secret: only whoever has the data key can use it.
 */
export type ClaimGrant = {
  readonly vaultId: Uuid;
  readonly diskId: Uuid;
  readonly timeline: number;
  readonly generation: number;
  /** Ed25519 in hex. */
  readonly signature: string;
};

export const claimGrantShape: Shape<ClaimGrant> = object<ClaimGrant>({
  vaultId: uuidText,
  diskId: uuidText,
  timeline: integer(1, 2 ** 32 - 1),
  generation: integer(1, 2 ** 32 - 1),
  signature: text(128),
});
