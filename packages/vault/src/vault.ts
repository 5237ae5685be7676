import type { IncomingMessage, ServerResponse } from "node:http";

import type { Service } from "@osr/base/service";
import { randomUuid } from "@osr/base/uuid";
import { type HttpsServer, type ServerTls, startHttpsServer } from "@osr/https/https-server";

import type { RateLimits } from "./access/rate-limit.ts";
import { ArmService } from "./arm/arm-service.ts";
import { sendReply } from "./arm/arm-reply.ts";
import type { ResourceRoute } from "./arm/resource-routes.ts";
import { Router } from "./arm/router.ts";
import { migrate } from "./database/migrate.ts";
import { NodeConnection } from "./database/node-connection.ts";
import { type OpenDatabase, openDatabase } from "./database/open-database.ts";
import { StoredFabricDesires } from "./fabric/fabric-desires.ts";
import { type CrashPoint, noCrashPoint } from "./jobs/crash-point.ts";
import { JobRunner } from "./jobs/job-runner.ts";
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
  readonly tls: ServerTls;
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
      const { jobs, service } = this.#parts(open, node);
      stack.defer(() => jobs.stop());
      jobs.start();
      const server = await this.#serve(service);
      stack.defer(() => server.close());
      this.#listening.resolve({ port: server.port });
      await Promise.race([this.#stopping.promise, node.lost]);
    } catch (error) {
      this.#listening.reject(error);
      throw error;
    }
  }

  #parts(open: OpenDatabase, node: NodeConnection): { jobs: JobRunner; service: ArmService } {
    const { database } = open;
    const { crashPoint = noCrashPoint, rateLimits = RATE_LIMITS } = this.#options;
    const jobs = new JobRunner({ ...this.#ports, database, node, crashPoint });
    const fabrics = new StoredFabricDesires({ ...this.#ports, database, node });
    const context: VaultContext = { ...this.#ports, database, jobs, fabrics };
    const routes: ResourceRoute[] = [...policyRoutes(context), ...jobRoutes(context)];
    const service = new ArmService({
      ...this.#ports,
      database,
      router: new Router([...vaultRoutes(this.#ports), ...routes]),
      retryAfterSeconds: this.#options.retryAfterSeconds ?? RETRY_AFTER_SECONDS,
      rateLimits,
      observe: () => undefined,
    });
    return { jobs, service };
  }

  #serve(service: ArmService): Promise<HttpsServer> {
    const { host, port, tls } = this.#options;
    return startHttpsServer({
      host,
      port,
      tls,
      log: this.#ports.log,
      scheduler: this.#ports.scheduler,
      handler: (request, response, signal) => handle(service, request, response, signal),
    });
  }
}

async function handle(
  service: ArmService,
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  if (request.url === "/healthz") return sendReply(response, 200, { status: "ok" });
  await service.handle(request, response, signal);
}
