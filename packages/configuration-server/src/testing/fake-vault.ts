import { createHmac } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";

import { OsrError, defineErrors } from "@osr/base/errors";
import { type Shape, parseJson } from "@osr/base/json-shape";
import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { HOUR_MS, MIB } from "@osr/base/units";
import { type Uuid, randomUuid, uuidOfName } from "@osr/base/uuid";
import {
  type Identity,
  createAuthority,
  issueCertificate,
  signRequest,
} from "@osr/certificates/site-authority";
import { certificateUri } from "@osr/contracts/certificate-name";
import { renewalRequestShape } from "@osr/contracts/enrolment";
import {
  type DesiredFabric,
  FABRIC_ROUTES,
  type FabricRegistration,
  type FabricStatus,
  type VaultCredentials,
  fabricRegistrationShape,
  fabricStatusShape,
} from "@osr/contracts/fabric-protocol";
import { type HttpsServer, startHttpsServer } from "@osr/https/https-server";
import { peerNameOf } from "@osr/https/peer-name";
import { sendError, sendJson } from "@osr/https/replies";
import { readBody } from "@osr/https/request-body";

import { Pulse } from "../pulse.ts";

const ERRORS = defineErrors({
  FAKE_REFUSED: { retryable: false, hint: "This is a vault for tests; look at the message." },
});
const STATUS = { FAKE_REFUSED: 403, REQUEST_INVALID: 400 };

type Fabric = { readonly id: Uuid; readonly name: string; readonly takeoverKey: string };

/** A vault for tests: real HTTPS and certificates, nothing behind it. It passes the contract that the real one passes. */
export class FakeVault implements AsyncDisposable {
  readonly vaultId = uuidOfName("fake", "vault");
  readonly statuses: FabricStatus[] = [];
  readonly changed = new Pulse();
  wantsWhole = false;
  #desired: DesiredFabric;
  readonly #authority: Identity;
  readonly #identity: Identity;
  readonly #tokens = new Set<string>();
  readonly #fabrics = new Map<Uuid, Fabric>();
  #server: HttpsServer | undefined;
  #port = 0;

  private constructor(authority: Identity, identity: Identity) {
    this.#authority = authority;
    this.#identity = identity;
    const storage = { endpoint: "https://127.0.0.1:1", container: "osr", token: "t" };
    this.#desired = {
      revision: 1,
      vaultId: this.vaultId,
      storage: { ...storage, expiresUnixMs: systemClock.unixMs() + HOUR_MS },
      items: [],
      orders: [],
    };
  }

  static async start(): Promise<FakeVault> {
    const common = { clock: systemClock, days: 1 };
    const authority = await createAuthority({ commonName: "vault authority", ...common });
    const identity = await issueCertificate(authority, {
      commonName: "vault",
      ipAddresses: ["127.0.0.1"],
      usage: "server",
      ...common,
    });
    const vault = new FakeVault(authority, identity);
    await vault.start();
    return vault;
  }

  /** Listens on the same port as before. */
  async start(): Promise<void> {
    this.#server = await startHttpsServer({
      host: "127.0.0.1",
      port: this.#port,
      tls: {
        ...this.#identity,
        clientAuthorityPem: this.#authority.certificatePem,
        clientCertificate: "optional",
      },
      log: silentLog,
      scheduler: systemScheduler,
      handler: (request, response, signal) => this.#handle(request, response, signal),
    });
    this.#port = this.#server.port;
  }

  /** The vault is away until it is started again. */
  async stop(): Promise<void> {
    await this.#server?.close();
    this.#server = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  credentials(): Promise<VaultCredentials> {
    const token = systemRandomness.bytes(32).toString("hex");
    this.#tokens.add(token);
    return Promise.resolve({
      vaultUrl: `https://127.0.0.1:${this.#port}`,
      vaultAuthorityPem: this.#authority.certificatePem,
      vaultArmId: "/subscriptions/fake",
      token,
      expiresUnixMs: systemClock.unixMs() + HOUR_MS,
    });
  }

  /** Wishes something else from now on. */
  wish(change: Partial<DesiredFabric>): void {
    this.#desired = { ...this.#desired, ...change, revision: this.#desired.revision + 1 };
    this.changed.beat();
  }

  async #handle(
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      const answer = await this.#answer(request, signal);
      if (answer === undefined) response.writeHead(204).end();
      else sendJson(response, 200, answer);
    } catch (error) {
      sendError(response, error, STATUS, silentLog);
    }
  }

  async #answer(request: IncomingMessage, signal: AbortSignal): Promise<object | undefined> {
    const [path, query] = (request.url ?? "").split("?", 2);
    if (path === FABRIC_ROUTES.registration)
      return this.#register(await bodyOf(request, fabricRegistrationShape));
    const fabricId = this.#fabricOf(request);
    if (path === FABRIC_ROUTES.renewal)
      return this.#certificate(fabricId, (await bodyOf(request, renewalRequestShape)).csrPem);
    if (path === FABRIC_ROUTES.status) {
      this.statuses.push(await bodyOf(request, fabricStatusShape));
      this.changed.beat();
      const { wantsWhole } = this;
      this.wantsWhole = false;
      return { wantsWhole };
    }
    if (path !== FABRIC_ROUTES.desired) throw refused("there is no such route");
    const after = Number(new URLSearchParams(query).get("after"));
    while (this.#desired.revision === after) {
      await this.changed.next(signal);
      signal.throwIfAborted();
    }
    return this.#desired;
  }

  async #register(request: FabricRegistration): Promise<object> {
    if (!this.#tokens.delete(request.token)) throw refused("the token is not known");
    const { name, takeoverKey, fabricId, takeover, csrPem } = request;
    const known = [...this.#fabrics.values()].find((fabric) => fabric.name === name);
    if (known !== undefined) {
      const key = Buffer.from(known.takeoverKey, "hex");
      const proof = createHmac("sha256", key).update(csrPem).digest("hex");
      if (fabricId !== known.id || takeover !== proof) throw refused("the name is taken");
    }
    const id = known?.id ?? randomUuid(systemRandomness);
    this.#fabrics.set(id, { id, name, takeoverKey });
    const { vaultId } = this;
    return { ...(await this.#certificate(id, csrPem)), fabricId: id, vaultId };
  }

  #fabricOf(request: IncomingMessage): Uuid {
    const peer = peerNameOf(request);
    if (peer?.role !== "configuration-server" || !this.#fabrics.has(peer.id))
      throw refused("no fabric has this certificate");
    return peer.id;
  }

  async #certificate(id: Uuid, csrPem: string): Promise<object> {
    const certificatePem = await signRequest(this.#authority, csrPem, {
      commonName: "configuration-server",
      uri: certificateUri({ role: "configuration-server", id }),
      days: 30,
      usage: "client",
      clock: systemClock,
    });
    const authorityPem = this.#authority.certificatePem;
    return { id, certificatePem, authorityPem, renewAtUnixMs: systemClock.unixMs() };
  }
}

async function bodyOf<T>(request: IncomingMessage, shape: Shape<T>): Promise<T> {
  return parseJson((await readBody(request, 16 * MIB)).toString("utf8"), shape);
}

function refused(why: string): OsrError {
  return new OsrError(ERRORS.FAKE_REFUSED, why);
}
