import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import tls from "node:tls";

import { systemClock } from "@osr/base/platform/system-clock";

import { type Identity, createAuthority, issueCertificate } from "./site-authority.ts";

const URI = "osr://mobility-service/00000000-0000-4000-8000-000000000001";

async function identities(): Promise<{ authority: Identity; server: Identity; client: Identity }> {
  const clock = systemClock;
  const authority = await createAuthority({ commonName: "site", days: 1, clock });
  const common = { days: 1, clock };
  const server = await issueCertificate(authority, {
    commonName: "server",
    ipAddresses: ["127.0.0.1"],
    usage: "server",
    ...common,
  });
  const client = await issueCertificate(authority, {
    commonName: "client",
    uri: URI,
    usage: "client",
    ...common,
  });
  return { authority, server, client };
}

/** Subject alternative names that the server sees of a client that presents `client`; throws where TLS refuses. */
async function handshake(options: {
  trust: string;
  server: Identity;
  client: Identity;
}): Promise<string | undefined> {
  const server = tls.createServer({
    key: options.server.privateKeyPem,
    cert: options.server.certificatePem,
    ca: options.trust,
    requestCert: true,
    minVersion: "TLSv1.3",
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const seen = once(server, "secureConnection") as Promise<[tls.TLSSocket]>;
  const refused = once(server, "tlsClientError").then(([error]) => {
    throw error as Error;
  });
  const socket = tls.connect({
    port,
    host: "127.0.0.1",
    ca: options.trust,
    key: options.client.privateKeyPem,
    cert: options.client.certificatePem,
  });
  socket.on("error", () => undefined);
  try {
    const [peer] = await Promise.race([seen, refused]);
    const names = peer.getPeerCertificate().subjectaltname;
    peer.destroy();
    return names;
  } finally {
    socket.destroy();
    server.close();
  }
}

test("certificates of one authority trust each other and carry the name", async () => {
  const { authority, server, client } = await identities();
  const names = await handshake({ trust: authority.certificatePem, server, client });
  assert.equal(names, `URI:${URI}`);
});

test("a certificate of another authority is refused", async () => {
  const { authority, server } = await identities();
  const foreign = await identities();
  await assert.rejects(
    handshake({ trust: authority.certificatePem, server, client: foreign.client }),
  );
});

test("a server certificate is no client certificate", async () => {
  const { authority, server } = await identities();
  await assert.rejects(handshake({ trust: authority.certificatePem, server, client: server }));
});
