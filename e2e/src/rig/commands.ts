import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";

import { OsrError } from "@osr/base/errors";

import { RIG_ERRORS } from "./rig-errors.ts";

/** Output kept of one program. */
const OUTPUT_BYTES_MAX = 16 * 1024 * 1024;
/** Part of the output that an error quotes. */
const QUOTED_CHARS_MAX = 4000;

export type CommandOptions = {
  readonly timeoutMs: number;
  readonly directory?: string;
  readonly input?: string | Buffer;
  readonly environment?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
};

/**
 * Runs a program to its end and gives its standard output as text. Throws RIG_COMMAND_FAILED with the end of both
 * outputs where it exits otherwise than with 0, cannot be started, or takes longer than `timeoutMs`.
 */
export async function runCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<string> {
  const limit = AbortSignal.timeout(options.timeoutMs);
  const signal = options.signal === undefined ? limit : AbortSignal.any([limit, options.signal]);
  signal.throwIfAborted();
  const child = spawnTied(file, args, {
    stdio: "pipe",
    signal,
    killSignal: "SIGKILL",
    ...(options.directory === undefined ? {} : { cwd: options.directory }),
    ...(options.environment === undefined
      ? {}
      : { env: { ...process.env, ...options.environment } }),
  });
  const stdout = collect(child, "stdout");
  const stderr = collect(child, "stderr");
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(options.input ?? "");
  const failed = (reason: string, cause?: unknown): OsrError => {
    const output = `${stderr()}\n${stdout()}`.trim().slice(-QUOTED_CHARS_MAX);
    return new OsrError(RIG_ERRORS.RIG_COMMAND_FAILED, `${file}: ${reason}\n${output}`, { cause });
  };
  try {
    const [code, killedBy] = (await once(child, "close")) as [number | null, string | null];
    if (code === 0) return stdout();
    throw failed(code === null ? `ended by ${killedBy}` : `exit code ${code}`);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof OsrError) throw error;
    throw failed(limit.aborted ? `took longer than ${options.timeoutMs} ms` : String(error), error);
  }
}

/**
 * Starts a program that the kernel ends when this process ends, however it does (prctl PDEATHSIG): a run that is
 * killed leaves no machine behind. `ending`: TERM for a program that has children of its own to end.
 */
export function spawnTied(
  file: string,
  args: readonly string[],
  options: SpawnOptions,
  ending: "KILL" | "TERM" = "KILL",
): ChildProcess {
  return spawn("setpriv", ["--pdeathsig", ending, "--", file, ...args], options);
}

/** Resolves with the exit code (or the signal's name) of a child that may already have ended. */
export async function exitOf(child: ChildProcess): Promise<number | string> {
  if (child.exitCode !== null) return child.exitCode;
  if (child.signalCode !== null) return child.signalCode;
  const [code, killedBy] = (await once(child, "exit")) as [number | null, string | null];
  return code ?? killedBy ?? "unknown";
}

function collect(child: ChildProcess, stream: "stdout" | "stderr"): () => string {
  const chunks: Buffer[] = [];
  let bytes = 0;
  child[stream]?.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= OUTPUT_BYTES_MAX) chunks.push(chunk);
  });
  return () => Buffer.concat(chunks).toString("utf8");
}
