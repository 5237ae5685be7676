import { mkdir } from "node:fs/promises";

import { assert } from "@osr/base/assert";
import { messageOf } from "@osr/base/errors";
import type { Service } from "@osr/base/service";
import { MIB, SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import type { AgentDiskBytes, HealthError, PointSummary } from "@osr/contracts/agent-protocol";
import { type HttpsServer, type ServerTls, startHttpsServer } from "@osr/https/https-server";

import { AgentApi } from "./agent-api.ts";
import { ByteBudget } from "./byte-budget.ts";
import { CACHE_BYTES_DEFAULT, type CacheLevel } from "./cache-ladder.ts";
import { CacheMeter } from "./cache-meter.ts";
import type { DiskAuthority } from "./disk-authority.ts";
import { DiskComparisons } from "./disk-comparisons.ts";
import type { DiskStatus, DiskStream } from "./disk-stream.ts";
import { DiskStreams } from "./disk-streams.ts";
import { type LoadShares, LoadWatch } from "./load-watch.ts";
import { startMetricsServer } from "./metrics-server.ts";
import { RecoveryPoints } from "./recovery-points.ts";
import type { ProcessServerPorts, RoleContext } from "./role-context.ts";
import { healthOf, placeHealth } from "./role-health.ts";
import { RoleMetrics } from "./role-metrics.ts";
import { SegmentTarget } from "./segment-target.ts";
import { Semaphore } from "./semaphore.ts";
import { OPENINGS_MAX } from "./session-opening.ts";

import { lockSpool } from "./spool-lock.ts";
import { StoredSessions } from "./stored-sessions.ts";

/** Bodies of batches in memory, over all connections; their frames take about as much again. */
const BODY_BYTES_MAX = 64 * MIB;
/** Segments that go up at once. */
const UPLOADS_MAX = 4;
/** Runs of all open segments, 28 bytes each; what one of them may have of it. */
const RUNS_MAX = 2 ** 20;
const RUNS_PER_SEGMENT_MAX = 2 ** 18;
const RUNS_PER_SEGMENT_MIN = 2 ** 12;
const CACHE_REFRESH_MS = SECOND_MS;

export type ProcessServerConfig = {
  readonly vaultId: Uuid;
  /** Folder of the cache; made where it is missing. One process server uses it at a time. */
  readonly spoolFolder: string;
  /** Default: 600 GiB. The size of the file system is a limit too. */
  readonly cacheBytes?: number;
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** On loopback. 0: any free port. */
  readonly metricsPort: number;
  /** Agents are known by their certificates, which come from this authority. */
  readonly tls: ServerTls & { readonly clientAuthorityPem: string };
};

export type ListeningPorts = { readonly port: number; readonly metricsPort: number };

/** A machine that has had a session since the process server was started. */
export type MachineStatus = {
  readonly machineId: Uuid;
  readonly hostName: string;
  readonly epoch: number;
  /** Since its last request. */
  readonly silentMs: number;
  readonly newestPoint?: PointSummary;
  readonly disks: readonly DiskStatus[];
  /** What the machine said of itself in its last heartbeat. */
  readonly health: readonly HealthError[];
  readonly agentBytes: readonly AgentDiskBytes[];
  readonly pointsMissed: number;
};

export type ProcessServerStatus = {
  readonly cache: {
    readonly usedBytes: number;
    readonly freeShare: number;
    readonly level: CacheLevel;
  };
  readonly inFlightBytes: number;
  /** Measured uplink; absent before the first larger upload. */
  readonly uploadBytesPerSecond?: number;
  readonly machines: readonly MachineStatus[];
  readonly health: readonly HealthError[];
};

/**
 * The process server role. `run` listens and resolves after `stop`. `stop` refuses what comes, ends what is under way and
 * leaves in the spool what is not uploaded; a later run goes on with it. Who made the encoder and the store disposes of them
 * after it.
 */
export class ProcessServer implements Service {
  /** Resolves when agents can connect. Rejects where `run` fails before. */
  readonly listening: Promise<ListeningPorts>;
  readonly #config: ProcessServerConfig;
  readonly #ports: ProcessServerPorts & { readonly authority: DiskAuthority };
  readonly #listening = Promise.withResolvers<ListeningPorts>();
  readonly #stopAsked = new AbortController();
  readonly #bodies = new ByteBudget(BODY_BYTES_MAX);
  readonly #metrics = new RoleMetrics();
  readonly #segmentTarget = new SegmentTarget();
  readonly #load = new LoadWatch();
  #parts: Parts | undefined;
  #running: Promise<void> | undefined;

  constructor(
    config: ProcessServerConfig,
    ports: ProcessServerPorts & { readonly authority: DiskAuthority },
  ) {
    this.#config = config;
    this.#ports = ports;
    this.listening = this.#listening.promise;
    // Who does not wait for it sees the failure in `run`.
    this.listening.catch(() => undefined);
  }

  run(): Promise<void> {
    assert(this.#running === undefined, "a process server runs once");
    this.#running = this.#run();
    this.#running.catch((error: unknown) => this.#listening.reject(error));
    return this.#running;
  }

  async stop(): Promise<void> {
    this.#stopAsked.abort();
    await this.#running?.catch(() => undefined);
  }

  /** New connections use the new certificate. */
  replaceCertificate(tls: ServerTls): void {
    this.#parts?.https.replaceCertificate(tls);
  }

  /**
   * A machine is not admitted any more: its session ends, and nothing more is taken in. What is spooled is still uploaded,
   * unless another process server has claimed the log.
   */
  withdraw(machineId: Uuid): void {
    this.#parts?.api.sessions.end(machineId);
  }

  /** What goes on at the moment. Cheap; may be asked every second. */
  status(): ProcessServerStatus {
    const { uploadBytesPerSecond, streams, cache, machines, load } = this.#facts();
    return {
      cache,
      inFlightBytes: this.#bodies.usedBytes,
      ...(uploadBytesPerSecond === undefined ? {} : { uploadBytesPerSecond }),
      machines,
      health: healthOf({
        level: cache.level,
        freeShare: cache.freeShare,
        streams,
        refusedPoints: this.#parts?.points.refusals ?? [],
        uploadBytesPerSecond,
        load,
        silentMachines: machines.map(({ hostName, silentMs }) => ({ name: hostName, silentMs })),
      }),
    };
  }

  async #run(): Promise<void> {
    const { spoolFolder, cacheBytes, metricsPort } = this.#config;
    await mkdir(spoolFolder, { recursive: true, mode: 0o700 });
    await using _ = await lockSpool(spoolFolder);
    const cache = await CacheMeter.open(spoolFolder, cacheBytes ?? CACHE_BYTES_DEFAULT);
    const parts = this.#construct(cache);
    await using metrics = await startMetricsServer(metricsPort, this.#metrics.registry, () =>
      this.#updateMetrics(),
    );
    const https = await this.#listen(parts.api);
    this.#parts = { ...parts, cache, https };
    this.#listening.resolve({ port: https.port, metricsPort: metrics.port });
    this.#ports.log.info("process server is listening", { port: https.port });
    const resuming = parts.api.resumeAll();
    await this.#watch(cache, parts);
    parts.api.stop();
    await resuming;
    await parts.comparisons.stop();
    await parts.streams.stop();
    await https.close();
    await parts.points.stop();
  }

  #construct(cache: CacheMeter): Omit<Parts, "https" | "cache"> {
    const { authority, ...ports } = this.#ports;
    const { vaultId, spoolFolder } = this.#config;
    const context: RoleContext = {
      ...ports,
      vaultId,
      spoolFolder,
      cache,
      uploads: new Semaphore(UPLOADS_MAX),
      segmentTarget: this.#segmentTarget,
      metrics: this.#metrics,
      segmentRunsMax: () => {
        const share = Math.floor(RUNS_MAX / Math.max(1, streams.count));
        return Math.min(RUNS_PER_SEGMENT_MAX, Math.max(RUNS_PER_SEGMENT_MIN, share));
      },
    };
    const points = new RecoveryPoints(context);
    const streams = new DiskStreams(context, points);
    const openings = new Semaphore(OPENINGS_MAX);
    const bodies = this.#bodies;
    const comparisons = new DiskComparisons(context);
    const stored = new StoredSessions(spoolFolder);
    const api = new AgentApi({
      context,
      authority,
      streams,
      points,
      openings,
      stored,
      bodies,
      comparisons,
      placeHealth: () => {
        const { uploadBytesPerSecond, streams, cache, load } = this.#facts();
        return placeHealth({ ...cache, streams, uploadBytesPerSecond, load });
      },
    });
    return { api, streams, points, comparisons };
  }

  #listen(api: AgentApi): Promise<HttpsServer> {
    const { host, port, tls } = this.#config;
    const { log, scheduler } = this.#ports;
    return startHttpsServer({
      host,
      port,
      tls,
      log,
      scheduler,
      handler: (request, response, signal) => api.handle(request, response, signal),
    });
  }

  /** Looks at the file system, the machine and the sessions now and then, until the role is stopped. */
  async #watch(cache: CacheMeter, { api, streams }: Pick<Parts, "api" | "streams">): Promise<void> {
    const { scheduler, log } = this.#ports;
    const { signal } = this.#stopAsked;
    while (!signal.aborted) {
      await scheduler.sleep(CACHE_REFRESH_MS, signal).catch(() => undefined);
      const load = this.#ports.load?.();
      if (load !== undefined) this.#load.sample(load, this.#ports.clock.monotonicMs());
      await cache
        .refresh()
        .catch((error: unknown) =>
          log.warn("the file system of the cache does not answer", { error: messageOf(error) }),
        );
      if (cache.level === "throttled") for (const stream of streams.all()) stream.closeSegment();
      await api.forgetMoved();
    }
  }

  #facts(): {
    readonly streams: readonly DiskStream[];
    readonly cache: ProcessServerStatus["cache"];
    readonly uploadBytesPerSecond: number | undefined;
    readonly machines: readonly MachineStatus[];
    readonly load: LoadShares | undefined;
  } {
    const parts = this.#parts;
    const { bytesPerSecond } = this.#segmentTarget;
    if (parts === undefined)
      return {
        streams: [],
        cache: { usedBytes: 0, freeShare: 1, level: "normal" },
        uploadBytesPerSecond: undefined,
        machines: [],
        load: undefined,
      };
    const { usedBytes, freeShare, level } = parts.cache;
    return {
      streams: [...parts.streams.all()],
      cache: { usedBytes, freeShare, level },
      uploadBytesPerSecond: bytesPerSecond,
      load: this.#load.mean,
      machines: [...parts.api.sessions.grants()].map(({ session, grant }) => {
        const newestPoint = parts.points.newestPoint(grant.groupId);
        const now = this.#ports.clock.monotonicMs();
        const report = parts.api.reportOf(session.machineId);
        return {
          machineId: session.machineId,
          hostName: grant.machine.hostName,
          epoch: session.epoch,
          silentMs: now - (parts.api.lastSeenMs(session.machineId) ?? now),
          ...(newestPoint === undefined ? {} : { newestPoint }),
          disks: [...grant.disks.values()].map(({ stream }) => stream.status),
          health: report?.health ?? [],
          agentBytes: report?.disks ?? [],
          pointsMissed: report?.pointsMissed ?? 0,
        };
      }),
    };
  }

  #updateMetrics(): void {
    const { health, ...status } = this.status();
    this.#metrics.update({ ...status, health, unixMs: this.#ports.clock.unixMs() });
  }
}

type Parts = {
  readonly api: AgentApi;
  readonly streams: DiskStreams;
  readonly points: RecoveryPoints;
  readonly comparisons: DiskComparisons;
  readonly cache: CacheMeter;
  readonly https: HttpsServer;
};
