import type { Socket } from "node:net";
import { type TLSSocket, createServer } from "node:tls";

import { OsrError, defineErrors } from "@osr/base/errors";

const ERRORS = defineErrors({
  NBD_TLS_REFUSED: {
    retryable: false,
    hint: "Give the client a certificate of this site's authority that is allowed to read this export.",
  },
});

/** TLS on both sides. There is no NBD over TCP without it. */
export type NbdTls = {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  /** Authority of the clients' certificates. */
  readonly clientAuthorityPem: string;
  /**
   * Whether a client with this subject alternative name (as Node prints it) may read the exports. The authority signs
   * certificates for every role, and most of them have no business here.
   */
  readonly allows: (subjectAltName: string | undefined) => boolean;
};

/**
 * The encrypted side of an accepted connection, once its client has shown a certificate that is allowed. Throws
 * NBD_TLS_REFUSED. A tls.Server does it and not a bare TLSSocket, which would accept a certificate of any authority.
 */
export async function secured(socket: Socket, tls: NbdTls): Promise<TLSSocket> {
  const stream = await new Promise<TLSSocket>((resolve, reject) => {
    const refuse = (cause?: unknown): void => {
      const message = "the TLS handshake of an NBD client failed";
      reject(new OsrError(ERRORS.NBD_TLS_REFUSED, message, { cause }));
    };
    const server = createServer({
      cert: tls.certificatePem,
      key: tls.privateKeyPem,
      ca: tls.clientAuthorityPem,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: "TLSv1.3",
    });
    server.once("secureConnection", resolve);
    server.once("tlsClientError", refuse);
    socket.once("close", () => {
      refuse();
    });
    server.emit("connection", socket);
  });
  const subjectAltName = stream.getPeerCertificate().subjectaltname;
  if (tls.allows(subjectAltName)) return stream;
  stream.destroy();
  throw new OsrError(
    ERRORS.NBD_TLS_REFUSED,
    `an NBD client is not allowed here: ${subjectAltName}`,
  );
}
