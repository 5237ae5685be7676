import { assert, must } from "@osr/base/assert";
import type { Clock } from "@osr/base/clock";
import { messageOf } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import type { Scheduler } from "@osr/base/scheduler";
import type { Service } from "@osr/base/service";
import { HOUR_MS, MINUTE_MS, SECOND_MS } from "@osr/base/units";
import { uuidOfName } from "@osr/base/uuid";
import { certificateFacts, renewAtUnixMs } from "@osr/certificates/certificate-facts";
import { type Identity, issueCertificate } from "@osr/certificates/site-authority";
import { certificateUri } from "@osr/contracts/certificate-name";
import { CERTIFICATE_DAYS, CERTIFICATE_RENEWED_AT_SHARE } from "@osr/contracts/enrolment";
import { type HttpsServer, type ServerTls, startHttpsServer } from "@osr/https/https-server";

import { EnrolmentDesk } from "./enrolment-desk.ts";
import { FABRIC_IDENTITY, type FabricIdentity, fabricIdentityShape } from "./fabric-identity.ts";
import { splitAddresses } from "./member-names.ts";
import { SiteApi } from "./site-api.ts";
import { SiteModel } from "./site-model.ts";
import type { Site } from "./site.ts";
import { VaultLink } from "./vault-link.ts";

/** A thousand agents with a question that waits and a report each, and as much again while they reconnect. */
const CONNECTIONS_MAX = 4096;
const TICK_MS = SECOND_MS;
const GATEWAY_SILENT_MS_DEFAULT = 15 * MINUTE_MS;
const HOUSEKEEPING_MS = HOUR_MS;

export type ConfigurationServerConfig = {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Under which roles reach it: DNS names and IP addresses, for its certificate. */
  readonly names: readonly string[];
  readonly hostName: string;
  readonly version: string;
  /** After so long without a report, the machines of a process server are moved. Default: 15 min. */
  readonly gatewaySilentMs?: number | undefined;
  /** How long questions wait, how often the vault gets a report and the state is looked at; shorter in tests. */
  readonly waitMs?: number | undefined;
  readonly statusMs?: number | undefined;
  readonly tickMs?: number | undefined;
  readonly proxyUrl?: string | undefined;
};

export type ConfigurationServerPorts = {
  readonly site: Site;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly randomness: Randomness;
  readonly log: Log;
};

/**
 * The configuration server role: the site's certificates, what its agents and gateways are to do, and the link to the vault,
 * as soon as the site is registered. `run` listens and resolves after `stop`.
 */
export class ConfigurationServer implements Service {
  /** Resolves when roles can connect. Rejects where `run` fails before. */
  readonly listening: Promise<{ readonly port: number }>;
  readonly #config: ConfigurationServerConfig;
  readonly #ports: ConfigurationServerPorts;
  readonly #listening = Promise.withResolvers<{ readonly port: number }>();
  readonly #stopping = new AbortController();
  readonly #tickMs: number;
  readonly #model: SiteModel;
  readonly #api: SiteApi;
  #identity: Identity | undefined;
  #running: Promise<void> | undefined;

  constructor(config: ConfigurationServerConfig, ports: ConfigurationServerPorts) {
    this.#config = config;
    this.#ports = ports;
    this.listening = this.#listening.promise;
    this.listening.catch(() => undefined);
    const { state, authority } = ports.site;
    this.#tickMs = config.tickMs ?? TICK_MS;
    const silentMsMax = config.gatewaySilentMs ?? GATEWAY_SILENT_MS_DEFAULT;
    this.#model = new SiteModel({ ...ports, state, authority }, { silentMsMax });
    const desk = new EnrolmentDesk({ ...ports, state, authority });
    this.#api = new SiteApi({ ...ports, model: this.#model, desk, waitMs: config.waitMs });
  }

  run(): Promise<void> {
    assert(this.#running === undefined, "a configuration server runs once");
    this.#running = this.#run();
    this.#running.catch((error: unknown) => this.#listening.reject(error));
    return this.#running;
  }

  async stop(): Promise<void> {
    this.#stopping.abort(
      new DOMException("the configuration server is being stopped", "AbortError"),
    );
    await this.#running?.catch(() => undefined);
  }

  async #run(): Promise<void> {
    const { host, port } = this.#config;
    const { log, scheduler } = this.#ports;
    await this.#model.tick();
    await this.#renewIdentity();
    const https = await startHttpsServer({
      host,
      port,
      tls: this.#tls(),
      log,
      scheduler,
      limits: { connectionsMax: CONNECTIONS_MAX },
      handler: (request, response, signal) => this.#api.handle(request, response, signal),
    });
    log.info("configuration server is listening", { port: https.port });
    this.#listening.resolve({ port: https.port });
    try {
      await Promise.all([this.#tickLoop(https), this.#housekeeping(https), this.#linkLoop()]);
    } finally {
      await https.close();
    }
  }

  async #tickLoop(https: HttpsServer): Promise<void> {
    const { signal } = this.#stopping;
    let { revokedPem } = this.#model;
    while (!signal.aborted) {
      try {
        await this.#model.tick();
        if (this.#model.revokedPem !== revokedPem) https.replaceCertificate(this.#tls());
        ({ revokedPem } = this.#model);
      } catch (error) {
        this.#ports.log.error("the state of the site could not be looked at", { error });
      }
      await this.#sleep(this.#tickMs);
    }
  }

  /** Waits until the site is registered, then keeps the link to the vault. */
  async #linkLoop(): Promise<void> {
    const { state } = this.#ports.site;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const identity = state.kept(FABRIC_IDENTITY, fabricIdentityShape);
      if (identity !== undefined) await this.#linkWhile(identity, signal);
      else await this.#sleep(this.#tickMs);
    }
  }

  /** Keeps the link for as long as the registration is the same. */
  async #linkWhile(identity: FabricIdentity, signal: AbortSignal): Promise<void> {
    const { state } = this.#ports.site;
    const replaced = new AbortController();
    const ended = AbortSignal.any([signal, replaced.signal]);
    const link = new VaultLink({
      ...this.#config,
      ...this.#ports,
      identity,
      model: this.#model,
      state,
    });
    const running = link.run(ended);
    const watching = async (): Promise<void> => {
      const { dataVersion } = state;
      while (!ended.aborted) {
        await this.#sleep(this.#tickMs);
        const current = state.dataVersion;
        if (current === dataVersion) continue;
        const kept = state.kept(FABRIC_IDENTITY, fabricIdentityShape);
        if (kept?.vaultUrl !== identity.vaultUrl || kept.fabricId !== identity.fabricId)
          replaced.abort();
      }
    };
    await Promise.all([running, watching()]);
  }

  /** Renews the server's own certificate, and drops what has run out. */
  async #housekeeping(https: HttpsServer): Promise<void> {
    const { clock, log, site } = this.#ports;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        if (this.#isRenewalDue()) {
          await this.#renewIdentity();
          https.replaceCertificate(this.#tls());
        }
        site.state.dropCertificates(clock.unixMs());
      } catch (error) {
        log.error("housekeeping failed", { error: messageOf(error) });
      }
      await this.#sleep(HOUSEKEEPING_MS);
    }
  }

  #isRenewalDue(): boolean {
    if (this.#identity === undefined) return true;
    const facts = certificateFacts(this.#identity.certificatePem);
    return this.#ports.clock.unixMs() >= renewAtUnixMs(facts, CERTIFICATE_RENEWED_AT_SHARE);
  }

  async #renewIdentity(): Promise<void> {
    const { site, clock } = this.#ports;
    const { authority } = site;
    const id = uuidOfName("configuration-server", site.fingerprint);
    this.#identity = await issueCertificate(authority, {
      commonName: "configuration-server",
      uri: certificateUri({ role: "configuration-server", id }),
      ...splitAddresses(this.#config.names),
      days: CERTIFICATE_DAYS,
      usage: "server",
      clock,
    });
  }

  #tls(): ServerTls {
    const { authority } = this.#ports.site;
    const { certificatePem, privateKeyPem } = must(this.#identity, "the server has a certificate");
    return {
      // With the authority, so that a role that knows only its fingerprint gets it.
      certificatePem: certificatePem + authority.certificatePem,
      privateKeyPem,
      clientAuthorityPem: authority.certificatePem,
      clientCertificate: "optional",
      revokedPem: this.#model.revokedPem,
    };
  }

  async #sleep(ms: number): Promise<void> {
    await this.#ports.scheduler.sleep(ms, this.#stopping.signal).catch(() => undefined);
  }
}
