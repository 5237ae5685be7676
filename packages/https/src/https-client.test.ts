import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { createServer } from "node:tls";

import { systemClock as clock } from "@osr/base/platform/system-clock";
import { systemScheduler as scheduler } from "@osr/base/platform/system-scheduler";
import { MIB } from "@osr/base/units";
import { createAuthority, issueCertificate } from "@osr/certificates/site-authority";

import { HttpsClient } from "./https-client.ts";

const REPLY = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

test("a large body leaves after its headers, a small one with them", async (t) => {
  const authority = await createAuthority({ commonName: "test", days: 1, clock });
  const { certificatePem: cert, privateKeyPem: key } = await issueCertificate(authority, {
    commonName: "server",
    ipAddresses: ["127.0.0.1"],
    days: 1,
    clock,
    usage: "server",
  });
  const firstRecords: string[] = [];
  const server = createServer({ cert, key }, (socket) => {
    let text = "";
    socket.setEncoding("latin1").on("data", (record: string) => {
      // Node gives each record of TLS by itself.
      if (text === "") firstRecords.push(record);
      text += record;
      const [head = "", body = ""] = text.split("\r\n\r\n");
      if (head.includes(`content-length: ${body.length}\r\n`)) socket.end(REPLY);
    });
  });
  t.after(() => server.close());
  await once(server.listen(0, "127.0.0.1"), "listening");
  for (const sizeBytes of [MIB, 100]) {
    using client = new HttpsClient({
      baseUrl: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
      authorityPem: authority.certificatePem,
      socketsMax: 1,
      timeoutMs: 10_000,
      scheduler,
    });
    const body = Buffer.alloc(sizeBytes, "x");
    const reply = await client.request({ method: "POST", path: "/", body });
    assert.equal(reply.status, 200);
  }
  const [large = "", small = ""] = firstRecords;
  assert.match(large, /\r\n\r\n$/);
  assert.match(small, /\r\n\r\nx{100}$/);
});
