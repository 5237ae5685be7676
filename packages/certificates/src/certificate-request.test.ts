import assert from "node:assert/strict";
import { X509Certificate, createPublicKey, generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { test } from "node:test";
import tls from "node:tls";

import { assert as check, asyncProperty, integer, nat, string } from "fast-check";

import { OsrError } from "@osr/base/errors";
import { systemClock } from "@osr/base/platform/system-clock";

import { authorityFingerprint, derivedAuthorityKey } from "./authority-key.ts";
import { certificateFacts, renewAtUnixMs } from "./certificate-facts.ts";
import { requestedKey } from "./certificate-request.ts";
import { createCertificateRequest } from "./signing-request.ts";
import { createRevocationList } from "./revocation-list.ts";
import {
  authorityOfKey,
  createAuthority,
  issueCertificate,
  signRequest,
} from "./site-authority.ts";

const clock = systemClock;
const AUTHORITY = { commonName: "site", days: 1, clock };
const refused = (error: unknown): boolean =>
  error instanceof OsrError && error.code === "REQUEST_INVALID";

test("a signed request has the caller's key and our names alone", async () => {
  const authority = await createAuthority(AUTHORITY);
  const { csrPem, privateKeyPem } = createCertificateRequest();
  const uri = "osr://process-server/00000000-0000-4000-8000-000000000001";
  const names = { commonName: "role", uri, ipAddresses: ["127.0.0.1"], usage: "both" } as const;
  const pem = await signRequest(authority, csrPem, { ...names, days: 30, clock });
  const certificate = new X509Certificate(pem);
  assert.equal(certificate.subject, "CN=role");
  assert.equal(certificate.subjectAltName, `URI:${uri}, IP Address:127.0.0.1`);
  assert.ok(certificate.publicKey.equals(createPublicKey(privateKeyPem)));
  assert.ok(certificate.verify(createPublicKey(authority.certificatePem)));
  const facts = certificateFacts(pem);
  const day = 24 * 60 * 60 * 1000;
  assert.ok(Math.abs(renewAtUnixMs(facts, 2 / 3) - (clock.unixMs() + 20 * day)) < day);
});

test("requests of other curves, with another's key, or of any other bytes are refused", async () => {
  const { csrPem } = createCertificateRequest();
  const body = Buffer.from(csrPem.replaceAll(/-----[A-Z ]+-----|\s/g, ""), "base64");
  const wrapped = (bytes: Uint8Array): string =>
    `-----BEGIN CERTIFICATE REQUEST-----\n${Buffer.from(bytes).toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
  const key = await requestedKey(csrPem);
  const other = Buffer.from(body);
  other[body.length - 1] = (other.at(-1) ?? 0) ^ 1;
  await assert.rejects(requestedKey(wrapped(other)), refused);
  const secp384 = generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey;
  const foreign = secp384.export({ type: "spki", format: "der" });
  await assert.rejects(requestedKey(wrapped(foreign)), refused);
  await check(
    asyncProperty(nat(body.length - 1), integer({ min: 1, max: 255 }), async (at, by) => {
      const changed = Buffer.from(body);
      changed[at] = (changed[at] ?? 0) ^ by;
      // Some bytes of the encoding mean nothing to the library; a key without its proof never comes out.
      const got = await requestedKey(wrapped(changed)).catch((error: unknown) => error);
      assert.ok(Buffer.isBuffer(got) ? got.equals(key) : refused(got));
    }),
    { numRuns: 100 },
  );
  await check(
    asyncProperty(string({ maxLength: 200 }), (text) =>
      assert.rejects(requestedKey(text), refused),
    ),
    { numRuns: 50 },
  );
});

test("one secret gives one authority, whoever makes it, and trust in one is trust in the other", async () => {
  const secret = Buffer.alloc(32, 7);
  const key = derivedAuthorityKey(secret, "osr1|test");
  assert.equal(derivedAuthorityKey(secret, "osr1|test"), key);
  assert.notEqual(derivedAuthorityKey(secret, "osr1|other"), key);
  const [first, second] = [
    await authorityOfKey(key, AUTHORITY),
    await authorityOfKey(key, AUTHORITY),
  ];
  assert.notEqual(first.certificatePem, second.certificatePem);
  assert.equal(
    authorityFingerprint(first.certificatePem),
    authorityFingerprint(second.certificatePem),
  );
  const server = await issueCertificate(second, {
    commonName: "server",
    ipAddresses: ["127.0.0.1"],
    usage: "server",
    days: 1,
    clock,
  });
  assert.equal(await verdict(first.certificatePem, server, {}), "accepted");
});

test("a revoked certificate is refused by those who have the list, and only that one", async () => {
  const authority = await createAuthority(AUTHORITY);
  const common = { usage: "both", days: 1, clock, ipAddresses: ["127.0.0.1"] } as const;
  const [good, bad] = [
    await issueCertificate(authority, { commonName: "good", ...common }),
    await issueCertificate(authority, { commonName: "bad", ...common }),
  ];
  const { serial } = certificateFacts(bad.certificatePem);
  const revoked = [{ serial, revokedUnixMs: clock.unixMs() }];
  const crl = await createRevocationList(authority, revoked, clock);
  assert.equal(await verdict(authority.certificatePem, good, { crl }), "accepted");
  assert.equal(await verdict(authority.certificatePem, bad, { crl }), "CERT_REVOKED");
});

/** What a client that trusts `authorityPem` says of a server. */
async function verdict(
  authorityPem: string,
  identity: { readonly certificatePem: string; readonly privateKeyPem: string },
  options: { readonly crl?: string },
): Promise<string> {
  const server = tls.createServer({ cert: identity.certificatePem, key: identity.privateKeyPem });
  server.on("tlsClientError", () => undefined);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const socket = tls.connect({ port, host: "127.0.0.1", ca: authorityPem, ...options });
  try {
    return await Promise.race([
      once(socket, "secureConnect").then(() => "accepted"),
      once(socket, "error").then(([error]) => String((error as NodeJS.ErrnoException).code)),
    ]);
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  } finally {
    socket.destroy();
    server.close();
  }
}
