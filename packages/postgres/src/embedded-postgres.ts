import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

import { Client } from "pg";

import { OsrError, messageOf } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import type { Scheduler } from "@osr/base/scheduler";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { makeDataFolder } from "./data-folder.ts";
import { isRunning, postmasterOf, stopPostmaster } from "./postmaster.ts";
import { POSTGRES_ERRORS } from "./postgres-errors.ts";
import {
  type ServerFolder,
  dataMajorVersion,
  databasePassword,
  openServerFolder,
} from "./server-folder.ts";
import { type ServerOrigin, type ServerPrograms, findServerPrograms } from "./server-programs.ts";
import { DATABASE_NAME, DATABASE_USER, serverSettings } from "./server-settings.ts";
import { type ServerUser, serverUser } from "./server-user.ts";

const START_MS_MAX = 2 * MINUTE_MS;
const READY_POLL_MS = 25;
/** A killed postmaster's children hold its memory for up to 2 s; a new one refuses to start until they are gone. */
const RESTART_DELAY_MS = 250;
const WATCH_MS = 250;
const STOP_MS_MAX = 30 * SECOND_MS;
const RESTARTS_MAX = 20;
/** A server that ran this long has started well; failures before it are counted together. */
const STEADY_MS = MINUTE_MS;

export type EmbeddedPostgresOptions = {
  /** Ours; made where it is missing. One server at a time uses it. */
  readonly folder: string;
  readonly scheduler: Scheduler;
  readonly randomness: Randomness;
  readonly log: Log;
  /** Where servers are looked for, in this order; absent: the distribution's, then npm's. */
  readonly origins?: readonly ServerOrigin[];
};

/** A running PostgreSQL that only this machine's administrator and we can reach, through a unix socket. */
export interface EmbeddedPostgres extends AsyncDisposable {
  /** For pg and everything that understands its addresses. Holds the password: a secret. */
  readonly url: string;
  readonly majorVersion: number;
  readonly origin: ServerOrigin;
  /** In the folder, or below /var/lib/open-site-recovery where the server's user may not enter it. */
  readonly dataFolder: string;
  /** Process id of the postmaster at the moment. */
  readonly pid: number;
  /** True where a server that an earlier process of ours had left was taken over. */
  readonly isAdopted: boolean;
  /** Leaves it to whoever else uses it: it runs on, and is not watched from here any more. */
  release(): Promise<void>;
  /** Ends it in order: connections are cut, data is checkpointed. */
  stop(): Promise<void>;
}

/**
 * Starts the server of `folder`, or takes over the one that is running there already, waits until it answers, and starts it again when it dies.
 * Throws POSTGRES_NOT_FOUND, POSTGRES_VERSION, POSTGRES_DIRECTORY, POSTGRES_START.
 */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions,
): Promise<EmbeddedPostgres> {
  const user = serverUser();
  const folder = openServerFolder(options.folder, user);
  const programs = findServerPrograms({
    dataMajorVersion: dataMajorVersion(folder),
    copyTo: join(folder.root, "programs"),
    user,
    origins: options.origins ?? ["distribution", "npm"],
  });
  const password = databasePassword(folder.passwordFile, options.randomness);
  const supervisor = new Supervisor({ ...options, folder, programs, user, password });
  await supervisor.start();
  return supervisor;
}

/**
 * Deletes the server of `folder` for good, with all data, wherever that lies; a server that runs there is stopped first.
 */
export async function deleteEmbeddedPostgres(
  options: Pick<EmbeddedPostgresOptions, "folder" | "scheduler">,
): Promise<void> {
  if (!existsSync(options.folder)) return;
  const folder = openServerFolder(options.folder, serverUser());
  const pid = postmasterOf(folder);
  if (pid !== undefined) await stopPostmaster(pid, STOP_MS_MAX, options.scheduler);
  for (const path of [folder.sockets, folder.root, options.folder])
    rmSync(path, { recursive: true, force: true });
}

type SupervisorOptions = Omit<EmbeddedPostgresOptions, "folder"> & {
  readonly folder: ServerFolder;
  readonly programs: ServerPrograms;
  readonly user: ServerUser | undefined;
  readonly password: string;
};

class Supervisor implements EmbeddedPostgres {
  readonly url: string;
  readonly majorVersion: number;
  readonly origin: ServerOrigin;
  readonly dataFolder: string;
  isAdopted = false;
  readonly #options: SupervisorOptions;
  readonly #stopping = new AbortController();
  #pid = 0;
  #watching: Promise<void> = Promise.resolve();

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.majorVersion = options.programs.majorVersion;
    this.origin = options.programs.origin;
    this.dataFolder = options.folder.data;
    const host = encodeURIComponent(options.folder.sockets);
    this.url = `postgresql://${DATABASE_USER}:${options.password}@/${DATABASE_NAME}?host=${host}`;
  }

  get pid(): number {
    return this.#pid;
  }

  async start(): Promise<void> {
    const { folder, log } = this.#options;
    await makeDataFolder(this.#options);
    const orphan = postmasterOf(folder);
    this.isAdopted = orphan !== undefined && (await this.#adopt(orphan));
    if (!this.isAdopted) await this.#launch();
    const { majorVersion, origin } = this;
    log.info("PostgreSQL runs", { pid: this.#pid, majorVersion, origin, adopted: this.isAdopted });
    this.#watching = this.#watch();
  }

  async release(): Promise<void> {
    this.#stopping.abort();
    await this.#watching;
  }

  async stop(): Promise<void> {
    await this.release();
    if (this.#pid !== 0) await stopPostmaster(this.#pid, STOP_MS_MAX, this.#options.scheduler);
    this.#pid = 0;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** A server of an earlier process that answers goes on; one that does not is stopped. */
  async #adopt(pid: number): Promise<boolean> {
    this.#pid = pid;
    try {
      await this.#ready(STOP_MS_MAX);
      return true;
    } catch (error) {
      this.#options.log.warn("a PostgreSQL left behind does not answer and is stopped", {
        pid,
        reason: messageOf(error),
      });
      await stopPostmaster(pid, STOP_MS_MAX, this.#options.scheduler);
      return false;
    }
  }

  /** Starts the postmaster, again and again while a killed one's children are still there. */
  async #launch(): Promise<void> {
    const { scheduler, folder } = this.#options;
    for (let waitedMs = 0; ; waitedMs += RESTART_DELAY_MS) {
      const child = this.#spawn();
      this.#pid = child.pid ?? 0;
      try {
        await this.#ready(START_MS_MAX);
        return;
      } catch (cause) {
        const lines = startLines(folder);
        const isEarly = /lock file|shared memory block/.test(lines) && waitedMs < STOP_MS_MAX;
        if (isRunning(this.#pid)) await stopPostmaster(this.#pid, STOP_MS_MAX, scheduler);
        if (!isEarly)
          throw new OsrError(POSTGRES_ERRORS.POSTGRES_START, `PostgreSQL ended: ${lines}`, {
            cause,
          });
      }
      await scheduler.sleep(RESTART_DELAY_MS);
    }
  }

  #spawn(): ChildProcess {
    const { folder, programs, user } = this.#options;
    const startLog = openSync(folder.startLog, "w", 0o600);
    // A group of its own: an interrupt from the terminal is for the vault, which stops the server when it needs it no more.
    const child = spawn(join(programs.bin, "postgres"), serverSettings(folder), {
      ...user,
      cwd: folder.root,
      env: { LC_ALL: "C.UTF-8", TZ: "UTC" },
      stdio: ["ignore", startLog, startLog],
      detached: true,
    });
    closeSync(startLog);
    child.on("error", (error) => this.#options.log.error("PostgreSQL did not start", { error }));
    child.unref();
    return child;
  }

  /** Resolves when the server answers; rejects when its process is gone or the time is over. */
  async #ready(msMax: number): Promise<void> {
    const { scheduler } = this.#options;
    for (let waitedMs = 0; ; waitedMs += READY_POLL_MS) {
      if (!isRunning(this.#pid)) throw new Error("the process has ended");
      try {
        await ping(this.url);
        return;
      } catch (error) {
        if (waitedMs >= msMax) throw error;
      }
      await scheduler.sleep(READY_POLL_MS);
    }
  }

  async #watch(): Promise<void> {
    const { scheduler, log } = this.#options;
    let failures = 0;
    let steadyMs = 0;
    while (await slept(scheduler, WATCH_MS, this.#stopping.signal)) {
      steadyMs += WATCH_MS;
      if (steadyMs >= STEADY_MS) failures = 0;
      if (isRunning(this.#pid)) continue;
      log.error("PostgreSQL has died and is started again", { pid: this.#pid });
      try {
        await this.#launch();
        log.info("PostgreSQL runs again", { pid: this.#pid });
      } catch (error) {
        failures += 1;
        log.error("PostgreSQL does not start", { error, failures });
        if (failures >= RESTARTS_MAX) return;
      }
      steadyMs = 0;
    }
  }
}

async function slept(scheduler: Scheduler, ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await scheduler.sleep(ms, signal);
    return true;
  } catch {
    return false;
  }
}

async function ping(url: string): Promise<void> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5 * SECOND_MS });
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.query("select 1");
  } finally {
    await client.end();
  }
}

function startLines(folder: ServerFolder): string {
  return readFileSync(folder.startLog, "utf8").trim().split("\n").slice(-5).join(" | ");
}
