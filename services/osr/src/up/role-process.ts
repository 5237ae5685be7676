import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { must } from "@osr/base/assert";
import type { Clock } from "@osr/base/clock";
import { OsrError, defineErrors, messageOf } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import { KIB, SECOND_MS } from "@osr/base/units";

import type { LeftRoles } from "./left-roles.ts";
import { RestartDelay } from "./restart-delay.ts";

const ERRORS = defineErrors({
  ROLE_FAILED: {
    retryable: false,
    hint: "The log file of the role, named in the message, says why.",
  },
});

const READY_MS_MAX = 30 * SECOND_MS;
const STOP_MS_MAX = 20 * SECOND_MS;
/** Ctrl-C reaches every process of the terminal, so a role may end this long before it is told to. */
const CTRL_C_MS = 200;
/** Of what a role has said last; its error report is shorter. */
const LAST_WORDS_CHARS_MAX = 4 * KIB;
/** The first line of an error report, as every role writes one when it fails. */
const ERROR_LINE = /^[A-Z][A-Z0-9_]*: .*$/gm;

export type RoleProcessOptions = {
  /** The file of the `osr` command. */
  readonly main: string;
  /** Words after `osr`, such as `process-server run`. */
  readonly words: readonly string[];
  readonly configFile: string;
  readonly logFile: string;
  readonly left: Pick<LeftRoles, "note" | "forget">;
  readonly say: (line: string) => void;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
};

/** A role as a child process of `osr up`, started again when it dies: see RestartDelay. */
export class RoleProcess {
  readonly #options: RoleProcessOptions;
  readonly #stopping = new AbortController();
  readonly #delay = new RestartDelay();
  #child: ChildProcess | undefined;
  #lastWords = "";

  constructor(options: RoleProcessOptions) {
    this.#options = options;
  }

  /** Starts the role; resolves when it is ready. Throws ROLE_FAILED where it does not come up the first time. */
  async start(): Promise<void> {
    const startedMs = this.#options.clock.monotonicMs();
    const child = this.#spawn();
    await this.#note(child);
    if (!(await this.#isReady(child))) {
      await this.stop();
      const { words, logFile } = this.#options;
      throw new OsrError(ERRORS.ROLE_FAILED, `${words.join(" ")} did not start; see ${logFile}`);
    }
    void this.#supervise(child, startedMs);
  }

  /** Ends the role and waits until it is gone. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const child = this.#child;
    if (child === undefined) return;
    if (!hasExited(child)) {
      const gone = once(child, "exit");
      child.kill("SIGTERM");
      using _ = this.#options.scheduler.after(STOP_MS_MAX, () => child.kill("SIGKILL"));
      await gone;
    }
    this.#options.left.forget(this.#name);
  }

  get #name(): string {
    return must(this.#options.words[0], "a role has a name");
  }

  /** Without it the role works as well: only an `osr up` that is killed would leave it behind unknown. */
  async #note({ pid }: ChildProcess): Promise<void> {
    const { left, say } = this.#options;
    try {
      if (pid !== undefined) await left.note(this.#name, pid);
    } catch (error) {
      say(`the process of ${this.#name} could not be written down: ${messageOf(error)}`);
    }
  }

  async #supervise(first: ChildProcess, firstStartedMs: number): Promise<void> {
    const { clock, say, logFile } = this.#options;
    let startedMs = firstStartedMs;
    for (let child = first; ; child = this.#spawn()) {
      if (child !== first) {
        startedMs = clock.monotonicMs();
        await this.#note(child);
      }
      if (!hasExited(child)) await once(child, "exit");
      const livedMs = clock.monotonicMs() - startedMs;
      if (await this.#isStoppedWithin(CTRL_C_MS)) return;
      const delayMs = this.#delay.after({ livedMs, isKilled: child.signalCode !== null });
      say(
        `${this.#name} has ended after ${seconds(livedMs)} (${this.#causeOf(child)}); ` +
          `it is started again in ${seconds(delayMs)}; see ${logFile}`,
      );
      if (await this.#isStoppedWithin(delayMs)) return;
    }
  }

  /** Waits for `ms`, or until the role is to be stopped. */
  async #isStoppedWithin(ms: number): Promise<boolean> {
    const { signal } = this.#stopping;
    await this.#options.scheduler.sleep(ms, signal).catch(() => undefined);
    return signal.aborted;
  }

  #causeOf({ exitCode, signalCode }: ChildProcess): string {
    const ended = signalCode === null ? `exit code ${exitCode}` : `by ${signalCode}`;
    const error = this.#lastWords.match(ERROR_LINE)?.at(-1);
    return error === undefined ? ended : `${ended}: ${error}`;
  }

  #spawn(): ChildProcess {
    const { main, words, configFile, logFile } = this.#options;
    const child = spawn(process.execPath, [main, ...words, "--config", configFile], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#lastWords = "";
    child.stderr.on("data", (bytes: Buffer) => {
      this.#lastWords = (this.#lastWords + bytes.toString()).slice(-LAST_WORDS_CHARS_MAX);
      appendFileSync(logFile, bytes, { mode: 0o600 });
    });
    this.#child = child;
    return child;
  }

  /** Waits for the line by which a role says that it listens; false where it ends or takes too long. */
  async #isReady(child: ChildProcess): Promise<boolean> {
    const stdout = must(child.stdout, "standard output is a pipe");
    using _ = this.#options.scheduler.after(READY_MS_MAX, () => child.kill("SIGKILL"));
    for await (const line of createInterface(stdout))
      if (line.includes('"ready"')) {
        stdout.resume();
        return true;
      }
    return false;
  }
}

function hasExited(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

function seconds(ms: number): string {
  return `${Math.round(ms / SECOND_MS)} s`;
}
