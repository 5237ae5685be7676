import type { ChildProcess } from "node:child_process";
import { mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { GIB, MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { exitOf, runCommand, spawnTied } from "./commands.ts";
import { HOST_ADDRESS } from "./machine.ts";
import { OSR, type Site, freePort } from "./site.ts";

const CACHE_BYTES = 2 * GIB;
const STOP_MS_MAX = 10 * SECOND_MS;

/** One more process server of a site with a vault: enrolled with its configuration server, as an administrator would. */
export class AssignedProcessServer implements AsyncDisposable {
  readonly id: string;
  readonly #child: ChildProcess;

  private constructor(id: string, child: ChildProcess) {
    this.id = id;
    this.#child = child;
  }

  /** Starts it; its configuration server hears of it soon. */
  static async start(site: Site, name: string): Promise<AssignedProcessServer> {
    const folder = join(site.directory, name);
    await mkdir(folder, { recursive: true });
    const osr = (...words: readonly (readonly string[])[]): Promise<string> =>
      runCommand(process.execPath, [OSR, "-o", "json", ...words.flat()], { timeoutMs: MINUTE_MS });
    const token = join(folder, "enrolment.token");
    await osr(
      ["configuration-server", "token", "create", "--role", "process-server", "--out", token],
      ["--config", join(site.directory, "configuration-server", "config.json")],
      ["--address", `127.0.0.1:${site.configurationServerPort}`],
    );
    const identityFile = join(folder, "identity.json");
    const enrolled = JSON.parse(
      await osr(
        ["process-server", "enrol", "--token", token, "--out", identityFile],
        ["--address", "127.0.0.1", HOST_ADDRESS],
      ),
    ) as { readonly id: string };
    const port = await freePort();
    const config = join(folder, "config.json");
    const configuration = {
      identityFile,
      listen: { host: "127.0.0.1", port },
      address: { host: HOST_ADDRESS, port },
      spoolDirectory: join(folder, "spool"),
      cacheBytesMax: CACHE_BYTES,
      metricsPort: 0,
    };
    await writeFile(config, JSON.stringify(configuration), { mode: 0o600 });
    await using log = await open(join(folder, "log"), "a");
    const child = spawnTied(process.execPath, [OSR, "process-server", "run", "--config", config], {
      stdio: ["ignore", log.fd, log.fd],
    });
    child.on("error", () => undefined);
    return new AssignedProcessServer(enrolled.id, child);
  }

  /** Ends it at once. */
  kill(): void {
    this.#child.kill("SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGTERM");
    const ended = exitOf(this.#child).then(() => true);
    if (!(await Promise.race([ended, wait(STOP_MS_MAX, false, { ref: false })])))
      this.#child.kill("SIGKILL");
    await exitOf(this.#child);
  }
}
