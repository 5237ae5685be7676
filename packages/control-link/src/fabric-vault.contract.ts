import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";

import { OsrError } from "@osr/base/errors";
import { parseJson } from "@osr/base/json-shape";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import { certificateFacts } from "@osr/certificates/certificate-facts";
import { createCertificateRequest } from "@osr/certificates/signing-request";
import { certificateNameOf } from "@osr/contracts/certificate-name";
import { ENROLMENT_ROUTES, enrolmentReplyShape } from "@osr/contracts/enrolment";
import {
  FABRIC_ROUTES,
  type FabricRegistration,
  type FabricRegistrationReply,
  type FabricStatus,
  type VaultCredentials,
  desiredFabricShape,
  fabricRegistrationReplyShape,
  fabricStatusReplyShape,
} from "@osr/contracts/fabric-protocol";
import { HttpsClient } from "@osr/https/https-client";

/** A vault that tests talk to over HTTPS. */
export type VaultUnderTest = AsyncDisposable & {
  /** New ones each time. */
  credentials(): Promise<VaultCredentials>;
};

type Registered = FabricRegistrationReply & { readonly privateKeyPem: string };

/** The law for every vault that configuration servers register with: docs/formats/fabric-protocol.md. */
export function fabricVaultContract(
  name: string,
  open: () => Promise<VaultUnderTest>,
  options: { readonly skip?: string } = {},
): void {
  const law = (what: string, check: (vault: VaultUnderTest) => Promise<void>): void => {
    test(`${name}: ${what}`, { skip: options.skip ?? false }, async () => {
      await using vault = await open();
      await check(vault);
    });
  };

  law("credentials register one fabric, once", async (vault) => {
    const credentials = await vault.credentials();
    const first = await register(credentials, {});
    const names = certificateFacts(first.certificatePem).names;
    assert.deepEqual(certificateNameOf(names), {
      role: "configuration-server",
      id: first.fabricId,
    });
    await assert.rejects(register(credentials, { name: "other" }), isRefusal);
    const forged = { ...(await vault.credentials()), token: "00".repeat(32) };
    await assert.rejects(register(forged, { name: "third" }), isRefusal);
  });

  law("a name belongs to one fabric, and only its site takes it over", async (vault) => {
    const first = await register(await vault.credentials(), {});
    await assert.rejects(
      register(await vault.credentials(), { takeoverKey: "cd".repeat(32) }),
      isRefusal,
    );
    const { fabricId } = first;
    await assert.rejects(
      register(await vault.credentials(), { fabricId, provenBy: "cd".repeat(32) }),
      isRefusal,
    );
    const again = await register(await vault.credentials(), { fabricId, provenBy: KEY });
    assert.equal(again.fabricId, fabricId);
    assert.equal(again.vaultId, first.vaultId);
  });

  law("only a registered fabric is answered; it has a wish and takes reports", async (vault) => {
    const credentials = await vault.credentials();
    const registered = await register(credentials, {});
    using nobody = clientOf(credentials);
    await assert.rejects(nobody.request({ method: "GET", path: FABRIC_ROUTES.desired }), isRefusal);
    using client = clientOf(credentials, registered);
    const path = `${FABRIC_ROUTES.desired}?after=0`;
    const desired = await client.request({ method: "GET", path });
    const wish = parseJson(desired.body.toString("utf8"), desiredFabricShape);
    assert.equal(wish.vaultId, registered.vaultId);
    const body = Buffer.from(JSON.stringify(status(wish.revision)));
    const report = await client.request({ method: "POST", path: FABRIC_ROUTES.status, body });
    parseJson(report.body.toString("utf8"), fabricStatusReplyShape);
    await assert.rejects(
      client.request({ method: "POST", path: FABRIC_ROUTES.status, body: Buffer.from("{}") }),
      isRefusal,
    );
  });

  law("a certificate is renewed for the same fabric and a new key", async (vault) => {
    const credentials = await vault.credentials();
    const registered = await register(credentials, {});
    using client = clientOf(credentials, registered);
    const { csrPem, privateKeyPem } = createCertificateRequest();
    const body = Buffer.from(JSON.stringify({ csrPem }));
    const { body: bytes } = await client.request({
      method: "POST",
      path: FABRIC_ROUTES.renewal,
      body,
    });
    const renewed = parseJson(bytes.toString("utf8"), enrolmentReplyShape);
    assert.equal(renewed.id, registered.fabricId);
    using after = clientOf(credentials, { ...renewed, privateKeyPem });
    await after.request({ method: "GET", path: `${FABRIC_ROUTES.desired}?after=0` });
    await assert.rejects(
      client.request({ method: "POST", path: ENROLMENT_ROUTES.enrol, body }),
      isRefusal,
    );
  });
}

const KEY = "ab".repeat(32);

async function register(
  credentials: VaultCredentials,
  wanted: {
    readonly name?: string;
    readonly takeoverKey?: string;
    readonly fabricId?: Uuid;
    readonly provenBy?: string;
  },
): Promise<Registered> {
  const { csrPem, privateKeyPem } = createCertificateRequest();
  const { name = "site-a", takeoverKey = KEY, fabricId, provenBy } = wanted;
  const proof =
    provenBy === undefined
      ? undefined
      : createHmac("sha256", Buffer.from(provenBy, "hex")).update(csrPem).digest("hex");
  const request: FabricRegistration = {
    token: credentials.token,
    name,
    ...(fabricId === undefined ? {} : { fabricId }),
    ...(proof === undefined ? {} : { takeover: proof }),
    takeoverKey,
    csrPem,
    hostName: "cs",
    version: "0.1.0",
    siteAuthorityPem: credentials.vaultAuthorityPem,
  };
  using client = clientOf(credentials);
  const body = Buffer.from(JSON.stringify(request));
  const reply = await client.request({ method: "POST", path: FABRIC_ROUTES.registration, body });
  return {
    ...parseJson(reply.body.toString("utf8"), fabricRegistrationReplyShape),
    privateKeyPem,
  };
}

function clientOf(
  { vaultUrl, vaultAuthorityPem }: VaultCredentials,
  identity?: { readonly certificatePem: string; readonly privateKeyPem: string },
): HttpsClient {
  return new HttpsClient({
    baseUrl: vaultUrl,
    authorityPem: vaultAuthorityPem,
    ...(identity === undefined ? {} : { identity }),
    socketsMax: 2,
    timeoutMs: 30 * SECOND_MS,
    scheduler: systemScheduler,
  });
}

function status(appliedRevision: number): FabricStatus {
  return {
    appliedRevision,
    hostName: "cs",
    version: "0.1.0",
    unixMs: 1,
    certificateExpiresUnixMs: 2,
    isWhole: true,
    machines: [],
    gateways: [],
    runAsAccounts: [],
    orderResults: [],
    health: [],
  };
}

/** An answer that refuses for good: no defect of the vault, and nothing that trying again would change. */
function isRefusal(error: unknown): boolean {
  assert.ok(error instanceof OsrError, String(error));
  const { status: code }: { status?: unknown } = error.details;
  assert.ok(
    typeof code === "number" && code >= 400 && code < 500,
    `${error.code} ${error.message}`,
  );
  return true;
}
