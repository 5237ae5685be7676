import { X509Certificate } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";

import { type CertificateName, certificateNameOf } from "@osr/contracts/certificate-name";

/** Who asks, as the accepted certificate of the client says. */
export type PeerName = CertificateName & {
  /** Of the certificate: in hex, lower case. */
  readonly serial: string;
  readonly expiresUnixMs: number;
  /** Node's text of the subject alternative names. */
  readonly names: string;
};

const known = new WeakMap<object, PeerName | null>();

/** The peer of a request; undefined where it has shown no certificate that names one of our roles. Read once a connection. */
export function peerNameOf({ socket }: IncomingMessage): PeerName | undefined {
  let name = known.get(socket);
  if (name === undefined) {
    name = readName(socket as TLSSocket) ?? null;
    known.set(socket, name);
  }
  return name ?? undefined;
}

function readName(socket: TLSSocket): PeerName | undefined {
  if (!socket.authorized) return undefined;
  const { raw } = socket.getPeerCertificate();
  const certificate = new X509Certificate(raw);
  const name = certificateNameOf(certificate.subjectAltName);
  if (name === undefined) return undefined;
  const serial = certificate.serialNumber.toLowerCase();
  const names = certificate.subjectAltName ?? "";
  return { ...name, serial, names, expiresUnixMs: certificate.validToDate.getTime() };
}
