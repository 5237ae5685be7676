import type { IncomingMessage, ServerResponse } from "node:http";

import type { Identity } from "@osr/certificates/site-authority";
import type { Service } from "@osr/base/service";
import { randomUuid } from "@osr/base/uuid";
import { type HttpsServer, startHttpsServer } from "@osr/https/https-server";

import type { RateLimits } from "./access/rate-limit.ts";
import { ArmService } from "./arm/arm-service.ts";
import { sendReply } from "./arm/arm-reply.ts";
import { type AnyRoute, Router } from "./arm/router.ts";
import { migrate } from "./database/migrate.ts";
import { NodeConnection } from "./database/node-connection.ts";
import { type OpenDatabase, openDatabase } from "./database/open-database.ts";
import { StoredFabricDesires } from "./fabric/fabric-desires.ts";
import { FabricService } from "./fabric/fabric-service.ts";
import { fabricOperations } from "./fabric/fabric-operations.ts";
import { noItems } from "./fabric/no-items.ts";
import { type CrashPoint, noCrashPoint } from "./jobs/crash-point.ts";
import { JobRunner } from "./jobs/job-runner.ts";
import { containerRoutes } from "./resources/containers.ts";
import { DOCUMENT_KINDS } from "./resources/document-kinds.ts";
import { documentRoutes } from "./resources/documents.ts";
import { eventRoutes } from "./resources/events.ts";
import { otherScenarioRoutes, providerRoutes } from "./resources/other-scenarios.ts";
import { registrationRoutes } from "./resources/registration-resources.ts";
import { vaultHealthRoutes } from "./resources/vault-health.ts";
import { fabricRoutes } from "./resources/fabrics.ts";
import { mappingRoutes } from "./resources/mappings.ts";
import { jobRoutes } from "./resources/jobs.ts";
import { policyRoutes } from "./resources/policies.ts";
import { vaultRoutes } from "./resources/vaults.ts";
import type { VaultContext, VaultPorts } from "./vault-context.ts";

const RATE_LIMITS: RateLimits = { requestsPerSecond: 200, burst: 1000 };
/** What ARM clients are told to wait between polls of a job. */
const RETRY_AFTER_SECONDS = 1;

export type VaultOptions = {
  /** Of the database. Holds a password: a secret. */
  readonly databaseUrl: string;
  readonly host: string;
  readonly port: number;
  /** Certificate and key of the server. */
  readonly identity: Identity;
  readonly retryAfterSeconds?: number;
  readonly rateLimits?: RateLimits;
  readonly crashPoint?: CrashPoint;
};

/** The vault: management API, jobs and the server side of fabrics, on one database and one port. */
export class Vault implements Service {
  readonly #options: VaultOptions;
  readonly #ports: VaultPorts;
  readonly #listening = Promise.withResolvers<{ readonly port: number }>();
  readonly #stopping = Promise.withResolvers<void>();
  #ended: Promise<void> | undefined;

  constructor(options: VaultOptions, ports: VaultPorts) {
    this.#options = options;
    this.#ports = ports;
    this.#listening.promise.catch(() => undefined);
  }

  /** Resolves when requests are taken. */
  get listening(): Promise<{ readonly port: number }> {
    return this.#listening.promise;
  }

  run(): Promise<void> {
    this.#ended ??= this.#run();
    return this.#ended;
  }

  async stop(): Promise<void> {
    this.#stopping.resolve();
    await this.#ended;
  }

  async #run(): Promise<void> {
    try {
      await using open = openDatabase(this.#options.databaseUrl, this.#ports.log);
      await migrate(open.pool, this.#ports.clock);
      const node = new NodeConnection({
        ...this.#ports,
        url: this.#options.databaseUrl,
        nodeId: randomUuid(this.#ports.randomness),
      });
      await using stack = new AsyncDisposableStack();
      stack.defer(() => node.stop());
      await node.start();
      const parts = this.#parts(open, node);
      const { jobs } = parts;
      stack.defer(() => jobs.stop());
      jobs.start();
      const server = await this.#serve(parts);
      stack.defer(() => server.close());
      this.#listening.resolve({ port: server.port });
      await Promise.race([this.#stopping.promise, node.lost]);
    } catch (error) {
      this.#listening.reject(error);
      throw error;
    }
  }

  #parts(open: OpenDatabase, node: NodeConnection): Parts {
    const { database } = open;
    const { crashPoint = noCrashPoint, rateLimits = RATE_LIMITS } = this.#options;
    const jobs = new JobRunner({ ...this.#ports, database, node, crashPoint });
    const fabrics = new StoredFabricDesires({ ...this.#ports, database, node });
    const context: VaultContext = { ...this.#ports, database, jobs, fabrics };
    const items = noItems;
    for (const operation of fabricOperations(context)) jobs.register(operation);
    const routes: AnyRoute[] = [
      ...vaultRoutes(this.#ports),
      ...policyRoutes(context),
      ...fabricRoutes(context, items),
      ...containerRoutes(context, items),
      ...mappingRoutes(context, items),
      ...jobRoutes(context),
      ...eventRoutes(),
      ...vaultHealthRoutes(context, items),
      ...registrationRoutes(context),
      ...DOCUMENT_KINDS.flatMap((kind) => documentRoutes(kind, context)),
      ...otherScenarioRoutes(),
      ...providerRoutes(() => routes),
    ];
    const arm = new ArmService({
      ...this.#ports,
      database,
      router: new Router(routes),
      retryAfterSeconds: this.#options.retryAfterSeconds ?? RETRY_AFTER_SECONDS,
      rateLimits,
      observe: () => undefined,
    });
    return { jobs, arm, fabric: new FabricService(context, items, node) };
  }

  #serve(parts: Parts): Promise<HttpsServer> {
    const { host, port, identity } = this.#options;
    const { authority, log, scheduler } = this.#ports;
    return startHttpsServer({
      host,
      port,
      // Users have tokens, fabrics have certificates, and both come to this port.
      tls: {
        ...identity,
        clientAuthorityPem: authority.certificatePem,
        clientCertificate: "optional",
      },
      log,
      scheduler,
      handler: (request, response, signal) => handle(parts, request, response, signal),
    });
  }
}

type Parts = {
  readonly jobs: JobRunner;
  readonly arm: ArmService;
  readonly fabric: FabricService;
};

async function handle(
  { arm, fabric }: Parts,
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  if (request.url === "/healthz") return sendReply(response, 200, { status: "ok" });
  if (request.url?.startsWith("/fabric/") === true) return fabric.handle(request, response, signal);
  await arm.handle(request, response, signal);
}
