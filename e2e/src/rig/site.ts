import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, open, readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";
import { withinNamespace } from "@osr/compute-qemu/network-namespace";
import { replicaFolder } from "@osr/service-osr/replicas/replica-folder";

import { exitOf, runCommand, spawnTied } from "./commands.ts";
import { processesOf } from "./leaks.ts";
import { HOST_ADDRESS } from "./machine.ts";
import type { FarPlace } from "./network-link.ts";
import { RIG_ERRORS } from "./rig-errors.ts";
import { PROJECT_DIRECTORY } from "./settings.ts";

export const OSR = join(PROJECT_DIRECTORY, "services", "osr", "src", "main.ts");
const READY_TIMEOUT_MS = 2 * MINUTE_MS;
const STOP_TIMEOUT_MS = 30 * SECOND_MS;
const POLL_MS = 50;

export type SiteRole =
  | "storage-account"
  | "process-server"
  | "replica-host"
  | "vault"
  | "configuration-server";

export type SiteOptions = {
  /** With vault and configuration server; machines are then enrolled by tokens. */
  readonly withVault?: boolean;
  /** Where it stands, and its commands run; on the loopback of this process's network by default. */
  readonly place?: FarPlace;
  /** Added to that of `osr up` and its roles. */
  readonly environment?: Readonly<Record<string, string>>;
};

export type Enrolment = {
  readonly machineId: string;
  /** Folder with the files for /etc/osr on the machine. */
  readonly folder: string;
};

/** A whole site on loopback: the real `osr up` with its roles as child processes; disposing it ends them all. */
export class Site implements AsyncDisposable {
  readonly directory: string;
  readonly processServerPort: number;
  readonly storageAccountPort: number;
  readonly vaultPort: number;
  readonly configurationServerPort: number;
  readonly #place: FarPlace | undefined;
  readonly #child: ChildProcess;

  private constructor(
    directory: string,
    ports: SitePorts,
    place: FarPlace | undefined,
    child: ChildProcess,
  ) {
    this.directory = directory;
    this.#place = place;
    this.processServerPort = ports.processServer;
    this.storageAccountPort = ports.storageAccount;
    this.vaultPort = ports.vault;
    this.configurationServerPort = ports.configurationServer;
    this.#child = child;
  }

  /** Makes a site in `directory`, an existing folder, and starts it; resolves when its roles serve. */
  static async start(
    directory: string,
    signal?: AbortSignal,
    { withVault = false, place, environment = {} }: SiteOptions = {},
  ): Promise<Site> {
    const ports: SitePorts = {
      processServer: await freePort(),
      storageAccount: await freePort(),
      vault: await freePort(),
      configurationServer: await freePort(),
    };
    await using log = await open(join(directory, "up.log"), "a");
    const child = spawnTied(
      ...osrCommand(place, [
        ["up", "--directory", directory, "--host", place?.address ?? "127.0.0.1"],
        ["--process-server-port", String(ports.processServer)],
        ["--storage-account-port", String(ports.storageAccount)],
        ["--vault-port", String(ports.vault)],
        ["--configuration-server-port", String(ports.configurationServer)],
        withVault ? [] : ["--no-vault"],
        // Machines of the rig see the host's loopback under this address.
        ["--process-server-name", HOST_ADDRESS],
      ]),
      {
        stdio: ["ignore", log.fd, log.fd],
        detached: true,
        env: { ...process.env, ...environment },
      },
      "TERM",
    );
    child.on("error", () => undefined);
    const site = new Site(directory, ports, place, child);
    try {
      await site.#ready(signal);
      return site;
    } catch (error) {
      await site[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Runs an `osr` command for administrators of a role, which is given the role's configuration. */
  async administer(role: SiteRole, words: readonly string[]): Promise<void> {
    const command = osrCommand(this.#place, [words, ["--config", this.configurationOf(role)]]);
    await runCommand(...command, { timeoutMs: 2 * MINUTE_MS });
  }

  /** Runs an `osr` command about this site and gives what it prints as JSON. */
  async osr(words: readonly string[], signal?: AbortSignal): Promise<unknown> {
    const command = osrCommand(this.#place, [["-o", "json"], words, ["--site", this.directory]]);
    const text = await runCommand(...command, { timeoutMs: 10 * MINUTE_MS, signal });
    return text.trim() === "" ? undefined : (JSON.parse(text) as unknown);
  }

  /** Runs an `osr` command that talks to the site's vault and gives what it prints as JSON. */
  async manage(words: readonly string[], signal?: AbortSignal): Promise<unknown> {
    const text = await runCommand(...osrCommand(this.#place, [["-o", "json"], words]), {
      timeoutMs: 20 * MINUTE_MS,
      environment: { OSR_CONTEXTS: join(this.directory, "contexts.json") },
      signal,
    });
    return text.trim() === "" ? undefined : (JSON.parse(text) as unknown);
  }

  /** A one-time token file with which the mobility service of a machine joins the site's configuration server. */
  async enrolmentToken(name: string): Promise<string> {
    const out = join(this.directory, `${name}.token`);
    const address = `${HOST_ADDRESS}:${this.configurationServerPort}`;
    const words = ["configuration-server", "token", "create", "--out", out, "--address", address];
    await this.administer("configuration-server", words);
    return out;
  }

  /** Enrols a machine of the rig, which reaches process servers at the host's address: the site's, or those of `ports`. */
  async enrol(
    name: string,
    pointIntervalSeconds: number,
    ports: readonly number[] = [this.processServerPort],
  ): Promise<Enrolment> {
    const folder = join(this.directory, "machines", name);
    await mkdir(dirname(folder), { recursive: true });
    const enrolled = await this.osr(
      [
        ["mobility-service", "enrol", name, "--out", folder],
        ["--process-server", ...ports.map((port) => `${HOST_ADDRESS}:${port}`)],
        ["--point-interval", String(pointIntervalSeconds)],
      ].flat(),
    );
    return { machineId: (enrolled as { machineId: string }).machineId, folder };
  }

  /** The process of a role at the moment, for scenarios that kill it; `osr up` starts a new one. */
  async rolePid(role: SiteRole): Promise<number | undefined> {
    const processes = await processesOf(join(this.directory, role));
    return processes.find(({ name }) => name.includes(` ${role} run `))?.pid;
  }

  /** Where its failed-over machines live. */
  get replicaFolder(): string {
    return replicaFolder(this.directory);
  }

  configurationOf(role: SiteRole): string {
    return join(this.directory, role, "config.json");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGTERM");
    const ended = await Promise.race([
      exitOf(this.#child).then(() => true),
      wait(STOP_TIMEOUT_MS, false, { ref: false }),
    ]);
    if (!ended) {
      this.#child.kill("SIGKILL");
      await exitOf(this.#child);
    }
    // Roles of an `osr up` that had to be killed.
    for (const { pid, name } of await processesOf(this.directory))
      if (name.includes(OSR)) process.kill(pid, "SIGKILL");
  }

  async #ready(signal?: AbortSignal): Promise<void> {
    const end = performance.now() + READY_TIMEOUT_MS;
    for (;;) {
      signal?.throwIfAborted();
      const said = await readFile(join(this.directory, "up.log"), "utf8");
      if (/^ready\b/m.test(said)) return;
      const ended = this.#child.exitCode !== null || this.#child.signalCode !== null;
      if (ended || performance.now() > end)
        throw new OsrError(
          ended ? RIG_ERRORS.RIG_COMMAND_FAILED : RIG_ERRORS.RIG_TIMEOUT,
          `osr up is not ready:\n${said.slice(-4000)}`,
        );
      await wait(POLL_MS);
    }
  }
}

type SitePorts = {
  readonly processServer: number;
  readonly storageAccount: number;
  readonly vault: number;
  readonly configurationServer: number;
};

/** Program and arguments of an `osr` command that runs where the site stands. */
function osrCommand(
  place: FarPlace | undefined,
  words: readonly (readonly string[])[],
): [string, readonly string[]] {
  const command = [process.execPath, OSR, ...words.flat()];
  const [file, ...args] = place === undefined ? command : withinNamespace(place.network, command);
  return [must(file, "a command has a program"), args];
}

/** A TCP port of loopback that nobody uses at the moment. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== "object" || address === null)
    throw new OsrError(RIG_ERRORS.RIG_UNSUPPORTED, "loopback has no free port");
  return address.port;
}
