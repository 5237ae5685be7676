import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { SECOND_MS } from "@osr/base/units";
import type { MobilityStatus } from "@osr/mobility-service/mobility-status";

import { BENCH_ERRORS } from "../bench-errors.ts";
import { endChild, hasEnded, spawnTied } from "../machine/command.ts";
import { MEMORY_FOLDER, type RunFolder, makeRunFolder } from "../run-folder.ts";
import type { Enrolment } from "./site.ts";

const STOP_MS_MAX = 30 * SECOND_MS;
const POLL_MS = 20;

/** A recovery point as the agent's log tells of it. */
export type MadePoint = {
  readonly cutId: string;
  readonly slot: number;
  readonly frozenMs: number;
  readonly rounds: number;
};

/** A mobility service of this machine that protects one disk; disposing it ends it. */
export class Agent implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #files: { readonly log: string; readonly status: string };
  readonly #kept: RunFolder;
  readonly #signal: AbortSignal;

  private constructor(
    child: ChildProcess,
    files: { readonly log: string; readonly status: string },
    kept: RunFolder,
    signal: AbortSignal,
  ) {
    this.#child = child;
    this.#files = files;
    this.#kept = kept;
    this.#signal = signal;
  }

  /**
   * Starts the service of an enrolled machine for the disk `diskName`. `program`: the file of the service, or of another
   * program that is called as it is.
   */
  static async start(options: {
    readonly enrolment: Enrolment;
    readonly diskName: string;
    readonly signal: AbortSignal;
    readonly program: string;
  }): Promise<Agent> {
    const { enrolment, diskName, signal, program } = options;
    const at = (name: string): string => join(enrolment.folder, name);
    const enrolled = JSON.parse(await readFile(at("mobility-service.json"), "utf8")) as object;
    // Beside its status it keeps what outlives it, in memory, as where it is installed.
    const kept = await makeRunFolder(MEMORY_FOLDER);
    const status = join(kept.path, "status.json");
    const configuration = {
      ...enrolled,
      authority: at("authority.pem"),
      certificate: at("certificate.pem"),
      privateKey: at("private-key.pem"),
      disks: [diskName],
      statusFile: status,
    };
    await writeFile(at("run.json"), JSON.stringify(configuration));
    await using log = await open(at("agent.log"), "a");
    const child = spawnTied(process.execPath, [program, "run", "--config", at("run.json")], {
      stdio: ["ignore", log.fd, log.fd],
    });
    return new Agent(child, { log: at("agent.log"), status }, kept, signal);
  }

  get pid(): number {
    return must(this.#child.pid, "the agent runs");
  }

  /** What it says of itself; undefined before it first did. Written about once a second. */
  status(): MobilityStatus | undefined {
    try {
      return JSON.parse(readFileSync(this.#files.status, "utf8")) as MobilityStatus;
    } catch {
      return undefined;
    }
  }

  /** All points that it has made, in their order. */
  points(): readonly MadePoint[] {
    return this.#log().filter(
      ({ message }) => message === "recovery point made",
    ) as unknown as MadePoint[];
  }

  /** Reasons of the points that it has missed. */
  missedPoints(): readonly string[] {
    return this.#log()
      .filter(({ message }) => message === "recovery point missed")
      .map(({ reason, detail }) => `${String(reason)}: ${String(detail)}`);
  }

  /**
   * Waits until `done` gives something. Throws where the agent has ended or is in trouble, or BENCH_TIMEOUT after
   * `timeoutMs`, with the end of its log.
   */
  async until<T>(
    what: string,
    timeoutMs: number,
    done: () => T | undefined,
    pollMs: number = POLL_MS,
  ): Promise<T> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      this.#signal.throwIfAborted();
      const value = done();
      if (value !== undefined) return value;
      const isLate = performance.now() > end;
      if (isLate || hasEnded(this.#child)) throw this.#trouble(what, isLate);
      await wait(pollMs);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await endChild(this.#child, STOP_MS_MAX);
    } finally {
      await this.#kept[Symbol.asyncDispose]();
    }
  }

  #log(): readonly Record<string, unknown>[] {
    // The last line may be half written.
    const lines = readFileSync(this.#files.log, "utf8").split("\n").slice(0, -1);
    return lines.flatMap((line) => {
      try {
        return [JSON.parse(line) as Record<string, unknown>];
      } catch {
        return [];
      }
    });
  }

  #trouble(what: string, isLate: boolean): OsrError {
    const log = readFileSync(this.#files.log, "utf8").trim().slice(-3000);
    return new OsrError(
      isLate ? BENCH_ERRORS.BENCH_TIMEOUT : BENCH_ERRORS.BENCH_COMMAND_FAILED,
      `${isLate ? "no" : "the agent ended before"} ${what}; the end of its log:\n${log}`,
    );
  }
}
