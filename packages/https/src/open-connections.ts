import type { TLSSocket } from "node:tls";

import { revokedSerials, sameSerial } from "@osr/certificates/revocation-list";

/**
 * The connections of a server. OpenSSL looks at the list of revoked certificates in the handshake only, and connections of roles live for hours: those of a
 * certificate that is revoked meanwhile are cut here.
 */
export class OpenConnections {
  readonly #sockets = new Set<TLSSocket>();
  #revoked: ReadonlySet<string>;

  constructor(revokedPem: string | undefined) {
    this.#revoked = serialsOf(revokedPem);
  }

  /** To be called after the handshake. */
  add(socket: TLSSocket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    // The handshake may have begun with the list before this one; its own verdict is told to the client by name.
    if (socket.authorized) this.#cutRevoked(socket);
  }

  /** Replaces the list. */
  revoke(revokedPem: string | undefined): void {
    this.#revoked = serialsOf(revokedPem);
    for (const socket of this.#sockets) this.#cutRevoked(socket);
  }

  #cutRevoked(socket: TLSSocket): void {
    if (this.#revoked.size === 0) return;
    const serial = socket.getPeerX509Certificate()?.serialNumber;
    if (serial !== undefined && this.#revoked.has(sameSerial(serial))) socket.destroy();
  }
}

function serialsOf(revokedPem: string | undefined): ReadonlySet<string> {
  return revokedPem === undefined ? new Set() : revokedSerials(revokedPem);
}
