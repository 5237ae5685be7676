import type { ChildProcess } from "node:child_process";
import { mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { exitOf, spawnTied } from "./commands.ts";
import { RIG_ERRORS } from "./rig-errors.ts";
import { OSR, type Site, freePort } from "./site.ts";

const POLL_MS = 50;
const READY_TIMEOUT_MS = MINUTE_MS;

type Configuration = { readonly listen: object };

export type OwnProcessServerOptions = { readonly cacheBytesMax: number };

/** One more process server of a site, with a spool of its own, that a scenario runs and kills by itself. */
export class OwnProcessServer implements AsyncDisposable {
  readonly port: number;
  readonly #metricsPort: number;
  readonly #folder: string;
  readonly #child: ChildProcess;

  private constructor(
    folder: string,
    ports: { readonly port: number; readonly metricsPort: number },
    child: ChildProcess,
  ) {
    this.#folder = folder;
    this.port = ports.port;
    this.#metricsPort = ports.metricsPort;
    this.#child = child;
  }

  static async start(
    site: Site,
    name: string,
    options: OwnProcessServerOptions,
  ): Promise<OwnProcessServer> {
    const folder = join(site.directory, name);
    await mkdir(folder, { recursive: true });
    const text = await readFile(join(site.directory, "process-server", "config.json"), "utf8");
    const given = JSON.parse(text) as Configuration;
    const ports = { port: await freePort(), metricsPort: await freePort() };
    const config = {
      ...given,
      // Also on the cable of the machine: the scenario has a network of its own.
      listen: { ...given.listen, host: "0.0.0.0", port: ports.port },
      metricsPort: ports.metricsPort,
      spoolDirectory: join(folder, "spool"),
      cacheBytesMax: options.cacheBytesMax,
    };
    const file = join(folder, "config.json");
    await writeFile(file, JSON.stringify(config), { mode: 0o600 });
    await using log = await open(join(folder, "log"), "a");
    const child = spawnTied(process.execPath, [OSR, "process-server", "run", "--config", file], {
      stdio: ["ignore", log.fd, log.fd],
    });
    child.on("error", () => undefined);
    const server = new OwnProcessServer(folder, ports, child);
    await server.#ready();
    return server;
  }

  /** The sum of a metric over its labels; `name` without the prefix of the role. */
  async metric(name: string): Promise<number> {
    const reply = await fetch(`http://127.0.0.1:${this.#metricsPort}/metrics`);
    const values = (await reply.text())
      .split("\n")
      .filter((line) => new RegExp(`^osr_process_server_${name}[ {]`).test(line))
      .map((line) => Number(line.slice(line.lastIndexOf(" ") + 1)));
    return values.reduce((sum, value) => sum + value, 0);
  }

  /** Ends it at once and for good, with all that its spool holds. */
  async destroy(): Promise<void> {
    this.#child.kill("SIGKILL");
    await exitOf(this.#child);
    await rm(join(this.#folder, "spool"), { recursive: true, force: true });
  }

  log(): Promise<string> {
    return readFile(join(this.#folder, "log"), "utf8");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGTERM");
    const ended = exitOf(this.#child).then(() => true);
    if (!(await Promise.race([ended, wait(10 * SECOND_MS, false, { ref: false })])))
      this.#child.kill("SIGKILL");
    await exitOf(this.#child);
  }

  async #ready(): Promise<void> {
    const end = performance.now() + READY_TIMEOUT_MS;
    for (;;) {
      const said = await this.log();
      if (said.includes('"ready":true')) return;
      const hasEnded = this.#child.exitCode !== null || this.#child.signalCode !== null;
      if (hasEnded || performance.now() > end)
        throw new OsrError(
          hasEnded ? RIG_ERRORS.RIG_COMMAND_FAILED : RIG_ERRORS.RIG_TIMEOUT,
          `the process server is not ready:\n${said.slice(-4000)}`,
        );
      await wait(POLL_MS);
    }
  }
}
