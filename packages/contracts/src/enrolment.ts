import { type Shape, integer, object, oneOf, optional, text, uuidText } from "@osr/base/json-shape";
import { KIB } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";

/**
 * How a role gets its first certificate, and every later one: docs/formats/site-protocol.md. The caller makes its own key
 * pair, so that a private key never crosses a wire. The server is known before by the fingerprint in the token.
 */
export const ENROLMENT_ROUTES = {
  /** POST EnrolmentRequest without a client certificate: EnrolmentReply. */
  enrol: "/v1/enrolment",
  /** POST RenewalRequest with the certificate that is to be replaced: EnrolmentReply. */
  renew: "/v1/renewal",
} as const;

/** Who may enrol with a configuration server. */
export const ENROLLED_ROLES = ["mobility-service", "process-server", "master-target"] as const;
export type EnrolledRole = (typeof ENROLLED_ROLES)[number];

/** What a one-time token's file holds. A secret. */
export type EnrolmentToken = {
  readonly tokenId: Uuid;
  readonly token: string;
  readonly role: EnrolledRole;
  /** `host:port`, as the role reaches it. */
  readonly configurationServer: string;
  /** SHA-256 of the public key of the site's authority, in hex. */
  readonly authorityFingerprint: string;
  /** Of the machine for which it was made, where it is to be the same one as before. */
  readonly id?: Uuid | undefined;
  readonly expiresUnixMs: number;
};

export const enrolmentTokenShape: Shape<EnrolmentToken> = object<EnrolmentToken>({
  tokenId: uuidText,
  token: text(256),
  role: oneOf(...ENROLLED_ROLES),
  configurationServer: text(512),
  authorityFingerprint: text(64),
  id: optional(uuidText),
  expiresUnixMs: integer(0),
});

export const CERTIFICATE_DAYS = 30;
/** Share of a certificate's life after which it is renewed. */
export const CERTIFICATE_RENEWED_AT_SHARE = 2 / 3;

const PEM_CHARS_MAX = 16 * KIB;

export type EnrolmentRequest = {
  readonly role: EnrolledRole;
  /**
   * `token`: a one-time token. `passphrase`: the site's passphrase, for many machines. Either way `proof` is
   * HMAC-SHA256(SHA-256(secret as UTF-8), csrPem) in hex: the secret itself is not sent, and its hash is all that is kept.
   */
  readonly proofOf: "token" | "passphrase";
  /** Names the token; absent for the passphrase. */
  readonly tokenId?: Uuid | undefined;
  readonly proof: string;
  /** PKCS #10. Its subject and extensions are ignored: the configuration server decides what goes into the certificate. */
  readonly csrPem: string;
  /** Of a machine that was enrolled before, so that it keeps its disks' logs; only with a token that was made for it. */
  readonly id?: Uuid | undefined;
  /** What the machine calls itself. */
  readonly hostName: string;
  /** SMBIOS system UUID, lower case: the identity of the machine is bound to it. */
  readonly biosUuid: string;
  /**
   * Comma-separated. Of a server role: under which it is reached, for its certificate. Of an agent: those of its machine,
   * so that it becomes the machine that was discovered under one of them.
   */
  readonly addresses?: string | undefined;
};

export const enrolmentRequestShape: Shape<EnrolmentRequest> = object<EnrolmentRequest>({
  role: oneOf(...ENROLLED_ROLES),
  proofOf: oneOf("token", "passphrase"),
  tokenId: optional(uuidText),
  proof: text(64),
  csrPem: text(PEM_CHARS_MAX),
  id: optional(uuidText),
  hostName: text(255),
  biosUuid: text(64),
  addresses: optional(text(4 * KIB)),
});

export type RenewalRequest = { readonly csrPem: string };

export const renewalRequestShape: Shape<RenewalRequest> = object<RenewalRequest>({
  csrPem: text(PEM_CHARS_MAX),
});

export type EnrolmentReply = {
  /** Names the role from now on; in the certificate, too. */
  readonly id: Uuid;
  readonly certificatePem: string;
  /** Of the site. */
  readonly authorityPem: string;
  /** Certificates that are not valid any more, in PEM (`X509 CRL`). */
  readonly revokedPem?: string | undefined;
  readonly renewAtUnixMs: number;
};

export const enrolmentReplyShape: Shape<EnrolmentReply> = object<EnrolmentReply>({
  id: uuidText,
  certificatePem: text(PEM_CHARS_MAX),
  authorityPem: text(PEM_CHARS_MAX),
  revokedPem: optional(text(256 * KIB)),
  renewAtUnixMs: integer(0),
});
