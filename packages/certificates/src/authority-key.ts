import { createECDH, createHash, createPrivateKey, createPublicKey, hkdfSync } from "node:crypto";

/** Order of the group of P-256 (FIPS 186-4, D.1.2.3). */
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
/** 16 bytes more than the order has, so that reducing favours no key (FIPS 186-4, B.4.1). */
const CANDIDATE_BYTES = 48;

/**
 * A P-256 key (PKCS #8, PEM) that is a pure function of `secret` (32 bytes or more) and `label`: whoever has the secret has
 * the authority again.
 */
export function derivedAuthorityKey(secret: Buffer, label: string): string {
  const bytes = Buffer.from(hkdfSync("sha256", secret, Buffer.alloc(0), label, CANDIDATE_BYTES));
  const scalar = (BigInt(`0x${bytes.toString("hex")}`) % (ORDER - 1n)) + 1n;
  const d = Buffer.from(scalar.toString(16).padStart(64, "0"), "hex");
  const curve = createECDH("prime256v1");
  curve.setPrivateKey(d);
  const point = curve.getPublicKey();
  const jwk = {
    kty: "EC",
    crv: "P-256",
    d: d.toString("base64url"),
    x: point.subarray(1, 33).toString("base64url"),
    y: point.subarray(33).toString("base64url"),
  };
  const key = createPrivateKey({ key: jwk, format: "jwk" });
  return key.export({ type: "pkcs8", format: "pem" });
}

/** SHA-256 of an authority's public key (SPKI), in hex: the same for every certificate of that key. */
export function authorityFingerprint(certificatePem: string): string {
  const spki = createPublicKey(certificatePem).export({ type: "spki", format: "der" });
  return createHash("sha256").update(spki).digest("hex");
}
