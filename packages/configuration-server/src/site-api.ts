import type { IncomingMessage, ServerResponse } from "node:http";

import { OsrError } from "@osr/base/errors";
import { type Shape, integer, parseJson } from "@osr/base/json-shape";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import { KIB, MIB } from "@osr/base/units";
import type { CertificateRole } from "@osr/contracts/certificate-name";
import {
  ENROLMENT_ROUTES,
  enrolmentRequestShape,
  renewalRequestShape,
} from "@osr/contracts/enrolment";
import { gatewayFactsShape, machineReplicationFactsShape } from "@osr/contracts/replication-facts";
import { SITE_ROUTES, SITE_WAIT_MS, machineRegistrationShape } from "@osr/contracts/site-protocol";
import { certificateRefusal } from "@osr/https/certificate-refusal";
import { type PeerName, peerNameOf } from "@osr/https/peer-name";
import { sendError, sendJson } from "@osr/https/replies";
import { readBody } from "@osr/https/request-body";

import {
  CONFIGURATION_SERVER_ERRORS,
  CONFIGURATION_SERVER_STATUS,
} from "./configuration-server-errors.ts";
import type { EnrolmentDesk } from "./enrolment-desk.ts";
import type { SiteModel } from "./site-model.ts";

/** Of enrolments and renewals, which come from anybody; of what roles report. */
const ENROLMENT_BYTES_MAX = 64 * KIB;
const REPORT_BYTES_MAX = MIB;

const GATEWAY_ROLES = ["process-server", "master-target"] as const;

export type SiteApiParts = {
  readonly model: SiteModel;
  readonly desk: EnrolmentDesk;
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** How long a question waits where there is nothing new; SITE_WAIT_MS but in tests. */
  readonly waitMs?: number | undefined;
};

/** A JSON body, or undefined for an answer without one. */
type Answer = object | undefined;

/** The HTTPS API for agents, process servers and master targets: docs/formats/site-protocol.md. */
export class SiteApi {
  readonly #parts: SiteApiParts;

  constructor(parts: SiteApiParts) {
    this.#parts = parts;
  }

  async handle(
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      const answer = await this.#route(request, signal);
      if (answer === undefined) response.writeHead(204).end();
      else sendJson(response, 200, answer);
    } catch (error) {
      sendError(response, error, CONFIGURATION_SERVER_STATUS, this.#parts.log);
    }
  }

  async #route(request: IncomingMessage, signal: AbortSignal): Promise<Answer> {
    const { model, desk } = this.#parts;
    const [path = "", query = ""] = (request.url ?? "").split("?", 2);
    switch (`${request.method} ${path}`) {
      case `POST ${ENROLMENT_ROUTES.enrol}`: {
        const body = await readJson(request, enrolmentRequestShape, ENROLMENT_BYTES_MAX);
        const from = (request.socket.remoteAddress ?? "").replace(/^::ffff:/, "");
        return desk.enrol(body, from, (addresses) => model.machines.discoveredId(addresses));
      }
      case `POST ${ENROLMENT_ROUTES.renew}`: {
        const peer = this.#peer(request);
        const { csrPem } = await readJson(request, renewalRequestShape, ENROLMENT_BYTES_MAX);
        return desk.renew(peer, csrPem);
      }
      case `POST ${SITE_ROUTES.machine}`: {
        const { id } = this.#peer(request, "mobility-service");
        const body = await readJson(request, machineRegistrationShape, REPORT_BYTES_MAX);
        model.registerMachine(id, body);
        return undefined;
      }
      case `GET ${SITE_ROUTES.machineSettings}`: {
        const { id } = this.#peer(request, "mobility-service");
        const settings = await this.#news(request, query, () => model.settingsOf(id), signal);
        if (settings?.shutDownOrder !== undefined) model.orders.told(id);
        return settings;
      }
      case `POST ${SITE_ROUTES.machineStatus}`: {
        const { id } = this.#peer(request, "mobility-service");
        const body = await readJson(request, machineReplicationFactsShape, REPORT_BYTES_MAX);
        model.noteMachine(id, body);
        return undefined;
      }
      case `GET ${SITE_ROUTES.gatewayAssignment}`: {
        const { id } = this.#peer(request, ...GATEWAY_ROLES);
        return this.#news(request, query, () => model.assignmentOf(id), signal);
      }
      case `POST ${SITE_ROUTES.gatewayStatus}`: {
        const { id, role } = this.#peer(request, ...GATEWAY_ROLES);
        const body = await readJson(request, gatewayFactsShape, REPORT_BYTES_MAX);
        const gatewayRole = role === "master-target" ? role : "process-server";
        model.noteGateway(id, gatewayRole, body);
        return undefined;
      }
      default:
        throw new OsrError(
          CONFIGURATION_SERVER_ERRORS.NOT_FOUND,
          `there is no ${request.method} ${path.slice(0, 256)}`,
        );
    }
  }

  /** Who asks. No roles: any that has a certificate. Throws ROLE_FORBIDDEN, CERTIFICATE_REQUIRED, _REVOKED, _EXPIRED, _UNTRUSTED. */
  #peer(request: IncomingMessage, ...roles: readonly CertificateRole[]): PeerName {
    const peer = peerNameOf(request);
    if (peer === undefined)
      throw (
        certificateRefusal(request) ??
        new OsrError(
          CONFIGURATION_SERVER_ERRORS.CERTIFICATE_REQUIRED,
          "the certificate of this site names no role",
        )
      );
    if (this.#parts.model.isRevoked(peer.id))
      throw new OsrError(
        CONFIGURATION_SERVER_ERRORS.CERTIFICATE_REVOKED,
        `the ${peer.role} ${peer.id} was revoked`,
      );
    if (roles.length > 0 && !roles.includes(peer.role))
      throw new OsrError(
        CONFIGURATION_SERVER_ERRORS.ROLE_FORBIDDEN,
        `a ${peer.role} may not ask for this`,
      );
    return peer;
  }

  /** The state as soon as its revision is another one than the caller's, or undefined when the waiting time is over. */
  async #news<State extends { readonly revision: number }>(
    request: IncomingMessage,
    query: string,
    stateOf: () => State | undefined,
    signal: AbortSignal,
  ): Promise<State | undefined> {
    const after = integer(0)(Number(new URLSearchParams(query).get("after") ?? 0), "after");
    const { model, scheduler, waitMs = SITE_WAIT_MS } = this.#parts;
    const over = new AbortController();
    using _ = scheduler.after(waitMs, () => over.abort());
    const ended = AbortSignal.any([signal, over.signal]);
    for (;;) {
      signal.throwIfAborted();
      // Whoever was revoked meanwhile gets nothing more.
      this.#peer(request);
      const state = stateOf();
      if (state !== undefined && state.revision !== after) return state;
      if (over.signal.aborted) return undefined;
      await model.changed.next(ended);
    }
  }
}

async function readJson<T>(
  request: IncomingMessage,
  shape: Shape<T>,
  bytesMax: number,
): Promise<T> {
  return parseJson((await readBody(request, bytesMax)).toString("utf8"), shape);
}
