import { sql } from "kysely";
import type { IncomingMessage, ServerResponse } from "node:http";

import type { Identity } from "@osr/certificates/site-authority";
import type { Service } from "@osr/base/service";
import { HOUR_MS, MINUTE_MS } from "@osr/base/units";
import { randomUuid } from "@osr/base/uuid";
import { type HttpsServer, type ServerTls, startHttpsServer } from "@osr/https/https-server";

import type { RateLimits } from "./access/rate-limit.ts";
import { ArmService } from "./arm/arm-service.ts";
import { sendReply } from "./arm/arm-reply.ts";
import { type AnyRoute, Router } from "./arm/router.ts";
import type { VaultDatabase } from "./database/database.ts";
import { HistoryRetention } from "./database/history-retention.ts";
import { migrate } from "./database/migrate.ts";
import { NodeConnection } from "./database/node-connection.ts";
import { type OpenDatabase, openDatabase } from "./database/open-database.ts";
import { StoredFabricDesires } from "./fabric/fabric-desires.ts";
import { FabricService } from "./fabric/fabric-service.ts";
import { watchHeartbeats } from "./fabric/heartbeats.ts";
import { fabricOperations } from "./fabric/fabric-operations.ts";
import { type CrashPoint, noCrashPoint } from "./jobs/crash-point.ts";
import { JobRunner } from "./jobs/job-runner.ts";
import { networkRoutes } from "./networks/network-routes.ts";
import { deleteReplicaOperation, replicaMachineRoutes } from "./provider/replica-machine-routes.ts";
import { replicaRoutes } from "./provider/replica-routes.ts";
import { rpoRoutes } from "./provider/rpo-routes.ts";
import { storageUseRoutes } from "./provider/storage-use-routes.ts";
import { containerRoutes } from "./resources/containers.ts";
import { DOCUMENT_KINDS } from "./resources/document-kinds.ts";
import { documentRoutes } from "./resources/documents.ts";
import { eventRoutes } from "./resources/events.ts";
import { otherScenarioRoutes, providerRoutes } from "./resources/other-scenarios.ts";
import { registrationRoutes } from "./resources/registration-resources.ts";
import { vaultHealthRoutes } from "./resources/vault-health.ts";
import { fabricRoutes } from "./resources/fabrics.ts";
import { reassociateGatewayRoute } from "./resources/reassociate-gateway.ts";
import { mappingRoutes } from "./resources/mappings.ts";
import { failoverRoutes } from "./items/failover-routes.ts";
import { itemOperations } from "./items/item-operations.ts";
import { checkFailovers } from "./items/failover-watch.ts";
import { itemRoutes } from "./items/item-routes.ts";
import { recoveryPointRoutes } from "./items/recovery-points.ts";
import { RPO_SAMPLE_MS, sampleRpo } from "./items/rpo-history.ts";
import { StoredItems } from "./items/stored-items.ts";
import { jobRoutes } from "./resources/jobs.ts";
import { policyRoutes } from "./resources/policies.ts";
import { vaultRoutes } from "./resources/vaults.ts";
import { openApi } from "./arm/open-api.ts";
import { Watch } from "./watch.ts";
import { VaultMetrics } from "./vault-metrics.ts";
import { Sealer } from "./sealing/sealer.ts";
import type { Sealing } from "./sealing/sealing.ts";
import type { VaultContext, VaultPorts } from "./vault-context.ts";

const RATE_LIMITS: RateLimits = { requestsPerSecond: 500, burst: 2000 };
/** What ARM clients are told to wait between polls of a job. */
const RETRY_AFTER_SECONDS = 1;
const WATCH_MS = MINUTE_MS;
const RENEWAL_CHECK_MS = 12 * HOUR_MS;

export type VaultOptions = {
  /** Of the database. Holds a password: a secret. */
  readonly databaseUrl: string;
  readonly host: string;
  readonly port: number;
  /** Certificate and key of the server; asked for at the start and twice a day, so that a renewed one is used. */
  readonly identity: () => Promise<Identity>;
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
      const sealer = new Sealer({ ...this.#ports, database: open.database });
      stack.defer(() => sealer.stop());
      const sealing = sealer.run();
      const parts = this.#parts(open, node, sealer);
      const { jobs } = parts;
      stack.defer(() => jobs.stop());
      jobs.start();
      const server = await this.#serve(parts);
      stack.defer(() => server.close());
      stack.use(this.#renewing(server));
      const retention = stack.use(
        new HistoryRetention({ ...this.#ports, database: open.database }),
      );
      retention.start();
      this.#watch(open.database, stack);
      this.#listening.resolve({ port: server.port });
      await Promise.race([this.#stopping.promise, node.lost, sealing]);
    } catch (error) {
      this.#listening.reject(error);
      throw error;
    }
  }

  /** Looks at what only time changes. */
  #watch(database: VaultDatabase, stack: AsyncDisposableStack): void {
    const ports = { ...this.#ports, database };
    const common = { ...this.#ports, everyMs: WATCH_MS };
    for (const watch of [
      new Watch((signal) => checkFailovers(ports, signal), {
        ...common,
        what: "items could not be checked for failover",
      }),
      new Watch(() => watchHeartbeats(ports), {
        ...common,
        what: "heartbeats could not be looked at",
      }),
      new Watch(() => sampleRpo(ports), {
        ...common,
        everyMs: RPO_SAMPLE_MS,
        what: "recovery point objectives could not be noted",
      }),
    ])
      stack.use(watch).start();
  }

  #parts(open: OpenDatabase, node: NodeConnection, sealing: Sealing): Parts {
    const { database } = open;
    const { crashPoint = noCrashPoint, rateLimits = RATE_LIMITS } = this.#options;
    const metrics = new VaultMetrics(database);
    const jobs = new JobRunner({ ...this.#ports, database, node, crashPoint });
    const fabrics = new StoredFabricDesires({ ...this.#ports, database, node });
    const context: VaultContext = { ...this.#ports, database, jobs, fabrics, sealing };
    const items = new StoredItems(context);
    for (const operation of [
      ...fabricOperations(context),
      ...itemOperations(context),
      deleteReplicaOperation(context),
    ])
      jobs.register(operation);
    const routes: AnyRoute[] = [
      ...vaultRoutes(this.#ports),
      ...policyRoutes(context),
      ...fabricRoutes(context, items),
      reassociateGatewayRoute(context),
      ...containerRoutes(context, items),
      ...mappingRoutes(context, items),
      ...itemRoutes(context),
      ...failoverRoutes(context),
      ...recoveryPointRoutes(context),
      ...networkRoutes(context),
      ...replicaRoutes(context),
      ...rpoRoutes(context),
      ...storageUseRoutes(context),
      ...replicaMachineRoutes(context),
      ...jobRoutes(context),
      ...eventRoutes(),
      ...vaultHealthRoutes(
        context,
        items,
        async () => (await this.#options.identity()).certificatePem,
      ),
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
      observe: (route, method, status, ms) => metrics.observeRequest(route, method, status, ms),
    });
    const fabric = new FabricService(context, items, node);
    return { jobs, arm, fabric, metrics, database, documents: openApi(routes) };
  }

  /** Users have tokens, fabrics have certificates, and both come to this port. */
  async #tls(): Promise<ServerTls> {
    return {
      ...(await this.#options.identity()),
      clientAuthorityPem: this.#ports.authority.certificatePem,
      clientCertificate: "optional",
    };
  }

  #renewing(server: HttpsServer): Disposable {
    const { scheduler, log } = this.#ports;
    let timer: Disposable;
    const renew = async (): Promise<void> => {
      try {
        server.replaceCertificate(await this.#tls());
      } catch (error) {
        log.error("the server's certificate could not be renewed", { error });
      }
      wait();
    };
    const wait = (): void => {
      timer = scheduler.after(RENEWAL_CHECK_MS, () => void renew());
    };
    wait();
    return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
  }

  async #serve(parts: Parts): Promise<HttpsServer> {
    const { host, port } = this.#options;
    const { log, scheduler } = this.#ports;
    return startHttpsServer({
      host,
      port,
      tls: await this.#tls(),
      log,
      scheduler,
      handler: (request, response, signal) => handle(parts, request, response, signal),
    });
  }
}

type Parts = {
  readonly database: VaultDatabase;
  readonly jobs: JobRunner;
  readonly arm: ArmService;
  readonly fabric: FabricService;
  readonly metrics: VaultMetrics;
  /** Content type and text by path. */
  readonly documents: ReadonlyMap<string, { readonly type: string; readonly text: string }>;
};

async function handle(
  parts: Parts,
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  const path = request.url?.split("?")[0] ?? "";
  if (path.startsWith("/fabric/")) return parts.fabric.handle(request, response, signal);
  if (request.method === "GET" && (await sendPlain(parts, path, response))) return;
  await parts.arm.handle(request, response, signal);
}

/** What anybody may read: it says nothing about what is protected. False where it is none of that. */
async function sendPlain(parts: Parts, path: string, response: ServerResponse): Promise<boolean> {
  const document = parts.documents.get(path);
  if (document !== undefined) sendText(response, document.type, document.text);
  else if (path === "/healthz") sendReply(response, 200, { status: "ok" });
  else if (path === "/readyz") await sendReadiness(parts.database, response);
  else if (path === "/metrics") {
    const { type, text } = await parts.metrics.exposition();
    sendText(response, type, text);
  } else return false;
  return true;
}

async function sendReadiness(database: VaultDatabase, response: ServerResponse): Promise<void> {
  try {
    await sql`select 1`.execute(database);
    sendReply(response, 200, { status: "ready" });
  } catch {
    sendReply(response, 503, { status: "the database does not answer" }, { "retry-after": "2" });
  }
}

function sendText(response: ServerResponse, type: string, text: string): void {
  const bytes = Buffer.from(text);
  response.writeHead(200, { "content-type": type, "content-length": bytes.length });
  response.end(bytes);
}
