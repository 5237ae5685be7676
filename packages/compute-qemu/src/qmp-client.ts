import { type Socket, connect } from "node:net";

import { OsrError, messageOf } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import { MIB, SECOND_MS } from "@osr/base/units";

import { COMPUTE_ERRORS } from "./compute-errors.ts";
import { LineSplitter } from "./line-splitter.ts";
import { type QmpEvent, qmpEventOf } from "./qmp-event.ts";

/** The longest answer is a full console ring in base64. */
const LINE_BYTES_MAX = 4 * MIB;
const PENDING_MAX = 64;
const COMMAND_TIMEOUT_MS = 10 * SECOND_MS;

export type QmpOptions = {
  readonly socketPath: string;
  readonly scheduler: Scheduler;
  /** For connecting and for QEMU's greeting: a socket that serves another client does not greet. */
  readonly timeoutMs: number;
  /** Must not throw. May be called before `connectQmp` has resolved. */
  readonly onEvent?: (event: QmpEvent, client: QmpClient) => void;
  readonly signal?: AbortSignal | undefined;
};

/** A conversation with one QEMU. Errors: QMP_UNAVAILABLE, QMP_REFUSED (with `details.class`), QMP_PROTOCOL. */
export interface QmpClient extends Disposable {
  /** Executes a command and resolves with its `return`. */
  execute(command: string, args?: object, timeoutMs?: number): Promise<unknown>;
  /** Resolves when the conversation has ended, for whatever reason. */
  readonly closed: Promise<void>;
}

/** Connects to a QMP socket and negotiates. */
export async function connectQmp(options: QmpOptions): Promise<QmpClient> {
  options.signal?.throwIfAborted();
  const session = new QmpSession(options);
  const abort = (): void => session.end(abortError(options.signal));
  options.signal?.addEventListener("abort", abort, { once: true });
  try {
    await session.greeted;
    await session.execute("qmp_capabilities", {}, options.timeoutMs);
    return session;
  } catch (error) {
    session[Symbol.dispose]();
    throw error;
  } finally {
    options.signal?.removeEventListener("abort", abort);
  }
}

type Pending = {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: Disposable;
};

class QmpSession implements QmpClient {
  readonly greeted: Promise<void>;
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #lines = new LineSplitter(LINE_BYTES_MAX);
  readonly #pending = new Map<number, Pending>();
  readonly #scheduler: Scheduler;
  readonly #onEvent: (event: QmpEvent, client: QmpClient) => void;
  readonly #greeting = Promise.withResolvers<void>();
  readonly #closing = Promise.withResolvers<void>();
  readonly #greetingTimer: Disposable;
  #commandNext = 1;
  #ended: Error | undefined;

  constructor(options: QmpOptions) {
    this.greeted = this.#greeting.promise;
    this.closed = this.#closing.promise;
    // Nobody need be waiting for the greeting when the conversation ends.
    this.greeted.catch(() => undefined);
    this.#scheduler = options.scheduler;
    this.#onEvent = options.onEvent ?? (() => undefined);
    this.#socket = connect(options.socketPath);
    this.#socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on("error", (error) => this.end(unavailable(messageOf(error))));
    this.#socket.on("close", () => {
      this.end(unavailable("QEMU closed its control socket"));
      this.#closing.resolve();
    });
    this.#greetingTimer = options.scheduler.after(options.timeoutMs, () =>
      this.end(unavailable(`no greeting within ${options.timeoutMs} ms`)),
    );
  }

  async execute(
    command: string,
    args: object = {},
    timeoutMs: number = COMMAND_TIMEOUT_MS,
  ): Promise<unknown> {
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#pending.size >= PENDING_MAX) throw unavailable(`${PENDING_MAX} commands wait`);
    const id = this.#commandNext++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const timer = this.#scheduler.after(timeoutMs, () => {
      this.#pending.delete(id);
      reject(unavailable(`${command} was not answered within ${timeoutMs} ms`));
    });
    this.#pending.set(id, { resolve, reject, timer });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    return promise;
  }

  /** Ends the conversation; everything that waits is rejected with `error`. */
  end(error: Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#greetingTimer[Symbol.dispose]();
    this.#greeting.reject(error);
    for (const { reject, timer } of this.#pending.values()) {
      timer[Symbol.dispose]();
      reject(error);
    }
    this.#pending.clear();
    this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    this.end(unavailable("the control socket was closed by us"));
  }

  #receive(chunk: Buffer): void {
    const lines = this.#lines.push(chunk);
    if (lines === undefined) {
      this.end(protocolError(`a line is longer than ${LINE_BYTES_MAX} bytes`));
      return;
    }
    for (const line of lines) {
      if (this.#ended !== undefined) return;
      try {
        this.#dispatch(line);
      } catch (error) {
        this.end(protocolError(messageOf(error)));
      }
    }
  }

  #dispatch(line: Buffer): void {
    if (line.byteLength === 0) return;
    const message: unknown = JSON.parse(line.toString("utf8"));
    if (!isFields(message)) throw new TypeError("a line is not an object");
    if ("QMP" in message) {
      this.#greetingTimer[Symbol.dispose]();
      this.#greeting.resolve();
    } else if (typeof message["event"] === "string")
      this.#onEvent(qmpEventOf(message["event"], message["data"]), this);
    else this.#answer(message);
  }

  #answer(message: Record<string, unknown>): void {
    const id = message["id"];
    // An answer that comes after its time limit belongs to nobody any more.
    if (typeof id !== "number" || id < 1 || id >= this.#commandNext)
      throw new TypeError("an answer belongs to no command");
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    pending.timer[Symbol.dispose]();
    if ("error" in message) pending.reject(refused(message["error"]));
    else pending.resolve(message["return"]);
  }
}

function isFields(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function refused(error: unknown): OsrError {
  const fields = isFields(error) ? error : {};
  const className = typeof fields["class"] === "string" ? fields["class"] : "";
  const text = typeof fields["desc"] === "string" ? fields["desc"] : "no reason given";
  return new OsrError(COMPUTE_ERRORS.QMP_REFUSED, `QEMU refused: ${text}`, {
    details: { class: className },
  });
}

function unavailable(message: string): OsrError {
  return new OsrError(COMPUTE_ERRORS.QMP_UNAVAILABLE, message);
}

function protocolError(message: string): OsrError {
  return new OsrError(COMPUTE_ERRORS.QMP_PROTOCOL, message);
}

function abortError(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : unavailable("aborted");
}
