import { type ChildProcess } from "node:child_process";
import { chmod, mkdir } from "node:fs/promises";
import { globSync } from "node:fs";
import { join } from "node:path";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { HOUR_MS, MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { BENCH_ERRORS } from "../bench-errors.ts";
import {
  type CommandOptions,
  endChild,
  hasEnded,
  runCommand,
  spawnTied,
} from "../machine/command.ts";
import type { Scale } from "../scale.ts";

const STOP_MS_MAX = 30 * SECOND_MS;
const LOAD_SECONDS_MAX = String(HOUR_MS / SECOND_MS);
const DATABASE_USER = "postgres";

/** Something that writes to a mounted file system until it is disposed. */
export type Load = AsyncDisposable & { assertRuns(): void };

export type LoadKind = {
  readonly name: string;
  /** What it does, in a few words. */
  readonly description: string;
  start(options: LoadOptions): Promise<Load>;
};

type LoadOptions = {
  /** Where the file system is mounted; it is empty. */
  readonly folder: string;
  readonly scale: Scale;
  readonly signal: AbortSignal;
};

/** Steady random writes with frequent syncs, as of many small files. */
export const fioLoad: LoadKind = {
  name: "fio",
  description: "1,000 random writes of 4 KiB a second, every eighth synced",
  async start({ folder, scale }) {
    const megabytes = scale.isSmall ? 64 : 256;
    const child = spawnTied(
      "fio",
      [
        ["--name=write", `--directory=${folder}`, `--size=${megabytes}m`, "--rw=randwrite"],
        ["--bs=4k", "--ioengine=psync", "--numjobs=2", "--rate_iops=500", "--fdatasync=8"],
        ["--time_based", `--runtime=${LOAD_SECONDS_MAX}`, "--norandommap", "--randseed=1"],
      ].flat(),
      { stdio: "ignore" },
    );
    return loadOf("fio", child, async () => undefined);
  },
};

/** A database under its own benchmark: TPC-B with four clients that do not wait. */
export const pgbenchLoad: LoadKind = {
  name: "pgbench",
  description: "PostgreSQL under pgbench, four clients without pauses",
  async start({ folder, scale, signal }) {
    const data = join(folder, "data");
    const sockets = join(folder, "sockets");
    const common: CommandOptions = { timeoutMs: 5 * MINUTE_MS, signal, directory: "/" };
    for (const path of [data, sockets]) {
      await mkdir(path);
      await chmod(path, 0o700);
      await runCommand("chown", [DATABASE_USER, path], common);
    }
    const asUser = (words: readonly string[]): Promise<string> =>
      runCommand("setpriv", [...USER, ...words], common);
    await asUser([program("initdb"), "--pgdata", data, "--auth=trust", "--no-instructions"]);
    const server = spawnTied(
      "setpriv",
      // Of setpriv the second: the signal of the first is lost with the change of the user.
      [
        [...USER, "--pdeathsig", "KILL", program("postgres"), "-D", data, "-k", sockets],
        ["-c", "listen_addresses=", "-c", "shared_buffers=64MB", "-c", "max_wal_size=128MB"],
      ].flat(),
      { stdio: "ignore", cwd: "/" },
    );
    const stopServer = (): Promise<void> => stop(server);
    try {
      await ready(sockets, common);
      const clientArguments = ["-h", sockets, "-U", DATABASE_USER, "postgres"];
      const rows = scale.isSmall ? "2" : "10";
      await asUser([program("pgbench"), "--initialize", "--quiet", "-s", rows, ...clientArguments]);
      const client = spawnTied(
        "setpriv",
        [...USER, program("pgbench"), "-c", "4", "-T", LOAD_SECONDS_MAX, ...clientArguments],
        { stdio: "ignore", cwd: "/" },
      );
      return loadOf("pgbench", client, stopServer);
    } catch (error) {
      await stopServer();
      throw error;
    }
  },
};

const USER = ["--reuid", DATABASE_USER, "--regid", DATABASE_USER, "--init-groups"] as const;

function loadOf(name: string, child: ChildProcess, after: () => Promise<void>): Load {
  return {
    assertRuns() {
      if (hasEnded(child))
        throw new OsrError(BENCH_ERRORS.BENCH_WRONG, `${name} has ended before its time`);
    },
    async [Symbol.asyncDispose]() {
      await endChild(child, STOP_MS_MAX);
      await after();
    },
  };
}

async function ready(sockets: string, options: CommandOptions): Promise<void> {
  const words = ["-h", sockets, "-U", DATABASE_USER, "-q"];
  for (let attempt = 1; ; attempt++) {
    try {
      await runCommand(program("pg_isready"), words, options);
      return;
    } catch (error) {
      if (attempt === 100) throw error;
      await runCommand("sleep", ["0.1"], options);
    }
  }
}

/** SIGINT is the fast shutdown of PostgreSQL; SIGTERM would wait for clients. */
async function stop(server: ChildProcess): Promise<void> {
  server.kill("SIGINT");
  for (let waited = 0; waited < 100 && !hasEnded(server); waited++)
    await runCommand("sleep", ["0.1"], {
      timeoutMs: SECOND_MS * 10,
      signal: AbortSignal.timeout(MINUTE_MS),
    });
  await endChild(server, STOP_MS_MAX);
}

/** A program of the newest PostgreSQL that is installed. */
function program(name: string): string {
  const found = globSync(`/usr/lib/postgresql/*/bin/${name}`).toSorted();
  return must(found.at(-1), `PostgreSQL's ${name} is installed`);
}
