import { type Socket, connect } from "node:net";

import { OsrError } from "@osr/base/errors";
import { SECOND_MS } from "@osr/base/units";

import { RIG_ERRORS } from "./rig-errors.ts";

/** A file is sent in pieces of this many bytes, since one command is one line. */
const UPLOAD_PIECE_BYTES = 8 * 1024;
/** Given to the guest to end a command by itself before the host gives up on it. */
const ANSWER_GRACE_MS = 40 * SECOND_MS;
/** A command is sent again after this long without an answer; the machine runs it once all the same. */
const REPEAT_MS = 15 * SECOND_MS;

export type GuestResult = { readonly code: number; readonly output: string };

/**
 * Runs commands in a machine through its serial shell (guest-shell-script). One at a time, in the order of the calls.
 */
export class GuestShell implements Disposable {
  readonly #socket: Socket;
  #received = "";
  #wake: () => void = () => undefined;
  #ended = false;
  #last: Promise<unknown> = Promise.resolve();
  #commandNo = 0;
  readonly #console: () => Promise<string>;

  private constructor(socket: Socket, console: () => Promise<string>) {
    this.#socket = socket;
    this.#console = console;
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => {
      this.#received += text;
      this.#wake();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#ended = true;
      this.#wake();
    });
  }

  /**
   * Connects to the socket of the serial port; call it before the machine's shell starts, then `ready`. `console` gives what the
   * machine printed, for the messages of errors.
   */
  static async connect(socketPath: string, console: () => Promise<string>): Promise<GuestShell> {
    const socket = connect(socketPath);
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return new GuestShell(socket, console);
  }

  /** Resolves as soon as the machine's shell runs. Throws RIG_TIMEOUT, RIG_MACHINE_ENDED. */
  async ready(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    await this.#until(/@ready\s/, timeoutMs, "its shell to start", signal);
  }

  /**
   * Runs a command under `sh` as root. Both outputs come together, at most 1 MiB. Exit code 124 or 137: it took longer
   * than `timeoutMs` and was ended. Throws RIG_TIMEOUT where the machine does not answer at all.
   */
  run(
    command: string,
    timeoutMs: number = 30 * SECOND_MS,
    signal?: AbortSignal,
  ): Promise<GuestResult> {
    const result = this.#last.then(() => this.#run(command, timeoutMs, signal));
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** The output of a command that must exit with 0. Throws GUEST_COMMAND_FAILED. */
  async must(command: string, timeoutMs?: number, signal?: AbortSignal): Promise<string> {
    const { code, output } = await this.run(command, timeoutMs, signal);
    if (code !== 0)
      throw new OsrError(
        RIG_ERRORS.GUEST_COMMAND_FAILED,
        `exit code ${code} of: ${command.slice(0, 200)}\n${output.slice(-2000)}`,
      );
    return output;
  }

  /** Writes a file; mode in octal, such as `600`. */
  async writeFile(path: string, bytes: Buffer, mode: string): Promise<void> {
    await this.must(`umask 077; : >'${path}'`);
    for (let offset = 0; offset < bytes.length; offset += UPLOAD_PIECE_BYTES) {
      const piece = bytes.subarray(offset, offset + UPLOAD_PIECE_BYTES).toString("base64");
      await this.must(`echo ${piece} | base64 -d >>'${path}'`);
    }
    await this.must(`chmod ${mode} '${path}'`);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  async #run(command: string, timeoutMs: number, signal?: AbortSignal): Promise<GuestResult> {
    this.#commandNo += 1;
    const id = `c${this.#commandNo}`;
    const encoded = Buffer.from(command, "utf8").toString("base64");
    const seconds = Math.ceil(timeoutMs / SECOND_MS);
    const line = `${id} ${seconds} ${encoded.length} ${encoded}\n`;
    this.#received = "";
    this.#socket.write(line);
    // The empty line ends whatever is left of a damaged one.
    const repeat = setInterval(() => this.#socket.write(`\n${line}`), REPEAT_MS);
    try {
      const [, code, body] = await this.#until(
        new RegExp(`@begin ${id} (\\d+)\\s([^@]*)@end ${id}\\s`),
        timeoutMs + ANSWER_GRACE_MS,
        `the answer to: ${command.slice(0, 200)}`,
        signal,
      );
      return { code: Number(code), output: Buffer.from(body ?? "", "base64").toString("utf8") };
    } finally {
      clearInterval(repeat);
    }
  }

  async #until(
    pattern: RegExp,
    timeoutMs: number,
    what: string,
    signal?: AbortSignal,
  ): Promise<RegExpExecArray> {
    const limit = AbortSignal.timeout(timeoutMs);
    const either = signal === undefined ? limit : AbortSignal.any([limit, signal]);
    const wake = (): void => this.#wake();
    either.addEventListener("abort", wake);
    try {
      for (;;) {
        // A newline after the match is looked for by the pattern itself, so that a half-received line is none.
        const match = pattern.exec(this.#received);
        if (match !== null) return match;
        signal?.throwIfAborted();
        if (limit.aborted)
          throw new OsrError(
            RIG_ERRORS.RIG_TIMEOUT,
            `waited ${timeoutMs} ms for ${what}; last seen: ${this.#received.slice(-500)}\nconsole: ${(await this.#console()).slice(-2000)}`,
          );
        if (this.#ended)
          throw new OsrError(RIG_ERRORS.RIG_MACHINE_ENDED, `ended while waiting for ${what}`);
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      either.removeEventListener("abort", wake);
    }
  }
}
