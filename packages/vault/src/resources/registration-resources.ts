import { X509Certificate, createHash } from "node:crypto";

import { object, optional, text } from "@osr/base/json-shape";
import { type JsonObject, jsonObject } from "@osr/base/json-value";
import { isoTime } from "@osr/base/platform/iso-time";
import { KIB } from "@osr/base/units";

import { badRequest } from "../arm/arm-error.ts";
import {
  type ArmReply,
  type ResourceRoute,
  type VaultRequest,
  ok,
} from "../arm/resource-routes.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import { admitCertificate, issueCredentials } from "../fabric/credentials.ts";
import type { VaultContext } from "../vault-context.ts";
import { resourceBody } from "./resource-body.ts";

const RS = "Microsoft.RecoveryServices/vaults";
const EXTENDED = "V/extendedInformation/vaultExtendedInfo";
/** Key of the extended information among a vault's documents. */
const EXTENDED_KEY = "extendedinformation/vaultextendedinfo";
const CERTIFICATE_CHARS_MAX = 16 * KIB;

const certificateShape = object<{
  properties: { certificate: string; authType?: string | undefined };
}>({
  properties: object<{ certificate: string; authType?: string | undefined }>({
    certificate: text(CERTIFICATE_CHARS_MAX),
    authType: optional(text(64)),
  }),
});

/** How a configuration server gets to the vault: our own credentials file, or Azure's certificate and integrity key. */
export function registrationRoutes(context: VaultContext): ResourceRoute[] {
  const changeExtended = (request: VaultRequest, tx: VaultTransaction): Promise<ArmReply> =>
    writeExtended(request, tx, context);
  return [
    {
      method: "POST",
      path: "V/OpenSiteRecovery/vaultCredentials",
      action: "OpenSiteRecovery/vaults/vaultCredentials/action",
      summary: "Make a vault credentials file: one registration of a configuration server",
      write: async (request, tx) => {
        const { vault, baseUrl } = request;
        const made = await issueCredentials(tx, vault, baseUrl, context.authority, context);
        return ok({ ...made });
      },
    },
    {
      method: "PUT",
      path: "V/certificates/{certificateName}",
      action: `${RS}/certificates/write`,
      summary: "Upload a certificate whose key may register one configuration server",
      write: (request, tx) => putCertificate(request, tx, context),
    },
    {
      method: "DELETE",
      path: "V/registeredIdentities/{identityName}",
      action: `${RS}/registeredIdentities/delete`,
      summary: "Unregister an identity (fabrics are removed as fabrics)",
      write: () => Promise.resolve({ status: 204 }),
    },
    {
      method: "GET",
      path: EXTENDED,
      action: `${RS}/extendedInformation/read`,
      summary: "Show the vault's integrity key",
      read: async (request, database) => ok(await readExtended(request, database)),
    },
    {
      method: "PUT",
      path: EXTENDED,
      action: `${RS}/extendedInformation/write`,
      summary: "Set the vault's integrity key",
      write: changeExtended,
    },
    {
      method: "PATCH",
      path: EXTENDED,
      action: `${RS}/extendedInformation/write`,
      summary: "Change the vault's integrity key",
      write: changeExtended,
    },
  ];
}

async function putCertificate(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmReply> {
  const { certificate: encoded } = certificateShape(request.body ?? null, "").properties;
  const der = Buffer.from(encoded, "base64");
  const certificate = parsed(der);
  const until = certificate.validToDate.getTime();
  await admitCertificate(tx, request.vault.id, { der, untilUnixMs: until }, context);
  const name = request.parameters["certificateName"] ?? "";
  const { number } = await tx
    .selectFrom("vault")
    .select("number")
    .where("id", "=", request.vault.id)
    .executeTakeFirstOrThrow();
  return ok(
    resourceBody(request.vault, ["certificates", name], {
      authType: "AzureActiveDirectory",
      certificate: encoded,
      friendlyName: name,
      issuer: certificate.issuer,
      subject: certificate.subject,
      thumbprint: createHash("sha1").update(der).digest("hex").toUpperCase(),
      resourceId: number,
      validFrom: isoTime(certificate.validFromDate.getTime()),
      validTo: isoTime(until),
      // There is no Azure AD: what its clients write into the credentials file leads back to this vault.
      aadAuthority: request.baseUrl,
      aadTenantId: request.vault.id,
      servicePrincipalClientId: request.vault.id,
      servicePrincipalObjectId: request.vault.id,
      azureManagementEndpointAudience: request.baseUrl,
      serviceResourceId: null,
      aadAudience: `${request.baseUrl}/${request.vault.name}`,
    }),
  );
}

function parsed(der: Buffer): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch {
    throw badRequest("properties.certificate", "must be an X.509 certificate: base64 of its DER");
  }
}

async function readExtended(request: VaultRequest, database: VaultDatabase): Promise<JsonObject> {
  const row = await database
    .selectFrom("vault_document")
    .select("properties")
    .where("vault_id", "=", request.vault.id)
    .where("key", "=", EXTENDED_KEY)
    .executeTakeFirst();
  return resourceBody(request.vault, ["extendedInformation", "vaultExtendedInfo"], {
    algorithm: "None",
    integrityKey: null,
    ...row?.properties,
  });
}

async function writeExtended(
  request: VaultRequest,
  tx: VaultTransaction,
  { clock, randomness }: VaultContext,
): Promise<ArmReply> {
  const sent = jsonObject(jsonObject(request.body)?.["properties"]);
  if (sent === undefined) throw badRequest("properties", "must be an object");
  const integrityKey = sent["integrityKey"] ?? randomness.bytes(16).toString("base64");
  if (typeof integrityKey !== "string" || Buffer.from(integrityKey, "base64").length === 0)
    throw badRequest("properties.integrityKey", "must be base64");
  const now = clock.unixMs();
  const kept = JSON.stringify({ ...sent, integrityKey });
  await tx
    .insertInto("vault_document")
    .values({
      vault_id: request.vault.id,
      key: EXTENDED_KEY,
      path: "extendedInformation/vaultExtendedInfo",
      collection: "extendedinformation",
      name: "vaultExtendedInfo",
      properties: kept,
      created_at: now,
      changed_at: now,
    })
    .onConflict((conflict) =>
      conflict.columns(["vault_id", "key"]).doUpdateSet({ properties: kept, changed_at: now }),
    )
    .execute();
  return ok(await readExtended(request, tx));
}
