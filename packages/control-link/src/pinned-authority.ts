import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { type DetailedPeerCertificate, connect } from "node:tls";

import { OsrError, defineErrors, messageOf } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";
import { authorityFingerprint } from "@osr/certificates/authority-key";

import { LINK_ERRORS } from "./link-errors.ts";
import type { ServerAddress } from "./server-address.ts";

const HANDSHAKE_MS = 20 * SECOND_MS;
const CHAIN_MAX = 4;

const ERRORS = defineErrors({
  SERVER_UNREACHABLE: {
    retryable: true,
    hint: "Check the address, and that the network lets the connection through.",
  },
});

/**
 * The certificate of the authority that a server shows, where its public key has `fingerprint` (SHA-256, hex). Nothing is
 * sent before; whoever connects with it as the only authority then is sure of the server. Throws AUTHORITY_UNKNOWN,
 * SERVER_UNREACHABLE.
 */
export async function pinnedAuthority(
  { host, port }: ServerAddress,
  fingerprint: string,
  scheduler: Scheduler,
): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<DetailedPeerCertificate>();
  const servername = isIP(host) === 0 ? { servername: host } : {};
  const socket = connect({
    host,
    port,
    ...servername,
    minVersion: "TLSv1.3",
    // What it shows is compared with the fingerprint instead.
    rejectUnauthorized: false,
  });
  const unreachable = (why: string): OsrError =>
    new OsrError(ERRORS.SERVER_UNREACHABLE, `${host}:${port}: ${why}`);
  socket.once("secureConnect", () => resolve(socket.getPeerCertificate(true)));
  socket.on("error", (error) => reject(unreachable(messageOf(error))));
  using _ = scheduler.after(HANDSHAKE_MS, () => reject(unreachable("no TLS handshake in time")));
  try {
    return chosen(await promise, fingerprint.toLowerCase(), host);
  } finally {
    socket.destroy();
  }
}

function chosen(leaf: DetailedPeerCertificate, fingerprint: string, host: string): string {
  let current = leaf;
  for (let depth = 0; depth < CHAIN_MAX; depth++) {
    const issuer = current.issuerCertificate as DetailedPeerCertificate | undefined;
    if (issuer?.raw === undefined || issuer === current) break;
    const pem = new X509Certificate(issuer.raw).toString();
    if (authorityFingerprint(pem) === fingerprint) return pem;
    current = issuer;
  }
  throw new OsrError(
    LINK_ERRORS.AUTHORITY_UNKNOWN,
    `${host} shows no authority with the fingerprint ${fingerprint}`,
  );
}
