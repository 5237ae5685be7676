import type { Socket } from "node:net";
import { type SecureContext, TLSSocket, createSecureContext, createServer } from "node:tls";

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

/** Upgrades accepted connections to TLS. */
export class TlsUpgrade {
  readonly #tls: NbdTls;
  readonly #context: SecureContext;

  constructor(tls: NbdTls) {
    this.#tls = tls;
    this.#context = createSecureContext({
      cert: tls.certificatePem,
      key: tls.privateKeyPem,
      ca: tls.clientAuthorityPem,
      minVersion: "TLSv1.3",
    });
  }

  /**
   * The encrypted side of `socket`, once the client has shown a certificate that is allowed. Throws NBD_TLS_REFUSED.
   * A tls.Server does it and not a bare TLSSocket, which would accept a certificate of any authority.
   */
  async secure(socket: Socket): Promise<TLSSocket> {
    const secured = await new Promise<TLSSocket>((resolve, reject) => {
      const refuse = (cause?: unknown): void => {
        reject(
          new OsrError(ERRORS.NBD_TLS_REFUSED, "the TLS handshake of an NBD client failed", {
            cause,
          }),
        );
      };
      const server = createServer({
        secureContext: this.#context,
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
    const subjectAltName = secured.getPeerCertificate().subjectaltname;
    if (this.#tls.allows(subjectAltName)) return secured;
    secured.destroy();
    throw new OsrError(
      ERRORS.NBD_TLS_REFUSED,
      `an NBD client is not allowed here: ${subjectAltName}`,
    );
  }
}
