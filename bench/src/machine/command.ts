import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { KIB, MIB } from "@osr/base/units";

import { BENCH_ERRORS } from "../bench-errors.ts";

/** Output kept of one program, and the part of it that an error quotes. */
const OUTPUT_BYTES_MAX = 16 * MIB;
const QUOTED_CHARS_MAX = 4000;

export type CommandOptions = {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly directory?: string;
  readonly input?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** discard: the standard output goes to /dev/null and counts for nothing. */
  readonly output?: "collect" | "discard";
};

/** Runs a program to its end; gives its standard output. Throws BENCH_COMMAND_FAILED with the end of its outputs. */
export async function runCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<string> {
  const limit = AbortSignal.timeout(options.timeoutMs);
  const signal = AbortSignal.any([limit, options.signal]);
  options.signal.throwIfAborted();
  const child = spawnTied(file, args, {
    stdio: ["pipe", options.output === "discard" ? "ignore" : "pipe", "pipe"],
    signal,
    killSignal: "SIGKILL",
    ...(options.directory === undefined ? {} : { cwd: options.directory }),
    env: { ...process.env, ...options.environment },
  });
  const output = collect(child.stdout);
  const errors = collect(child.stderr);
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(options.input ?? "");
  const [code, killedBy] = await closed(child);
  if (code === 0) return output();
  options.signal.throwIfAborted();
  const how = limit.aborted
    ? `took longer than ${options.timeoutMs} ms`
    : `ended with ${code ?? killedBy}`;
  const quoted = `${errors()}\n${output()}`.trim().slice(-QUOTED_CHARS_MAX);
  throw new OsrError(
    BENCH_ERRORS.BENCH_COMMAND_FAILED,
    `${file} ${args.slice(0, 3).join(" ")}: ${how}\n${quoted}`,
  );
}

export type Timed = {
  readonly wallMs: number;
  /** User and system time of the program and all that it started and waited for. */
  readonly cpuSeconds: number;
  /** Largest resident set of any one of those processes. */
  readonly peakBytes: number;
  readonly output: string;
};

/** As `runCommand`, measured by time(1), which asks the kernel (wait4) when the program has ended. */
export async function timedCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<Timed> {
  const nonce = systemRandomness.bytes(6).toString("hex");
  const report = join(tmpdir(), `osr-bench-time-${nonce}`);
  try {
    const begin = performance.now();
    const output = await runCommand(
      "time",
      ["--quiet", "-f", "%U %S %M", "-o", report, file, ...args],
      options,
    );
    const wallMs = performance.now() - begin;
    const [user, system, peakKib] = (await readFile(report, "utf8")).trim().split(" ").map(Number);
    return {
      wallMs,
      cpuSeconds: must(user, "user time") + must(system, "system time"),
      peakBytes: must(peakKib, "resident set") * KIB,
      output,
    };
  } finally {
    await rm(report, { force: true });
  }
}

/** Starts a program that the kernel ends with this process, however that ends. */
export function spawnTied(
  file: string,
  args: readonly string[],
  options: SpawnOptions,
): ChildProcess {
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", file, ...args], options);
  // Without a listener a program that cannot be started would end this process.
  child.on("error", () => undefined);
  return child;
}

/** Ends a child: SIGTERM, and SIGKILL where it takes longer than `timeoutMs`. Waits until it is gone. */
export async function endChild(child: ChildProcess, timeoutMs: number): Promise<void> {
  if (child.pid === undefined || hasEnded(child)) return;
  const gone = once(child, "exit");
  child.kill("SIGTERM");
  const ended = await Promise.race([gone.then(() => true), wait(timeoutMs, false, { ref: false })]);
  if (ended) return;
  child.kill("SIGKILL");
  if (!hasEnded(child)) await gone;
}

export function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

async function closed(child: ChildProcess): Promise<[number | null, string | null]> {
  try {
    return (await once(child, "close")) as [number | null, string | null];
  } catch (error) {
    return [null, String(error)];
  }
}

function collect(stream: NodeJS.ReadableStream | null): () => string {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream?.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= OUTPUT_BYTES_MAX) chunks.push(chunk);
  });
  return () => Buffer.concat(chunks).toString("utf8");
}
