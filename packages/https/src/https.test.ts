import assert from "node:assert/strict";
import { type IncomingMessage, type Server, createServer } from "node:http";
import { request as secureRequest } from "node:https";
import { type AddressInfo, type Socket, connect as connectPlain } from "node:net";
import { before, suite, test } from "node:test";
import { connect as connectTls } from "node:tls";

import { OsrError, defineErrors } from "@osr/base/errors";
import type { Clock } from "@osr/base/clock";
import { type Log, silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { HOUR_MS, MIB } from "@osr/base/units";
import { uuid, uuidOfName } from "@osr/base/uuid";
import { certificateFacts } from "@osr/certificates/certificate-facts";
import { createRevocationList } from "@osr/certificates/revocation-list";
import { type Identity, createAuthority, issueCertificate } from "@osr/certificates/site-authority";

import { HttpsClient, type HttpsClientOptions } from "./https-client.ts";
import { type HttpsServer, type HttpsServerOptions, startHttpsServer } from "./https-server.ts";
import { peerNameOf } from "./peer-name.ts";
import { sendError, sendJson } from "./replies.ts";
import { readBody } from "./request-body.ts";

const clock = systemClock;
const scheduler = systemScheduler;
const URI = "osr://operator/00000000-0000-4000-8000-000000000001";
const ERRORS = defineErrors({ CACHE_FULL: { retryable: true, hint: "Wait." } });

suite("https", () => {
  let authority: Identity;
  let stranger: Identity;
  let serverIdentity: Identity;
  let clientIdentity: Identity;

  before(async () => {
    authority = await createAuthority({ commonName: "test", days: 1, clock });
    stranger = await createAuthority({ commonName: "stranger", days: 1, clock });
    serverIdentity = await issueCertificate(authority, {
      commonName: "server",
      ipAddresses: ["127.0.0.1"],
      days: 1,
      clock,
      usage: "server",
    });
    clientIdentity = await issueCertificate(authority, {
      commonName: "client",
      uri: URI,
      days: 1,
      clock,
      usage: "client",
    });
  });

  const echo: HttpsServerOptions["handler"] = async (request, response) => {
    const body = await readBody(request, 8 * MIB);
    sendJson(response, 200, { method: request.method, url: request.url, bytes: body.length });
  };

  async function serve(
    options: Partial<HttpsServerOptions> & { readonly isMutual?: boolean } = {},
  ): Promise<HttpsServer & AsyncDisposable> {
    const { isMutual, ...rest } = options;
    const server = await startHttpsServer({
      host: "127.0.0.1",
      port: 0,
      tls: {
        ...serverIdentity,
        ...(isMutual === true ? { clientAuthorityPem: authority.certificatePem } : {}),
      },
      handler: echo,
      log: silentLog,
      scheduler,
      ...rest,
    });
    return { ...server, [Symbol.asyncDispose]: () => server.close() };
  }

  function clientOf(server: HttpsServer, options: Partial<HttpsClientOptions> = {}): HttpsClient {
    return new HttpsClient({
      baseUrl: `https://127.0.0.1:${server.port}`,
      authorityPem: authority.certificatePem,
      socketsMax: 4,
      timeoutMs: 10_000,
      scheduler,
      ...options,
    });
  }

  function coded(code: string, retryable: boolean): (error: unknown) => boolean {
    return (error) => {
      assert.ok(error instanceof OsrError, String(error));
      assert.equal(error.code, code, error.message);
      assert.equal(error.retryable, retryable);
      return true;
    };
  }

  test("several buffers arrive as one body over one kept connection", async () => {
    const sockets = new Set<unknown>();
    await using server = await serve({
      handler: async (request, response, signal) => {
        sockets.add(request.socket);
        await echo(request, response, signal);
      },
    });
    using client = clientOf(server);
    for (let round = 0; round < 3; round++) {
      const body = [Buffer.alloc(1), Buffer.alloc(MIB), Buffer.alloc(5)];
      const reply = await client.request({ method: "POST", path: "/a?b=c", body });
      assert.equal(reply.status, 200);
      assert.deepEqual(JSON.parse(reply.body.toString()), {
        method: "POST",
        url: "/a?b=c",
        bytes: MIB + 6,
      });
    }
    assert.equal(sockets.size, 1);
  });

  test("a HEAD has no body and a POST without one has length 0", async () => {
    let length: string | undefined;
    await using server = await serve({
      handler: async (request, response) => {
        length = request.headers["content-length"];
        response.writeHead(204).end();
        await Promise.resolve();
      },
    });
    using client = clientOf(server);
    const reply = await client.request({ method: "HEAD", path: "/" });
    assert.equal(reply.status, 204);
    assert.equal(length, undefined);
    await client.request({ method: "POST", path: "/" });
    assert.equal(length, "0");
  });

  test("where client certificates are wanted, only those of the authority get in", async () => {
    const names: string[] = [];
    await using server = await serve({
      isMutual: true,
      handler: async (request, response, signal) => {
        const { socket } = request;
        if ("getPeerCertificate" in socket && typeof socket.getPeerCertificate === "function")
          names.push(String(socket.getPeerCertificate().subjectaltname));
        await echo(request, response, signal);
      },
    });
    using known = clientOf(server, { identity: clientIdentity });
    await known.request({ method: "GET", path: "/" });
    assert.deepEqual(names, ["URI:osr://operator/00000000-0000-4000-8000-000000000001"]);

    using nobody = clientOf(server);
    await assert.rejects(
      nobody.request({ method: "GET", path: "/" }),
      coded("CERTIFICATE_REQUIRED", false),
    );
    const at = (days: number): Clock => ({
      ...clock,
      unixMs: () => clock.unixMs() + days * 24 * HOUR_MS,
    });
    const common = { commonName: "client", days: 1, usage: "client" } as const;
    const refused = [
      [await issueCertificate(stranger, { ...common, clock }), "CERTIFICATE_UNTRUSTED"],
      [await issueCertificate(authority, { ...common, clock: at(-2) }), "CERTIFICATE_EXPIRED"],
      [await issueCertificate(authority, { ...common, clock: at(2) }), "CERTIFICATE_EXPIRED"],
    ] as const;
    for (const [identity, code] of refused) {
      using client = clientOf(server, { identity });
      for (const body of [undefined, Buffer.alloc(MIB)])
        await assert.rejects(
          client.request({ method: "POST", path: "/", ...(body === undefined ? {} : { body }) }),
          coded(code, false),
        );
    }
    assert.equal(names.length, 1);
  });

  test("where certificates are optional, those that are not accepted come in as nobody", async () => {
    const names: unknown[] = [];
    await using server = await serve({
      tls: {
        ...serverIdentity,
        clientAuthorityPem: authority.certificatePem,
        clientCertificate: "optional",
      },
      handler: async (request, response, signal) => {
        names.push(peerNameOf(request)?.id);
        await echo(request, response, signal);
      },
    });
    const common = { days: 1, clock, usage: "client" } as const;
    const forged = await issueCertificate(stranger, { commonName: "client", uri: URI, ...common });
    const unnamed = await issueCertificate(authority, { commonName: "client", ...common });
    using client = clientOf(server, { identity: clientIdentity });
    await client.request({ method: "GET", path: "/" });
    client.replaceIdentity(unnamed);
    await client.request({ method: "GET", path: "/" });
    for (const identity of [forged, unnamed]) {
      using other = clientOf(server, { identity });
      await other.request({ method: "GET", path: "/" });
    }
    using nobody = clientOf(server);
    await nobody.request({ method: "GET", path: "/" });
    const id = URI.slice("osr://operator/".length);
    assert.deepEqual(names, [id, undefined, undefined, undefined, undefined]);
  });

  test("a revoked client certificate is refused once the list is there", async () => {
    await using server = await serve({ isMutual: true });
    using before = clientOf(server, { identity: clientIdentity });
    await before.request({ method: "GET", path: "/" });
    const { serial } = certificateFacts(clientIdentity.certificatePem);
    const revoked = [{ serial, revokedUnixMs: clock.unixMs() }];
    server.replaceCertificate({
      ...serverIdentity,
      clientAuthorityPem: authority.certificatePem,
      revokedPem: await createRevocationList(authority, revoked, clock),
    });
    using after = clientOf(server, { identity: clientIdentity });
    await assert.rejects(
      after.request({ method: "GET", path: "/" }),
      coded("CERTIFICATE_REVOKED", false),
    );
  });

  test("connections whose certificate is revoked are cut, also within a request, and no others", async () => {
    const waiting = Promise.withResolvers<void>();
    const sockets: unknown[] = [];
    await using server = await serve({
      isMutual: true,
      handler: async (request, response, signal) => {
        sockets.push(request.socket);
        if (request.url !== "/wait") return echo(request, response, signal);
        waiting.resolve();
        await scheduler.sleep(60_000, signal);
      },
    });
    const common = { commonName: "other", days: 1, clock, usage: "client" } as const;
    const goodIdentity = await issueCertificate(authority, common);
    using good = clientOf(server, { identity: goodIdentity });
    await good.request({ method: "GET", path: "/" });
    using revoked = clientOf(server, { identity: clientIdentity });
    const wait = revoked.request({ method: "GET", path: "/wait" });
    await waiting.promise;
    const { serial } = certificateFacts(clientIdentity.certificatePem);
    server.replaceCertificate({
      ...serverIdentity,
      clientAuthorityPem: authority.certificatePem,
      revokedPem: await createRevocationList(
        authority,
        [{ serial, revokedUnixMs: clock.unixMs() }],
        clock,
      ),
    });
    const cutSoon = Promise.race([wait, scheduler.sleep(5000)]);
    await assert.rejects(cutSoon, coded("PEER_UNAVAILABLE", true));
    const again = revoked.request({ method: "GET", path: "/" });
    await assert.rejects(again, coded("CERTIFICATE_REVOKED", false));
    await good.request({ method: "GET", path: "/" });
    assert.equal(sockets.at(0), sockets.at(-1), "its connection goes on");
  });

  test("a server must be who the client wants, beside its address", async () => {
    const named = await issueCertificate(authority, {
      commonName: "server",
      uri: URI,
      ipAddresses: ["127.0.0.1"],
      days: 1,
      clock,
      usage: "server",
    });
    await using server = await serve({ tls: named });
    const id = uuid(URI.slice("osr://operator/".length));
    using wanted = clientOf(server, { peer: { role: "operator", id } });
    await wanted.request({ method: "GET", path: "/" });
    const others = [{ role: "process-server" }, { role: "operator", id: uuidOfName("x") }] as const;
    for (const peer of others) {
      using client = clientOf(server, { peer });
      const call = client.request({ method: "GET", path: "/" });
      await assert.rejects(call, coded("PEER_UNTRUSTED", false));
    }
  });

  test("a server of another authority is not trusted, nor one under another name", async () => {
    await using server = await serve();
    using client = clientOf(server, { authorityPem: stranger.certificatePem });
    await assert.rejects(
      client.request({ method: "GET", path: "/" }),
      coded("PEER_UNTRUSTED", false),
    );
    using misnamed = clientOf(server, { baseUrl: `https://localhost:${server.port}` });
    await assert.rejects(
      misnamed.request({ method: "GET", path: "/" }),
      coded("PEER_UNTRUSTED", false),
    );
  });

  test("TLS 1.2 is refused", async () => {
    await using server = await serve();
    const { promise, resolve, reject } = Promise.withResolvers<Error>();
    const socket = connectTls({
      host: "127.0.0.1",
      port: server.port,
      ca: authority.certificatePem,
      maxVersion: "TLSv1.2",
    });
    socket.on("secureConnect", () => reject(new Error("TLS 1.2 was accepted")));
    socket.on("error", resolve);
    assert.match(String(await promise), /protocol version/i);
  });

  test("a replaced certificate is used by new connections", async () => {
    await using server = await serve();
    const renewed = await issueCertificate(stranger, {
      commonName: "server",
      ipAddresses: ["127.0.0.1"],
      days: 1,
      clock,
      usage: "server",
    });
    using old = clientOf(server);
    await old.request({ method: "GET", path: "/" });
    server.replaceCertificate(renewed);
    using client = clientOf(server, { authorityPem: stranger.certificatePem });
    await client.request({ method: "GET", path: "/" });
    await old.request({ method: "GET", path: "/" });
  });

  test("errors cross with code, message, hint, details and the time to wait", async () => {
    await using server = await serve({
      handler: async (request, response) => {
        const error = new OsrError(ERRORS.CACHE_FULL, "cache is full", {
          details: { freePercent: 12, retryAfterMs: 7000 },
        });
        sendError(response, error, { CACHE_FULL: 503 }, silentLog);
        await Promise.resolve(request);
      },
    });
    using client = clientOf(server);
    const call = client.request({ method: "POST", path: "/", body: Buffer.alloc(MIB) });
    await assert.rejects(call, (error) => {
      assert.ok(coded("CACHE_FULL", true)(error) && error instanceof OsrError);
      assert.equal(error.message, "cache is full");
      assert.equal(error.hint, "Wait.");
      assert.deepEqual(error.details, { freePercent: 12, retryAfterMs: 7000, status: 503 });
      return true;
    });
  });

  test("what a handler did not foresee is 500 without its message, and is logged", async () => {
    const logged: unknown[] = [];
    const log: Log = { ...silentLog, error: (_message, fields) => logged.push(fields?.["error"]) };
    await using server = await serve({
      log,
      handler: () => Promise.reject(new Error("secret path /x/y")),
    });
    using client = clientOf(server);
    await assert.rejects(client.request({ method: "GET", path: "/" }), (error) => {
      assert.ok(coded("INTERNAL", true)(error) && error instanceof OsrError);
      assert.doesNotMatch(error.message, /secret/);
      return true;
    });
    assert.match(String(logged[0]), /secret path/);
  });

  test("a body beyond the limit is 413, with and without a length", async () => {
    await using server = await serve();
    using client = clientOf(server);
    const body = Buffer.alloc(9 * MIB);
    await assert.rejects(
      client.request({ method: "POST", path: "/", body }),
      coded("BODY_TOO_LARGE", false),
    );
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const outgoing = secureRequest(
        {
          host: "127.0.0.1",
          port: server.port,
          ca: authority.certificatePem,
          method: "POST",
          agent: false,
        },
        (reply) => {
          reply.resume();
          resolve(reply.statusCode);
        },
      );
      outgoing.on("error", reject);
      outgoing.write(body);
      outgoing.end();
    });
    assert.equal(status, 413);
  });

  test("a client that leaves within the body aborts the handler", async () => {
    const { promise: ended, resolve } = Promise.withResolvers<{
      error: unknown;
      aborted: boolean;
    }>();
    await using server = await serve({
      handler: async (request, _response, signal) => {
        try {
          await readBody(request, MIB);
        } catch (error) {
          if (!signal.aborted) await new Promise((done) => signal.addEventListener("abort", done));
          resolve({ error, aborted: signal.aborted });
          throw error;
        }
      },
    });
    const socket = connectTls({
      host: "127.0.0.1",
      port: server.port,
      ca: authority.certificatePem,
    });
    socket.on("error", () => undefined);
    socket.write("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf", () =>
      setTimeout(() => socket.destroy(), 50),
    );
    const { error, aborted } = await ended;
    assert.ok(coded("BODY_INCOMPLETE", true)(error));
    assert.equal(aborted, true);
  });

  test("time limit and abort end a request", async () => {
    await using server = await serve({
      handler: (_request, _response, signal) =>
        new Promise((resolve) => signal.addEventListener("abort", () => resolve())),
    });
    using client = clientOf(server);
    await assert.rejects(
      client.request({ method: "GET", path: "/", timeoutMs: 50 }),
      coded("PEER_UNAVAILABLE", true),
    );
    const reason = new Error("enough");
    await assert.rejects(
      client.request({ method: "GET", path: "/", signal: AbortSignal.abort(reason) }),
      (error) => error === reason,
    );
    const controller = new AbortController();
    const call = client.request({ method: "GET", path: "/", signal: controller.signal });
    setTimeout(() => controller.abort(reason), 50);
    await assert.rejects(call, (error) => error === reason);
  });

  test("nobody there is PEER_UNAVAILABLE", async () => {
    const server = await serve();
    await server.close();
    using client = clientOf(server);
    await assert.rejects(
      client.request({ method: "GET", path: "/" }),
      coded("PEER_UNAVAILABLE", true),
    );
  });

  test("close ends handlers that wait for their signal and cuts those that do not", async () => {
    const { promise: begun, resolve } = Promise.withResolvers<void>();
    let calls = 0;
    const server = await serve({
      limits: { closeMs: 100 },
      handler: async (request, _response, signal) => {
        calls += 1;
        if (calls === 2) resolve();
        if (request.method === "GET")
          await new Promise<void>((done) => signal.addEventListener("abort", () => done()));
        else await readBody(request, MIB);
        signal.throwIfAborted();
      },
    });
    using client = clientOf(server);
    const waiting = assert.rejects(
      client.request({ method: "GET", path: "/" }),
      coded("STOPPING", true),
    );
    const socket = connectTls({
      host: "127.0.0.1",
      port: server.port,
      ca: authority.certificatePem,
    });
    socket.on("error", () => undefined);
    socket.write("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf");
    await begun;
    await server.close();
    await waiting;
    await server.close();
  });

  test("headers that are too long or too slow end the connection", async () => {
    await using server = await serve({ limits: { headerMs: 200, headerBytesMax: 4096 } });
    const answer = (text: string): Promise<string> =>
      new Promise((resolve) => {
        let received = "";
        const socket = connectTls({
          host: "127.0.0.1",
          port: server.port,
          ca: authority.certificatePem,
        });
        socket.on("data", (chunk) => (received += String(chunk)));
        socket.on("error", () => undefined);
        socket.on("close", () => resolve(received));
        socket.write(text);
      });
    const long = `GET / HTTP/1.1\r\nhost: x\r\na: ${"b".repeat(8192)}\r\n\r\n`;
    assert.match(await answer(long), /^HTTP\/1\.1 431/);
    assert.match(await answer("GET / HTTP/1.1\r\nhost"), /^HTTP\/1\.1 408/);
  });

  suite("proxy", () => {
    /** An HTTP proxy that knows CONNECT alone. */
    async function startProxy(
      accept: (request: IncomingMessage) => boolean,
    ): Promise<{ port: number; targets: string[] } & AsyncDisposable> {
      const targets: string[] = [];
      const sockets = new Set<Socket>();
      const proxy: Server = createServer();
      proxy.on("connect", (request, clientSocket) => {
        targets.push(request.url ?? "");
        if (!accept(request)) {
          clientSocket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
          return;
        }
        const [host, port] = (request.url ?? "").split(":");
        const onward = connectPlain(Number(port), host, () => {
          clientSocket.write("HTTP/1.1 200 Connection established\r\n\r\n");
          clientSocket.pipe(onward).pipe(clientSocket);
        });
        sockets.add(onward).add(clientSocket as Socket);
        for (const socket of [onward, clientSocket]) socket.on("error", () => onward.destroy());
      });
      await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
      return {
        port: (proxy.address() as AddressInfo).port,
        targets,
        [Symbol.asyncDispose]: async () => {
          for (const socket of sockets) socket.destroy();
          await new Promise((resolve) => proxy.close(resolve));
        },
      };
    }

    test("requests are tunnelled, with the proxy's password, and stay under TLS", async () => {
      const wanted = `Basic ${Buffer.from("us er:pass").toString("base64")}`;
      await using proxy = await startProxy(
        (request) => request.headers["proxy-authorization"] === wanted,
      );
      await using server = await serve({ isMutual: true });
      using client = clientOf(server, {
        identity: clientIdentity,
        proxyUrl: `http://us%20er:pass@127.0.0.1:${proxy.port}`,
      });
      await client.request({ method: "GET", path: "/" });
      await client.request({ method: "GET", path: "/" });
      assert.deepEqual(proxy.targets, [`127.0.0.1:${server.port}`]);
    });

    test("a proxy that refuses is PEER_UNAVAILABLE and says so", async () => {
      await using proxy = await startProxy(() => false);
      await using server = await serve();
      using client = clientOf(server, { proxyUrl: `http://127.0.0.1:${proxy.port}` });
      await assert.rejects(client.request({ method: "GET", path: "/" }), (error) => {
        assert.ok(coded("PEER_UNAVAILABLE", true)(error) && error instanceof OsrError);
        assert.match(error.message, /answered 407/);
        return true;
      });
    });
  });
});
