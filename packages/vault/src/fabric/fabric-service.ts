import type { IncomingMessage, ServerResponse } from "node:http";
import type { TLSSocket } from "node:tls";

import { OsrError, hasCode } from "@osr/base/errors";
import type { Shape } from "@osr/base/json-shape";
import { MIB } from "@osr/base/units";
import { renewalRequestShape } from "@osr/contracts/enrolment";
import {
  FABRIC_ROUTES,
  fabricRegistrationShape,
  fabricStatusShape,
} from "@osr/contracts/fabric-protocol";
import { certificateRefusal } from "@osr/https/certificate-refusal";
import { type PeerName, peerNameOf } from "@osr/https/peer-name";
import { sendError, sendJson } from "@osr/https/replies";
import { readBody } from "@osr/https/request-body";

import { RateLimit } from "../access/rate-limit.ts";
import { ArmError } from "../arm/arm-error.ts";
import { parseBody } from "../arm/json-body.ts";
import { isDatabaseAway } from "../database/database-away.ts";
import { inTransaction } from "../database/transaction.ts";
import type { NodeConnection } from "../database/node-connection.ts";
import type { VaultContext } from "../vault-context.ts";
import { VAULT_ERRORS } from "../vault-errors.ts";
import type { FabricItems } from "./desired-items.ts";
import { DesiredFabrics } from "./desired-fabric.ts";
import { register, renew } from "./registration.ts";
import { unknownFabric } from "./unknown-fabric.ts";
import { takeStatus } from "./status-intake.ts";

const REGISTRATION_BYTES_MAX = MIB;
/** 1,000 machines with some disks each. */
const STATUS_BYTES_MAX = 16 * MIB;
/** Registrations are rare; whoever guesses tokens gets few tries. */
const REGISTRATIONS = { requestsPerSecond: 1, burst: 20 };

/** HTTP status of each code that a fabric may be answered. */
const STATUS: Readonly<Record<string, number>> = {
  REGISTRATION_REFUSED: 401,
  CERTIFICATE_REQUIRED: 401,
  CERTIFICATE_EXPIRED: 401,
  CERTIFICATE_UNTRUSTED: 401,
  CERTIFICATE_REPLACED: 401,
  FABRIC_UNKNOWN: 410,
  FABRIC_NAME_TAKEN: 409,
  FABRIC_NAME_INVALID: 400,
  REQUEST_INVALID: 400,
  InvalidRequestContent: 400,
  TooManyRequests: 429,
  DATABASE_AWAY: 503,
  VAULT_STOPPING: 503,
  STORE_UNAVAILABLE: 503,
  NOT_FOUND: 404,
};

/** The vault's side of the fabric protocol: docs/formats/fabric-protocol.md. */
export class FabricService {
  readonly #context: VaultContext;
  readonly #items: FabricItems;
  readonly #desired: DesiredFabrics;
  readonly #registrations: RateLimit;

  constructor(context: VaultContext, items: FabricItems, node: NodeConnection) {
    this.#context = context;
    this.#items = items;
    this.#desired = new DesiredFabrics({ ...context, context, items, node });
    this.#registrations = new RateLimit(REGISTRATIONS, context.clock);
  }

  async handle(
    message: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      const [path, query] = splitQuery(message.url ?? "");
      const body = await this.#answer(`${message.method} ${path}`, query, message, signal);
      if (body === undefined) response.writeHead(204).end();
      else sendJson(response, 200, body);
    } catch (error) {
      const away = isDatabaseAway(error)
        ? new OsrError(VAULT_ERRORS.DATABASE_AWAY, "the vault's database does not answer", {
            cause: error,
          })
        : error;
      sendError(response, away, STATUS, this.#context.log);
    }
  }

  async #answer(
    route: string,
    query: URLSearchParams,
    message: IncomingMessage,
    signal: AbortSignal,
  ): Promise<object | undefined> {
    const { database } = this.#context;
    if (route === `POST ${FABRIC_ROUTES.registration}`) return this.#register(message);
    if (route === `POST ${FABRIC_ROUTES.renewal}`) {
      const { id, serial } = await this.#fabricOf(message);
      const { csrPem } = await bodyOf(message, renewalRequestShape, REGISTRATION_BYTES_MAX);
      return inTransaction(database, (tx) => renew(tx, id, serial, csrPem, this.#context));
    }
    if (route === `GET ${FABRIC_ROUTES.desired}`) {
      const { id } = await this.#fabricOf(message);
      return this.#desired.next(id, Number(query.get("after") ?? 0), {
        isAccepted: () => this.#isStillAccepted(message),
        signal,
      });
    }
    if (route === `POST ${FABRIC_ROUTES.status}`) {
      const { id } = await this.#fabricOf(message);
      const status = await bodyOf(message, fabricStatusShape, STATUS_BYTES_MAX);
      const ports = { context: this.#context, items: this.#items };
      return inTransaction(database, (tx) => takeStatus(tx, id, status, ports));
    }
    throw new OsrError(VAULT_ERRORS.NOT_FOUND, `there is no ${route}`);
  }

  async #register(message: IncomingMessage): Promise<object> {
    this.#registrations.take(message.socket.remoteAddress ?? "");
    const registration = await bodyOf(message, fabricRegistrationShape, REGISTRATION_BYTES_MAX);
    const shown = (message.socket as TLSSocket).getPeerCertificate();
    // Node gives an empty object where the client has shown none.
    const der = "raw" in shown ? shown.raw : undefined;
    return inTransaction(this.#context.database, (tx) =>
      register(tx, registration, der, this.#context),
    );
  }

  /**
   * The fabric of an accepted certificate that has not been replaced. Throws CERTIFICATE_REQUIRED, _EXPIRED, _UNTRUSTED, _REPLACED,
   * FABRIC_UNKNOWN.
   */
  async #fabricOf(message: IncomingMessage): Promise<PeerName> {
    const { database, clock } = this.#context;
    const peer = peerNameOf(message);
    if (peer === undefined) throw refusalOf(message);
    if (peer.role !== "configuration-server") throw notOfConfigurationServer();
    if (peer.expiresUnixMs <= clock.unixMs())
      throw new OsrError(VAULT_ERRORS.CERTIFICATE_EXPIRED, "the certificate has expired");
    const row = await database
      .selectFrom("fabric")
      .select(["certificate_serial", "previous_serial"])
      .where("id", "=", peer.id)
      .executeTakeFirst();
    if (row === undefined) throw unknownFabric();
    if (row.certificate_serial === peer.serial) {
      if (row.previous_serial !== null)
        await database
          .updateTable("fabric")
          .set({ previous_serial: null })
          .where("id", "=", peer.id)
          .execute();
    } else if (row.previous_serial !== peer.serial)
      throw new OsrError(
        VAULT_ERRORS.CERTIFICATE_REPLACED,
        "the certificate has been replaced by another",
      );
    return peer;
  }

  /** Of a connection that waits: false where its certificate was replaced or has run out meanwhile. Throws FABRIC_UNKNOWN. */
  async #isStillAccepted(message: IncomingMessage): Promise<boolean> {
    try {
      await this.#fabricOf(message);
      return true;
    } catch (error) {
      const isOver =
        hasCode(error, VAULT_ERRORS.CERTIFICATE_REPLACED) ||
        hasCode(error, VAULT_ERRORS.CERTIFICATE_EXPIRED);
      if (isOver) return false;
      throw error;
    }
  }
}

const REFUSALS = [VAULT_ERRORS.CERTIFICATE_EXPIRED, VAULT_ERRORS.CERTIFICATE_UNTRUSTED];

/** Why no name of a role was found in what the client has shown: by the same codes as everywhere, with the vault's remedies. */
function refusalOf(message: IncomingMessage): OsrError {
  const refusal = certificateRefusal(message);
  const info = REFUSALS.find(({ code }) => code === refusal?.code);
  if (info === undefined || refusal === undefined) return notOfConfigurationServer();
  return new OsrError(info, refusal.message);
}

function notOfConfigurationServer(): OsrError {
  return new OsrError(
    VAULT_ERRORS.CERTIFICATE_REQUIRED,
    "a certificate of this vault for a configuration server is needed",
  );
}

async function bodyOf<T>(message: IncomingMessage, shape: Shape<T>, bytesMax: number): Promise<T> {
  const value = parseBody(await readBody(message, bytesMax));
  if (value === undefined)
    throw new ArmError(400, "InvalidRequestContent", "the body is missing", "Send JSON.");
  return shape(value, "");
}

function splitQuery(url: string): [string, URLSearchParams] {
  const at = url.indexOf("?");
  return at < 0
    ? [url, new URLSearchParams()]
    : [url.slice(0, at), new URLSearchParams(url.slice(at + 1))];
}
