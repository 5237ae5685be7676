import { createHash } from "node:crypto";

import type { Clock } from "@osr/base/clock";
import type { Randomness } from "@osr/base/randomness";
import { HOUR_MS } from "@osr/base/units";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import type { VaultCredentials } from "@osr/contracts/fabric-protocol";

import type { VaultRow } from "../arm/resource-routes.ts";
import type { VaultTransaction } from "../database/database.ts";

type Ports = { readonly clock: Clock; readonly randomness: Randomness };

/** As Azure's: a credentials file is good for some days. */
const CREDENTIAL_MS = 5 * 24 * HOUR_MS;

/** Makes the content of a vault credentials file: one registration, within five days. Its token is kept as a hash only. */
export async function issueCredentials(
  tx: VaultTransaction,
  vault: VaultRow,
  vaultUrl: string,
  authority: { readonly certificatePem: string },
  ports: Ports,
): Promise<VaultCredentials> {
  const token = ports.randomness.bytes(32).toString("hex");
  const expiresUnixMs = ports.clock.unixMs() + CREDENTIAL_MS;
  await admit(tx, vault.id, sha256(token), expiresUnixMs, ports);
  return {
    vaultUrl,
    vaultAuthorityPem: authority.certificatePem,
    vaultArmId: vault.armId,
    token,
    expiresUnixMs,
  };
}

/** Lets the holder of a certificate's key register once, as `Get-AzRecoveryServicesVaultSettingsFile` prepares it. */
export async function admitCertificate(
  tx: VaultTransaction,
  vaultId: Uuid,
  certificate: { readonly der: Buffer; readonly untilUnixMs: number },
  ports: Ports,
): Promise<void> {
  const expiresUnixMs = Math.min(ports.clock.unixMs() + CREDENTIAL_MS, certificate.untilUnixMs);
  await admit(tx, vaultId, sha256(certificate.der), expiresUnixMs, ports);
}

async function admit(
  tx: VaultTransaction,
  vaultId: Uuid,
  hash: string,
  expiresUnixMs: number,
  { clock, randomness }: Ports,
): Promise<void> {
  await tx
    .insertInto("fabric_credential")
    .values({
      id: randomUuid(randomness),
      vault_id: vaultId,
      sha256: hash,
      expires_at: expiresUnixMs,
      used_at: null,
      created_at: clock.unixMs(),
    })
    // The same certificate uploaded again does not bring back what was used.
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/** Uses a credential up. Undefined where there is none that is good: unknown, used or expired, which is not told apart. */
export async function useCredential(
  tx: VaultTransaction,
  secret: string | Buffer,
  nowMs: number,
): Promise<Uuid | undefined> {
  const row = await tx
    .updateTable("fabric_credential")
    .set({ used_at: nowMs })
    .where("sha256", "=", sha256(secret))
    .where("used_at", "is", null)
    .where("expires_at", ">", nowMs)
    .returning("vault_id")
    .executeTakeFirst();
  return row?.vault_id;
}

function sha256(secret: string | Buffer): string {
  return createHash("sha256").update(secret).digest("hex");
}
