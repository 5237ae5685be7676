import { createHmac, timingSafeEqual } from "node:crypto";

import { OsrError } from "@osr/base/errors";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import { certificateFacts, renewAtUnixMs } from "@osr/certificates/certificate-facts";
import { signRequest } from "@osr/certificates/site-authority";
import { certificateUri } from "@osr/contracts/certificate-name";
import {
  CERTIFICATE_DAYS,
  CERTIFICATE_RENEWED_AT_SHARE,
  type EnrolmentReply,
} from "@osr/contracts/enrolment";
import type { FabricRegistration, FabricRegistrationReply } from "@osr/contracts/fabric-protocol";

import type { VaultTransaction } from "../database/database.ts";
import { recordEvent } from "../events/record-event.ts";
import type { VaultContext } from "../vault-context.ts";
import { VAULT_ERRORS } from "../vault-errors.ts";
import { useCredential } from "./credentials.ts";
import { unknownFabric } from "./unknown-fabric.ts";
import { notifyFabric } from "./fabric-desires.ts";

/** What a configuration server may be called: it becomes a name in ARM paths. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

type Certificate = {
  readonly pem: string;
  readonly serial: string;
  readonly untilUnixMs: number;
  readonly renewAtUnixMs: number;
};

/**
 * Registers a fabric, or lets a new configuration server of the same site take over the one that is registered. `certificateDer` is what the
 * client has shown in TLS, whoever signed it. Throws REGISTRATION_REFUSED, FABRIC_NAME_TAKEN, INPUT_INVALID.
 */
export async function register(
  tx: VaultTransaction,
  registration: FabricRegistration,
  certificateDer: Buffer | undefined,
  context: VaultContext,
): Promise<FabricRegistrationReply> {
  const now = context.clock.unixMs();
  if (!NAME.test(registration.name))
    throw new OsrError(
      VAULT_ERRORS.FABRIC_NAME_INVALID,
      `'${registration.name}' is no name of a fabric`,
    );
  const vaultId =
    (await useCredential(tx, registration.token, now)) ??
    (await byCertificate(tx, certificateDer, now));
  if (vaultId === undefined)
    throw new OsrError(
      VAULT_ERRORS.REGISTRATION_REFUSED,
      "the vault credentials are unknown, used or expired",
    );
  const known = await knownFabric(tx, vaultId, registration);
  const fabricId = known?.id ?? randomUuid(context.randomness);
  const certificate = await certify(fabricId, registration.csrPem, context);
  const values = {
    host_name: registration.hostName,
    version: registration.version,
    site_authority_pem: registration.siteAuthorityPem,
    certificate_serial: certificate.serial,
    // A server that was replaced is not heard any more.
    previous_serial: null,
    certificate_expires_at: certificate.untilUnixMs,
    wants_whole: true,
  };
  if (known === undefined)
    await tx
      .insertInto("fabric")
      .values({
        id: fabricId,
        vault_id: vaultId,
        key: registration.name.toLowerCase(),
        name: registration.name,
        takeover_key: registration.takeoverKey,
        revision: 1,
        applied_revision: 0,
        status: null,
        last_heartbeat_at: null,
        registered_at: now,
        ...values,
      })
      .execute();
  else await tx.updateTable("fabric").set(values).where("id", "=", fabricId).execute();
  await recordEvent(
    tx,
    registrationEvent(vaultId, fabricId, registration, known !== undefined),
    context,
  );
  await notifyFabric(tx, fabricId);
  return {
    fabricId,
    vaultId,
    certificatePem: certificate.pem,
    authorityPem: context.authority.certificatePem,
    renewAtUnixMs: certificate.renewAtUnixMs,
  };
}

/** A new certificate for a fabric; the old one is good until the new one has been used. Throws FABRIC_UNKNOWN. */
export async function renew(
  tx: VaultTransaction,
  fabricId: Uuid,
  usedSerial: string,
  csrPem: string,
  context: VaultContext,
): Promise<EnrolmentReply> {
  const certificate = await certify(fabricId, csrPem, context);
  const { numUpdatedRows } = await tx
    .updateTable("fabric")
    .set({
      certificate_serial: certificate.serial,
      previous_serial: usedSerial,
      certificate_expires_at: certificate.untilUnixMs,
    })
    .where("id", "=", fabricId)
    .executeTakeFirst();
  if (numUpdatedRows === 0n) throw unknownFabric();
  return {
    id: fabricId,
    certificatePem: certificate.pem,
    authorityPem: context.authority.certificatePem,
    renewAtUnixMs: certificate.renewAtUnixMs,
  };
}

async function byCertificate(
  tx: VaultTransaction,
  der: Buffer | undefined,
  now: number,
): Promise<Uuid | undefined> {
  return der === undefined ? undefined : useCredential(tx, der, now);
}

/** The fabric of that id or name, which must be of the same site. */
async function knownFabric(
  tx: VaultTransaction,
  vaultId: Uuid,
  registration: FabricRegistration,
): Promise<{ readonly id: Uuid } | undefined> {
  const { fabricId } = registration;
  const rows = await tx
    .selectFrom("fabric")
    .select(["id", "name", "takeover_key"])
    .where("vault_id", "=", vaultId)
    .where((where) =>
      where.or([
        where("key", "=", registration.name.toLowerCase()),
        ...(fabricId === undefined ? [] : [where("id", "=", fabricId)]),
      ]),
    )
    .forUpdate()
    .execute();
  const row = rows.find(({ id }) => id === fabricId) ?? rows[0];
  if (row === undefined) return undefined;
  const { takeover, takeoverKey, csrPem } = registration;
  const proof = createHmac("sha256", Buffer.from(row.takeover_key, "hex")).update(csrPem);
  const isProven = takeover === undefined || isSame(takeover, proof.digest("hex"));
  if (!isProven || !isSame(row.takeover_key, takeoverKey))
    throw new OsrError(VAULT_ERRORS.FABRIC_NAME_TAKEN, `the fabric ${row.name} is of another site`);
  return row;
}

function isSame(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

async function certify(
  fabricId: Uuid,
  csrPem: string,
  { authority, clock }: VaultContext,
): Promise<Certificate> {
  const pem = await signRequest(authority, csrPem, {
    commonName: "configuration-server",
    uri: certificateUri({ role: "configuration-server", id: fabricId }),
    days: CERTIFICATE_DAYS,
    usage: "client",
    clock,
  });
  const facts = certificateFacts(pem);
  return {
    pem,
    serial: facts.serial,
    untilUnixMs: facts.untilUnixMs,
    renewAtUnixMs: renewAtUnixMs(facts, CERTIFICATE_RENEWED_AT_SHARE),
  };
}

function registrationEvent(
  vaultId: Uuid,
  fabricId: Uuid,
  { name, hostName }: FabricRegistration,
  isTakeover: boolean,
): Parameters<typeof recordEvent>[1] {
  return {
    vaultId,
    code: isTakeover ? "FABRIC_TAKEN_OVER" : "FABRIC_REGISTERED",
    eventType: "ServerHealth",
    severity: "Info",
    description: isTakeover
      ? `The configuration server ${hostName} has taken over the fabric ${name}.`
      : `The configuration server ${hostName} has registered as fabric ${name}.`,
    affected: { id: fabricId, name },
    fabricId,
  };
}
