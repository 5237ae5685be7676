import { createHash, timingSafeEqual } from "node:crypto";

import type { Clock } from "@osr/base/clock";
import { OsrError } from "@osr/base/errors";
import { text } from "@osr/base/json-shape";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import { HOUR_MS } from "@osr/base/units";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import { certificateFacts, renewAtUnixMs } from "@osr/certificates/certificate-facts";
import { type Identity, signRequest } from "@osr/certificates/site-authority";
import { certificateUri } from "@osr/contracts/certificate-name";
import {
  CERTIFICATE_DAYS,
  CERTIFICATE_RENEWED_AT_SHARE,
  ENROLLED_ROLES,
  type EnrolledRole,
  type EnrolmentReply,
  type EnrolmentRequest,
} from "@osr/contracts/enrolment";
import { proofOf, verifierOf } from "@osr/control-link/enrolment-client";
import type { PeerName } from "@osr/https/peer-name";

import { AttemptLimit } from "./attempt-limit.ts";
import { CONFIGURATION_SERVER_ERRORS } from "./configuration-server-errors.ts";
import { addressList, certificateAddresses, memberNames } from "./member-names.ts";
import type { SiteState, TokenRow } from "./site-state.ts";

/** Where the state keeps what proofs by the passphrase are checked with. */
export const PASSPHRASE_VERIFIER = "passphrase-verifier";
export const verifierShape = text(64);
const PASSPHRASE_BYTES = 20;
const TOKEN_BYTES = 32;
/** A token that has run out is still known for a while, so that whoever uses it is told why it is refused. */
const TOKEN_KEPT_MS = 7 * 24 * HOUR_MS;

export type EnrolmentPorts = {
  readonly state: SiteState;
  readonly authority: Identity;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly log: Log;
};

/** A passphrase for machines that are enrolled in numbers. A secret; it is good once it is set. */
export function newPassphrase(randomness: Randomness): string {
  return randomness.bytes(PASSPHRASE_BYTES).toString("hex");
}

/** Puts a passphrase in the place of the one before, which is refused from now on. It is not kept: only its sealed hash is. */
export function setPassphrase(state: SiteState, passphrase: string): void {
  state.keep(PASSPHRASE_VERIFIER, verifierOf(passphrase));
}

/** Makes a one-time token. It is not kept: only the sealed hash is. */
export function createToken(
  ports: Pick<EnrolmentPorts, "state" | "clock" | "randomness">,
  wanted: { readonly role: EnrolledRole; readonly id?: Uuid | undefined; readonly validMs: number },
): { readonly tokenId: Uuid; readonly token: string; readonly expiresUnixMs: number } {
  const { state, clock, randomness } = ports;
  const token = randomness.bytes(TOKEN_BYTES).toString("hex");
  const id = randomUuid(randomness);
  const nowMs = Math.floor(clock.unixMs());
  const expiresUnixMs = nowMs + wanted.validMs;
  state.transaction(() => {
    state.dropTokens(nowMs - TOKEN_KEPT_MS);
    const verifier = verifierOf(token);
    state.addToken({ id, role: wanted.role, verifier, boundId: wanted.id, expiresUnixMs });
  });
  return { tokenId: id, token, expiresUnixMs };
}

/** Gives roles their certificates: the first one against a proof, later ones against the one before. */
export class EnrolmentDesk {
  readonly #ports: EnrolmentPorts;
  readonly #limit: AttemptLimit;

  constructor(ports: EnrolmentPorts) {
    this.#ports = ports;
    this.#limit = new AttemptLimit(ports.clock);
  }

  /**
   * `discovered` gives the id of a machine that was discovered under one of some addresses. Throws ENROLMENT_REFUSED,
   * ENROLMENT_THROTTLED, ENROLMENT_ADDRESS_INVALID, TOKEN_EXPIRED, TOKEN_USED, REQUEST_INVALID.
   */
  async enrol(
    request: EnrolmentRequest,
    from: string,
    discovered: (addresses: readonly string[]) => Uuid | undefined,
  ): Promise<EnrolmentReply> {
    const token = this.#proven(request, from);
    const used = createHash("sha256").update(request.csrPem).digest("hex");
    if (token !== undefined) this.#checkToken(token, used);
    const addresses = addressList(request.addresses);
    const known =
      request.role === "mobility-service" ? discovered([from, ...addresses]) : undefined;
    const id = token?.usedBy ?? token?.boundId ?? known ?? randomUuid(this.#ports.randomness);
    const { state, log } = this.#ports;
    const { role, hostName } = request;
    const certificatePem = await this.#sign({ role, id }, request.csrPem, addresses);
    state.transaction(() => {
      // Two may have come with the same token while the certificate was signed.
      const current = token === undefined ? undefined : state.token(token.id);
      if (current?.usedRequest !== undefined && current.usedRequest !== used) throw usedToken();
      if (token !== undefined) state.useToken(token.id, id, used);
      state.addMember({
        id,
        role,
        hostName,
        enrolledUnixMs: Math.floor(this.#ports.clock.unixMs()),
      });
      this.#note(certificatePem, id);
    });
    log.info("a role was enrolled", { role, id, hostName, from, by: request.proofOf });
    return this.#reply(id, certificatePem);
  }

  /** A new certificate with the names of the one that was shown. */
  async renew(peer: PeerName, csrPem: string): Promise<EnrolmentReply> {
    const role = ENROLLED_ROLES.find((name) => name === peer.role);
    if (role === undefined)
      throw new OsrError(
        CONFIGURATION_SERVER_ERRORS.ROLE_FORBIDDEN,
        `certificates of a ${peer.role} are not from here`,
      );
    const addresses = certificateAddresses(peer.names);
    const certificatePem = await this.#sign({ role, id: peer.id }, csrPem, addresses);
    this.#note(certificatePem, peer.id);
    this.#ports.log.info("a certificate was renewed", { role, id: peer.id });
    return this.#reply(peer.id, certificatePem);
  }

  /** The token of the proof, or undefined for the passphrase. */
  #proven(request: EnrolmentRequest, from: string): TokenRow | undefined {
    const waitMs = this.#limit.waitMs(from);
    if (waitMs > 0)
      throw new OsrError(
        CONFIGURATION_SERVER_ERRORS.ENROLMENT_THROTTLED,
        "too many enrolments were refused",
        { details: { retryAfterMs: waitMs } },
      );
    const { state, log } = this.#ports;
    const isByToken = request.proofOf === "token";
    const { tokenId } = request;
    const token = isByToken && tokenId !== undefined ? state.token(tokenId) : undefined;
    const verifier = isByToken ? token?.verifier : state.kept(PASSPHRASE_VERIFIER, verifierShape);
    const isProven =
      verifier !== undefined &&
      isSame(proofOf(verifier, request.csrPem), request.proof) &&
      (isByToken ? token?.role === request.role : request.role === "mobility-service") &&
      (request.id === undefined || request.id === token?.boundId);
    if (isProven) return token;
    this.#limit.failed(from);
    log.warn("an enrolment was refused", { from, role: request.role, by: request.proofOf });
    throw new OsrError(
      CONFIGURATION_SERVER_ERRORS.ENROLMENT_REFUSED,
      "the proof does not fit, or is not for this role or id",
    );
  }

  #checkToken(token: TokenRow, used: string): void {
    if (token.usedRequest !== undefined && token.usedRequest !== used) throw usedToken();
    if (token.expiresUnixMs > this.#ports.clock.unixMs()) return;
    throw new OsrError(CONFIGURATION_SERVER_ERRORS.TOKEN_EXPIRED, "the token has expired");
  }

  async #sign(
    name: { readonly role: EnrolledRole; readonly id: Uuid },
    csrPem: string,
    addresses: readonly string[],
  ): Promise<string> {
    const { authority, clock } = this.#ports;
    return signRequest(authority, csrPem, {
      commonName: name.role,
      uri: certificateUri(name),
      ...memberNames(name.role, addresses),
      days: CERTIFICATE_DAYS,
      clock,
    });
  }

  #note(certificatePem: string, id: Uuid): void {
    const { serial, untilUnixMs } = certificateFacts(certificatePem);
    this.#ports.state.addCertificate({ serial, memberId: id, expiresUnixMs: untilUnixMs });
  }

  #reply(id: Uuid, certificatePem: string): EnrolmentReply {
    const { authority } = this.#ports;
    const facts = certificateFacts(certificatePem);
    return {
      id,
      certificatePem,
      authorityPem: authority.certificatePem,
      renewAtUnixMs: renewAtUnixMs(facts, CERTIFICATE_RENEWED_AT_SHARE),
    };
  }
}

function usedToken(): OsrError {
  return new OsrError(CONFIGURATION_SERVER_ERRORS.TOKEN_USED, "the token was used already");
}

function isSame(expected: string, given: string): boolean {
  const [a, b] = [Buffer.from(expected), Buffer.from(given)];
  return a.length === b.length && timingSafeEqual(a, b);
}
