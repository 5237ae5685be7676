import { type KeyObject, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";

import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError } from "@osr/base/errors";
import type { ClaimGrant } from "@osr/contracts/claim-grant";

import { grantSeedOf } from "./key-schedule.ts";
import type { LogId } from "./object-names.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";

/** Signs a grant. `generation` is that of the claim: the one of the `failover` fence plus 1. */
export function signClaimGrant(vaultKey: Buffer, log: LogId, generation: number): ClaimGrant {
  const { vaultId, diskId, timeline } = log;
  const grant = { vaultId, diskId, timeline, generation };
  const signature = sign(null, signedBytesOf(grant), privateKeyOf(vaultKey)).toString("hex");
  return { ...grant, signature };
}

/** The public key that verifies the grants of a vault, 32 bytes in hex: `grantKey` of its `failover` fences. */
export function grantKeyOf(vaultKey: Buffer): string {
  const spki = createPublicKey(privateKeyOf(vaultKey)).export({ format: "der", type: "spki" });
  return spki.subarray(SPKI_PREFIX.length).toString("hex");
}

/** Throws GRANT_INVALID unless the grant is for this claim and `grantKey` verifies it. */
export function checkClaimGrant(
  grant: ClaimGrant,
  claim: { readonly log: LogId; readonly generation: number; readonly grantKey: string },
): void {
  const { log, generation, grantKey } = claim;
  const isOfClaim =
    grant.vaultId === log.vaultId &&
    grant.diskId === log.diskId &&
    grant.timeline === log.timeline &&
    grant.generation === generation;
  if (!isOfClaim)
    invalid(
      `it is for generation ${grant.generation} of timeline ${grant.timeline} of disk ${grant.diskId}, the claim is of generation ${generation} of timeline ${log.timeline} of disk ${log.diskId}`,
    );
  const signature = Buffer.from(grant.signature, "hex");
  if (!verify(null, signedBytesOf(grant), publicKeyOf(grantKey), signature))
    invalid(`its signature is not that of the vault which failed disk ${log.diskId} over`);
}

/** DER before the 32 bytes of a key: RFC 8410. */
const PKCS8_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

function privateKeyOf(vaultKey: Buffer): KeyObject {
  const key = Buffer.concat([PKCS8_PREFIX, grantSeedOf(vaultKey)]);
  return createPrivateKey({ key, format: "der", type: "pkcs8" });
}

function publicKeyOf(grantKey: string): KeyObject {
  const key = Buffer.concat([SPKI_PREFIX, Buffer.from(grantKey, "hex")]);
  try {
    return createPublicKey({ key, format: "der", type: "spki" });
  } catch (cause) {
    throw new OsrError(REPOSITORY_ERRORS.GRANT_INVALID, "the fence has no valid key for grants", {
      cause,
    });
  }
}

function signedBytesOf({ vaultId, diskId, timeline, generation }: Omit<ClaimGrant, "signature">) {
  const fields = { format: 1, kind: "claim-grant", vaultId, diskId, timeline, generation };
  return Buffer.from(canonicalJson(fields), "utf8");
}

function invalid(message: string): never {
  throw new OsrError(REPOSITORY_ERRORS.GRANT_INVALID, `the grant does not permit it: ${message}`);
}
