import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { mkdir, open, readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { BENCH_ERRORS } from "../bench-errors.ts";
import { endChild, hasEnded, runCommand, spawnTied } from "../machine/command.ts";
import { childrenOf } from "../machine/process-usage.ts";

const HOST = "127.0.0.1";
const READY_MS_MAX = MINUTE_MS;
const STOP_MS_MAX = 30 * SECOND_MS;
const COMMAND_MS_MAX = 15 * MINUTE_MS;
const POLL_MS = 50;

export type Enrolment = { readonly machineId: string; readonly folder: string };

/** A whole site on loopback: `osr up` with each of its roles as a process of its own. Disposing it ends them. */
export class Site implements AsyncDisposable {
  readonly directory: string;
  readonly processServerPort: number;
  readonly storageAccountPort: number;
  readonly #osr: string;
  readonly #child: ChildProcess;
  readonly #signal: AbortSignal;

  private constructor(parts: {
    readonly directory: string;
    readonly processServerPort: number;
    readonly storageAccountPort: number;
    readonly osr: string;
    readonly child: ChildProcess;
    readonly signal: AbortSignal;
  }) {
    this.directory = parts.directory;
    this.processServerPort = parts.processServerPort;
    this.storageAccountPort = parts.storageAccountPort;
    this.#osr = parts.osr;
    this.#child = parts.child;
    this.#signal = parts.signal;
  }

  /** Makes a site in `directory` and starts it; resolves when its roles serve. `osr`: the file of the command. */
  static async start(
    directory: string,
    osr: string,
    options: { readonly signal: AbortSignal; readonly controlPlane: boolean },
  ): Promise<Site> {
    await mkdir(directory, { recursive: true });
    const { signal } = options;
    const processServerPort = await freePort();
    const storageAccountPort = await freePort();
    const controlPlane = options.controlPlane
      ? [
          ["--vault-port", String(await freePort())],
          ["--configuration-server-port", String(await freePort())],
        ].flat()
      : ["--no-vault"];
    await using log = await open(join(directory, "up.log"), "a");
    const child = spawnTied(
      process.execPath,
      [
        [osr, "up", ...controlPlane, "--directory", directory, "--host", HOST],
        ["--process-server-port", String(processServerPort)],
        ["--storage-account-port", String(storageAccountPort)],
      ].flat(),
      { stdio: ["ignore", log.fd, log.fd] },
    );
    const site = new Site({
      directory,
      processServerPort,
      storageAccountPort,
      osr,
      child,
      signal,
    });
    try {
      await site.#ready();
      return site;
    } catch (error) {
      await site[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Runs an `osr` command about this site and gives what it prints as JSON. */
  async osr(words: readonly string[]): Promise<unknown> {
    const text = await runCommand(process.execPath, this.command(words), {
      timeoutMs: COMMAND_MS_MAX,
      signal: this.#signal,
    });
    return text.trim() === "" ? undefined : (JSON.parse(text) as unknown);
  }

  /** Arguments of Node for an `osr` command about this site. */
  command(words: readonly string[]): readonly string[] {
    return [this.#osr, "-o", "json", ...words, "--site", this.directory];
  }

  async enrol(name: string, pointIntervalSeconds: number): Promise<Enrolment> {
    const folder = join(this.directory, `machine-${name}`);
    const enrolled = await this.osr(
      [
        ["mobility-service", "enrol", name, "--out", folder],
        ["--process-server", `${HOST}:${this.processServerPort}`],
        ["--point-interval", String(pointIntervalSeconds)],
      ].flat(),
    );
    return { machineId: (enrolled as { machineId: string }).machineId, folder };
  }

  /** Process of `osr up`; those of the roles are below it. */
  get pid(): number {
    return must(this.#child.pid, "osr up runs");
  }

  rolePid(role: "process-server" | "storage-account" | "vault"): number | undefined {
    return childrenOf(this.pid).find((pid) => commandLineOf(pid).includes(`\0${role}\0run\0`));
  }

  /** Sizes of all objects in the storage account, by their path. */
  objects(): ReadonlyMap<string, number> {
    const root = join(this.directory, "storage-account", "data", "objects");
    const objects = new Map<string, number>();
    if (!existsSync(root)) return objects;
    for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      if (entry.isFile()) objects.set(path, statSync(path).size);
    }
    return objects;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const roles = childrenOf(this.pid);
    await endChild(this.#child, STOP_MS_MAX);
    // Roles of an `osr up` that had to be killed.
    for (const pid of roles) if (commandLineOf(pid).includes(this.directory)) killed(pid);
  }

  async #ready(): Promise<void> {
    const end = performance.now() + READY_MS_MAX;
    for (;;) {
      this.#signal.throwIfAborted();
      const said = await readFile(join(this.directory, "up.log"), "utf8");
      if (/^ready\b/m.test(said)) return;
      if (hasEnded(this.#child) || performance.now() > end)
        throw new OsrError(
          BENCH_ERRORS.BENCH_COMMAND_FAILED,
          `osr up is not ready:\n${said.slice(-4000)}`,
        );
      await wait(POLL_MS);
    }
  }
}

function commandLineOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return "";
  }
}

function killed(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended meanwhile.
  }
}

/** A TCP port of loopback that nobody uses at the moment. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, HOST);
  await once(server, "listening");
  const address = server.address();
  await new Promise((done) => server.close(done));
  if (typeof address === "object" && address !== null) return address.port;
  throw new OsrError(BENCH_ERRORS.BENCH_UNSUPPORTED, "loopback has no free port");
}
