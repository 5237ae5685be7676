import type { Clock } from "@osr/base/clock";
import { messageOf } from "@osr/base/errors";
import { parseJson } from "@osr/base/json-shape";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import type { Scheduler } from "@osr/base/scheduler";
import { MINUTE_MS } from "@osr/base/units";
import { certificateFacts } from "@osr/certificates/certificate-facts";
import type { HealthError } from "@osr/contracts/agent-protocol";
import {
  FABRIC_ROUTES,
  FABRIC_STATUS_MS,
  FABRIC_WAIT_MS,
  type FabricStatus,
  desiredFabricShape,
  fabricStatusReplyShape,
} from "@osr/contracts/fabric-protocol";
import { keepRenewed } from "@osr/control-link/certificate-renewal";
import { followWishedState } from "@osr/control-link/wished-state";
import { HttpsClient } from "@osr/https/https-client";

import { CONFIGURATION_SERVER_ERRORS } from "./configuration-server-errors.ts";
import { FABRIC_IDENTITY, type FabricIdentity } from "./fabric-identity.ts";
import { healthError } from "./gateway-health.ts";
import type { SiteModel } from "./site-model.ts";
import type { SiteState } from "./site-state.ts";

const TIMEOUT_MS = MINUTE_MS;
/** A question that waits, a report, and a renewal. */
const SOCKETS_MAX = 3;

export type VaultLinkOptions = {
  readonly identity: FabricIdentity;
  readonly model: SiteModel;
  readonly state: SiteState;
  readonly hostName: string;
  readonly version: string;
  readonly proxyUrl?: string | undefined;
  readonly statusMs?: number | undefined;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly randomness: Randomness;
  readonly log: Log;
};

/**
 * The link to the vault, outbound only: takes what it wishes, reports what there is, renews the certificate. Where the vault
 * is away, it tries again and again, and nothing else changes.
 */
export class VaultLink {
  readonly #options: VaultLinkOptions;
  readonly #client: HttpsClient;
  #identity: FabricIdentity;
  #reportedChangeNo = 0;
  #failure: unknown;
  #isAway = false;

  constructor(options: VaultLinkOptions) {
    this.#options = options;
    this.#identity = options.identity;
    const { vaultUrl, authorityPem } = options.identity;
    this.#client = new HttpsClient({
      baseUrl: vaultUrl,
      authorityPem,
      identity: options.identity,
      socketsMax: SOCKETS_MAX,
      timeoutMs: TIMEOUT_MS,
      ...(options.proxyUrl === undefined ? {} : { proxyUrl: options.proxyUrl }),
      scheduler: options.scheduler,
    });
  }

  /** Ends with the signal. */
  async run(signal: AbortSignal): Promise<void> {
    using client = this.#client;
    const { model, state } = this.#options;
    await Promise.all([
      followWishedState(
        {
          ...this.#options,
          client,
          path: FABRIC_ROUTES.desired,
          waitMs: FABRIC_WAIT_MS,
          shape: desiredFabricShape,
          have: () => model.revision,
          onState: (desired) => model.setDesired(desired),
        },
        signal,
      ),
      this.#report(signal),
      keepRenewed(
        {
          ...this.#options,
          client,
          path: FABRIC_ROUTES.renewal,
          identity: () => this.#identity,
          onRenewed: (identity) => {
            state.keep(FABRIC_IDENTITY, identity);
            this.#identity = identity;
            client.replaceIdentity(identity);
          },
        },
        signal,
      ),
    ]);
  }

  /** Why the last report did not arrive, or undefined. */
  get failure(): unknown {
    return this.#failure;
  }

  async #report(signal: AbortSignal): Promise<void> {
    const { model, scheduler, log, statusMs = FABRIC_STATUS_MS } = this.#options;
    while (!signal.aborted) {
      const reportable = model.reportable.count;
      try {
        await this.#reportOnce(signal);
        if (this.#isAway) log.info("reports reach the vault again");
        this.#isAway = false;
        this.#failure = undefined;
      } catch (error) {
        if (signal.aborted) return;
        if (!this.#isAway)
          log.warn("a report did not reach the vault", { error: messageOf(error) });
        this.#isAway = true;
        this.#failure = error;
      }
      const pause = new AbortController();
      using _ = scheduler.after(statusMs, () => pause.abort());
      const ended = AbortSignal.any([signal, pause.signal]);
      // What fails is not tried again at once, whatever there is to report.
      if (this.#isAway) await scheduler.sleep(statusMs, signal).catch(() => undefined);
      else if (model.reportable.count === reportable) await model.reportable.next(ended);
    }
  }

  async #reportOnce(signal: AbortSignal): Promise<void> {
    const { model } = this.#options;
    if (model.orders.takeWantsWhole()) this.#reportedChangeNo = 0;
    const { changeNo } = model.machines;
    const body = Buffer.from(JSON.stringify(this.status()));
    const request = { method: "POST", path: FABRIC_ROUTES.status, body, signal };
    const reply = await this.#client.request(request);
    const { wantsWhole } = parseJson(reply.body.toString("utf8"), fabricStatusReplyShape);
    this.#reportedChangeNo = wantsWhole ? 0 : changeNo;
    model.machines.forgetGone(changeNo);
  }

  /** The next report. */
  status(): FabricStatus {
    const { model, state, hostName, version, clock } = this.#options;
    return {
      appliedRevision: model.revision,
      hostName,
      version,
      unixMs: Math.floor(clock.unixMs()),
      certificateExpiresUnixMs: certificateFacts(this.#identity.certificatePem).untilUnixMs,
      isWhole: this.#reportedChangeNo === 0,
      machines: model.machines.since(this.#reportedChangeNo),
      gateways: model.gateways.all(),
      runAsAccounts: state.accounts().map(({ id, name }) => ({ accountId: id, accountName: name })),
      orderResults: model.orders.results,
      health: this.#health(),
    };
  }

  #health(): HealthError[] {
    const list = this.#options.model.health();
    if (this.#failure !== undefined)
      list.push(
        healthError(CONFIGURATION_SERVER_ERRORS.VAULT_UNREACHABLE, messageOf(this.#failure)),
      );
    return list;
  }
}
