import { execFile, spawn } from "node:child_process";
import { Socket } from "node:net";

import { OsrError, messageOf, systemErrorCode } from "@osr/base/errors";
import { KIB, MIB } from "@osr/base/units";

import { COMPUTE_ERRORS } from "./compute-errors.ts";

const OUTPUT_BYTES_MAX = 4 * MIB;
const ERROR_BYTES_MAX = 4 * KIB;

export type CommandOptions = {
  readonly timeoutMs: number;
  /** Given to the command's standard input, which then ends. */
  readonly input?: Buffer;
  readonly signal?: AbortSignal | undefined;
};

/**
 * Runs a command to its end and gives what it printed. Throws COMMAND_MISSING, or COMMAND_FAILED with the end of its
 * standard error; after `timeoutMs` the command is killed.
 */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<Buffer> {
  options.signal?.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const child = execFile(
    command,
    [...args],
    {
      encoding: "buffer",
      timeout: options.timeoutMs,
      killSignal: "SIGKILL",
      maxBuffer: OUTPUT_BYTES_MAX,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    },
    (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(options.signal?.aborted ? error : failure(command, args, error, stderr));
    },
  );
  // A command that ends without reading its input closes the pipe; its exit status says all there is to say.
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(options.input);
  return promise;
}

/** Runs a command whose exit status is its answer: the status, or the signal that ended it. SIGKILL after `timeoutMs`. */
export async function runStatus(
  command: string,
  args: readonly string[],
  timeoutMs: number,
): Promise<number | string> {
  const { promise, resolve } = Promise.withResolvers<number | string>();
  const child = spawn(command, args, {
    stdio: "ignore",
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
  child.on("error", (error) => resolve(systemErrorCode(error) ?? messageOf(error)));
  child.on("exit", (status, signal) => resolve(status ?? signal ?? "no status"));
  return promise;
}

export type BackgroundCommand = {
  /** Rejects with COMMAND_FAILED, which says how, when the command ends; never resolves. */
  readonly ended: Promise<never>;
  kill(): void;
  /** From now on the command may run on when this process ends; what it says then is lost. */
  release(): void;
};

/** Starts a command in a session of its own. */
export function startInBackground(command: string, args: readonly string[]): BackgroundCommand {
  const { promise: ended, reject } = Promise.withResolvers<never>();
  // Nobody need care.
  ended.catch(() => undefined);
  const child = spawn(command, args, {
    cwd: "/",
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = Buffer.alloc(0);
  child.stderr.on("data", (chunk: Buffer) => {
    said = Buffer.concat([said, chunk]).subarray(-ERROR_BYTES_MAX);
  });
  child.on("error", (error) => reject(failure(command, args, error, said)));
  child.on("close", (status, signal) =>
    reject(failure(command, args, new Error(`it ended with ${status ?? signal}`), said)),
  );
  return {
    ended,
    kill: () => child.kill("SIGKILL"),
    release: () => {
      child.unref();
      if (child.stderr instanceof Socket) child.stderr.unref();
    },
  };
}

function failure(
  command: string,
  args: readonly string[],
  error: Error & { killed?: boolean },
  stderr: Buffer,
): OsrError {
  if (systemErrorCode(error) === "ENOENT")
    return new OsrError(COMPUTE_ERRORS.COMMAND_MISSING, `${command} is not installed`);
  const said = stderr.toString("utf8").trim().split("\n").slice(-3).join(" / ").slice(-600);
  const ending = error.killed ? "it was stopped by its time limit" : endingOf(error);
  return new OsrError(
    COMPUTE_ERRORS.COMMAND_FAILED,
    `${command} ${args[0] ?? ""} failed: ${said === "" ? ending : said}`,
    { cause: error },
  );
}

/** How a command ended that said nothing; the message of Node's error repeats all of its arguments. */
function endingOf(error: Error): string {
  if ("signal" in error && typeof error.signal === "string") return `it ended by ${error.signal}`;
  if ("code" in error && typeof error.code === "number") return `it ended with ${error.code}`;
  return messageOf(error).slice(0, 600);
}
