import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { must } from "@osr/base/assert";
import { OsrError, defineErrors } from "@osr/base/errors";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { SECOND_MS } from "@osr/base/units";

import type { LeftRoles } from "./left-roles.ts";

const ERRORS = defineErrors({
  ROLE_FAILED: {
    retryable: false,
    hint: "The log file of the role, named in the message, says why.",
  },
});

const READY_MS_MAX = 30 * SECOND_MS;
const STOP_MS_MAX = 20 * SECOND_MS;
const RESTART_DELAY_MS = SECOND_MS;

export type RoleProcessOptions = {
  /** Words after `osr`, such as `process-server run`. */
  readonly words: readonly string[];
  readonly configFile: string;
  readonly logFile: string;
  readonly left: LeftRoles;
  readonly say: (line: string) => void;
};

/** A role as a child process of `osr up`, started again when it dies. */
export class RoleProcess {
  readonly #options: RoleProcessOptions;
  #child: ChildProcess | undefined;
  #stopping = false;

  constructor(options: RoleProcessOptions) {
    this.#options = options;
  }

  /** Starts the role; resolves when it is ready. Throws ROLE_FAILED where it does not come up the first time. */
  async start(): Promise<void> {
    const child = this.#spawn();
    await this.#note(child);
    if (!(await isReady(child))) {
      await this.stop();
      const { words, logFile } = this.#options;
      throw new OsrError(ERRORS.ROLE_FAILED, `${words.join(" ")} did not start; see ${logFile}`);
    }
    void this.#supervise(child);
  }

  /** Ends the role and waits until it is gone. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const child = this.#child;
    if (child === undefined) return;
    if (!hasExited(child)) {
      const gone = once(child, "exit");
      child.kill("SIGTERM");
      using _ = systemScheduler.after(STOP_MS_MAX, () => child.kill("SIGKILL"));
      await gone;
    }
    this.#options.left.forget(this.#name);
  }

  get #name(): string {
    return must(this.#options.words[0], "a role has a name");
  }

  async #note({ pid }: ChildProcess): Promise<void> {
    if (pid !== undefined) await this.#options.left.note(this.#name, pid);
  }

  async #supervise(first: ChildProcess): Promise<void> {
    for (let child = first; ; child = this.#spawn()) {
      if (child !== first) await this.#note(child);
      if (!hasExited(child)) await once(child, "exit");
      // Ctrl-C reaches every process of the terminal, so a role may end shortly before it is told to.
      await systemScheduler.sleep(RESTART_DELAY_MS);
      if (this.#stopping) return;
      this.#options.say(`${this.#name} has ended; starting it again`);
    }
  }

  #spawn(): ChildProcess {
    const { words, configFile, logFile } = this.#options;
    const main = must(process.argv[1], "this process was started from a file");
    const child = spawn(process.execPath, [main, ...words, "--config", configFile], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.stderr.on("data", (bytes: Buffer) => appendFileSync(logFile, bytes, { mode: 0o600 }));
    this.#child = child;
    return child;
  }
}

function hasExited(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** Waits for the line by which a role says that it listens; false where it ends or takes too long. */
async function isReady(child: ChildProcess): Promise<boolean> {
  const stdout = must(child.stdout, "standard output is a pipe");
  using _ = systemScheduler.after(READY_MS_MAX, () => child.kill("SIGKILL"));
  for await (const line of createInterface(stdout))
    if (line.includes('"ready"')) {
      stdout.resume();
      return true;
    }
  return false;
}
