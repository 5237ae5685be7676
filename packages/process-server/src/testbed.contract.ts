import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { type Identity, createAuthority, issueCertificate } from "@osr/certificates/site-authority";
import type { Clock } from "@osr/base/clock";
import type { Log } from "@osr/base/log";
import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import type { Scheduler } from "@osr/base/scheduler";
import { type Uuid, uuidOfName } from "@osr/base/uuid";
import { certificateUri } from "@osr/contracts/certificate-name";
import { openDirectoryStore } from "@osr/repository/directory-store";
import { groupKeyOf } from "@osr/repository/key-schedule";
import type { ObjectStore } from "@osr/repository/object-store";
import { ensureDataKey } from "@osr/repository/wrapped-key";
import { diskIdOf } from "@osr/repository/disk-id";

import type { DiskAuthority } from "./disk-authority.ts";
import { type Encoder, inProcessEncoder } from "./encoder.ts";
import { ProcessServer } from "./process-server.ts";

/** A site for tests: certificates, a vault key, a storage account and a spool in a temporary folder. */
export type Testbed = AsyncDisposable & {
  readonly folder: string;
  readonly spoolFolder: string;
  readonly storeFolder: string;
  readonly vaultId: Uuid;
  readonly vaultKey: Buffer;
  readonly authority: Identity;
  readonly serverIdentity: Identity;
  identityOf(machineId: Uuid): Promise<Identity>;
};

export const VAULT_ID = uuidOfName("test", "vault");
export const VAULT_KEY = Buffer.alloc(32, 0x5a);

export async function openTestbed(): Promise<Testbed> {
  const folder = await mkdtemp(join(tmpdir(), "osr-process-server-"));
  const authority = await createAuthority({ commonName: "test", clock: systemClock, days: 1 });
  const issued = { days: 1, clock: systemClock };
  const serverIdentity = await issueCertificate(authority, {
    ...issued,
    commonName: "process server",
    ipAddresses: ["127.0.0.1"],
    usage: "server",
  });
  const spoolFolder = join(folder, "spool");
  await mkdir(spoolFolder);
  return {
    folder,
    spoolFolder,
    storeFolder: join(folder, "store"),
    vaultId: VAULT_ID,
    vaultKey: VAULT_KEY,
    authority,
    serverIdentity,
    identityOf: (machineId) =>
      issueCertificate(authority, {
        ...issued,
        commonName: "agent",
        uri: certificateUri({ role: "mobility-service", id: machineId }),
        usage: "client",
      }),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

export function openStore(folder: string): Promise<ObjectStore> {
  // The file system of a build machine may be rather full.
  return openDirectoryStore(folder, {
    access: "write",
    randomness: systemRandomness,
    freeBytesMin: 0,
  });
}

/** Admits every machine, with ids made from its own and the identities of its disks. */
export function openAuthority(store: ObjectStore): DiskAuthority {
  return {
    admit: async (machineId, request) => ({
      groupId: machineId,
      groupKey: groupKeyOf(VAULT_KEY, machineId),
      disks: await Promise.all(
        request.disks.map(async ({ identity }) => {
          const diskId = diskIdOf(machineId, identity);
          const key = { vaultId: VAULT_ID, vaultKey: VAULT_KEY, diskId };
          const dataKey = await ensureDataKey(store, { ...key, randomness: systemRandomness });
          return { identity, diskId, timeline: 1, dataKey };
        }),
      ),
    }),
  };
}

export type RunningServer = AsyncDisposable & {
  readonly server: ProcessServer;
  readonly port: number;
  readonly metricsPort: number;
};

export type ServerOptions = {
  readonly store: ObjectStore;
  readonly encoder?: Encoder;
  readonly spoolFolder?: string;
  readonly cacheBytes?: number;
  readonly log?: Log;
  readonly authority?: DiskAuthority;
  readonly scheduler?: Scheduler;
  readonly clock?: Clock;
};

/** Runs as fast as the hasty scheduler; the time of day is the true one. */
export const hastyClock: Clock = {
  unixMs: () => systemClock.unixMs(),
  monotonicMs: () => systemClock.monotonicMs() * 300,
};

/** Waits a three-hundredth of what it is asked for. */
export const hastyScheduler: Scheduler = {
  sleep: (ms, signal) => systemScheduler.sleep(ms / 300, signal),
  after: (ms, task) => systemScheduler.after(ms / 300, task),
};

/** Runs a process server of the testbed until it is disposed of. */
export async function runServer(testbed: Testbed, options: ServerOptions): Promise<RunningServer> {
  const { store } = options;
  const server = new ProcessServer(
    {
      vaultId: testbed.vaultId,
      spoolFolder: options.spoolFolder ?? testbed.spoolFolder,
      cacheBytes: options.cacheBytes ?? 2 ** 30,
      host: "127.0.0.1",
      port: 0,
      metricsPort: 0,
      tls: {
        ...testbed.serverIdentity,
        clientAuthorityPem: testbed.authority.certificatePem,
      },
    },
    {
      clock: options.clock ?? systemClock,
      scheduler: options.scheduler ?? systemScheduler,
      randomness: systemRandomness,
      log: options.log ?? silentLog,
      store,
      encoder: options.encoder ?? inProcessEncoder,
      authority: options.authority ?? openAuthority(store),
    },
  );
  const running = server.run();
  running.catch(() => undefined);
  const ports = await server.listening;
  return {
    server,
    ...ports,
    [Symbol.asyncDispose]: async () => {
      await server.stop();
      await running;
    },
  };
}

/** Asks `probe` until it gives something, for at most 20 s. */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  for (let attempt = 0; attempt < 1000; attempt++) {
    const result = await probe();
    if (result !== undefined && result !== false) return result;
    await sleep(20);
  }
  throw new Error(`still not so: ${what}`);
}
