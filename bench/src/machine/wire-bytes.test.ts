import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { test } from "node:test";

import { MIB } from "@osr/base/units";

import { countWireBytes, sentBytesOf } from "./wire-bytes.ts";

// As iproute2 6.1 prints it, shortened.
const OUTPUT = `ESTAB 0 0 127.0.0.1:50000 127.0.0.1:9443 cubic wscale:7,7 rto:204 bytes_sent:4194304 bytes_acked:4194304 segs_out:70
ESTAB 0 0 127.0.0.1:50001 127.0.0.1:9443 cubic wscale:7,7 rto:204 bytes_sent:10 bytes_received:7
ESTAB 0 0 127.0.0.1:50002 127.0.0.1:9443 cubic wscale:7,7 rto:204 bytes_sent:150 bytes_retrans:50 bytes_acked:100
TIME-WAIT 0 0 127.0.0.1:49999 127.0.0.1:9443
`;

test("the bytes of every connection are found, by its own end", () => {
  assert.deepEqual(sentBytesOf(OUTPUT), [
    ["127.0.0.1:50000", 4_194_304],
    ["127.0.0.1:50001", 10],
    ["127.0.0.1:50002", 100],
  ]);
  assert.deepEqual(sentBytesOf(""), []);
});

test("what was sent to a port since the start is counted, and nothing else", async () => {
  const server = createServer((socket) => socket.resume()).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const send = async (bytes: number) => {
    const socket = connect(port, "127.0.0.1");
    await once(socket, "connect");
    await new Promise((done) => socket.write(Buffer.alloc(bytes), done));
    return socket;
  };
  const sockets = [await send(1000)];
  try {
    await using wire = await countWireBytes(port, new AbortController().signal);
    assert.equal(await wire.total(), 0);
    sockets.push(await send(MIB));
    sockets[0]?.write("more");
    for (let attempt = 0; (await wire.total()) < MIB + 4 && attempt < 50; attempt++);
    assert.equal(await wire.total(), MIB + 4);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
});
