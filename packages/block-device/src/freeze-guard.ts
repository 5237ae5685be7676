import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

import { must } from "@osr/base/assert";
import type { Clock } from "@osr/base/clock";
import { OsrError } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";

import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";
import type { ExpeditedRcu } from "./expedited-rcu.ts";

/** Time for the guard to answer, other than to a sync. */
const ANSWER_LIMIT_MS = 10_000;
const FILE_SYSTEM_FD_FIRST = 3;
const LINE_CHARS_MAX = 64;

/**
 * The guard is a shell, since a second Node would take 40 MiB. Its standard input carries commands, file descriptors from
 * 3 on are the file systems, in the order of freezing. `arm` starts all that is needed for thawing, before anything is frozen:
 * from then on the end of input (we died), a stray word or the time limit thaw. Tools are called once in vain at the start,
 * so that they are in the page cache. Not to be ended by a signal that is meant for the agent, nor for want of memory. The limit
 * kills, since the inner shell inherits the deaf ear to milder signals.
 */
const SCRIPT = `
limit=$1 first=3 last=$2 expedited_file=$3 expedited=$4
trap '' TERM HUP INT
echo -1000 2>/dev/null >/proc/self/oom_score_adj
for tool in timeout sync fsfreeze; do
  command -v $tool >/dev/null || { echo "missing $tool"; exit 1; }
  $tool --help >/dev/null 2>&1
done
thaw() {
  [ "$expedited" = 0 ] && echo 0 >"$expedited_file"
  fd=$last
  while [ $fd -ge $first ]; do
    fsfreeze --unfreeze /proc/self/fd/$fd 2>/dev/null
    fd=$((fd - 1))
  done
}
sync_all() {
  fd=$first jobs= failed=0
  while [ $fd -le $last ]; do
    if [ "$1" = idle ]; then sync --help; else sync -f /proc/self/fd/$fd; fi >/dev/null 2>&1 &
    jobs="$jobs $!" fd=$((fd + 1))
  done
  for job in $jobs; do wait $job || failed=1; done
  [ $failed = 0 ] && echo synced || echo "failed sync"
}
echo ready
while read -r word; do
  case $word in
    sync | idle) sync_all $word ;;
    arm) timeout -s KILL $limit sh -c 'echo armed; read -r word && [ "$word" = disarm ]' && echo disarmed || { thaw; echo thawed; } ;;
  esac
done
`;

/** A process beside ours that thaws file systems when this one dies or takes too long. Also syncs them, in parallel. */
export class FreezeGuard implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #ports: { readonly clock: Clock; readonly scheduler: Scheduler };
  readonly #limitMs: number;
  readonly #exited: Promise<unknown>;
  #armedUntilMs: number | undefined;
  /** What starting the processes of a sync takes, which is not the file systems' doing. */
  #overheadMs = 0;

  private constructor(child: ChildProcess, options: FreezeGuardOptions) {
    this.#child = child;
    this.#ports = options;
    this.#limitMs = options.limitMs;
    const output = must(child.stdout, "the guard has an output");
    this.#lines = createInterface({ input: output })[Symbol.asyncIterator]();
    this.#exited = once(child, "close").catch(() => undefined);
    // A guard that is gone is noticed by its missing answers; writing to it must not end this process.
    child.stdin?.on("error", () => undefined);
  }

  /** Starts the guard of open folders, in the order in which they will be frozen. Throws FREEZE_UNAVAILABLE. */
  static async start(fds: readonly number[], options: FreezeGuardOptions): Promise<FreezeGuard> {
    const limitText = String(Math.ceil(options.limitMs / SECOND_MS));
    const last = String(FILE_SYSTEM_FD_FIRST + fds.length - 1);
    const { rcu } = options;
    const args = [limitText, last, rcu.file, rcu.original ?? ""];
    const child = spawn("sh", ["-c", SCRIPT, "osr-freeze-guard", ...args], {
      stdio: ["pipe", "pipe", "ignore", ...fds],
      cwd: "/",
      // A process group of its own: Ctrl-C at a terminal reaches all others.
      detached: true,
    });
    const guard = new FreezeGuard(child, options);
    try {
      await guard.#expect("ready");
      guard.#overheadMs = await guard.#timed("idle", new AbortController().signal);
      await guard.arm();
    } catch (error) {
      await guard[Symbol.asyncDispose]();
      throw error;
    }
    return guard;
  }

  /** When the guard will thaw, in monotonic milliseconds; it does no harm while nothing is frozen. */
  get armedUntilMs(): number {
    return this.#armedUntilMs ?? -Infinity;
  }

  /** Starts the guard's time limit anew. */
  async arm(): Promise<void> {
    await this.#disarm();
    this.#send("arm");
    // Before the answer: the guard's clock starts after this moment, so ours ends first.
    const armedAtMs = this.#ports.clock.monotonicMs();
    await this.#expect("armed");
    this.#armedUntilMs = armedAtMs + this.#limitMs;
  }

  /** syncfs of every file system, and arms anew. Returns how long the slowest took. Throws SYNC_FAILED. */
  async sync(signal: AbortSignal): Promise<number> {
    await this.#disarm();
    const tookMs = await this.#timed("sync", signal);
    await this.arm();
    return Math.max(0, tookMs - this.#overheadMs);
  }

  async #timed(word: string, signal: AbortSignal): Promise<number> {
    const startedMs = this.#ports.clock.monotonicMs();
    this.#send(word);
    const answer = await this.#answer(signal);
    if (answer !== "synced")
      throw new OsrError(BLOCK_DEVICE_ERRORS.SYNC_FAILED, `the guard says: ${answer ?? "nothing"}`);
    return this.#ports.clock.monotonicMs() - startedMs;
  }

  async #disarm(): Promise<void> {
    if (this.#armedUntilMs === undefined) return;
    this.#armedUntilMs = undefined;
    this.#send("disarm");
    // Its time limit may have passed, with nothing frozen: then it said so first and takes our word for nothing.
    await this.#expect("disarmed", "thawed");
  }

  #send(word: string): void {
    this.#child.stdin?.write(`${word}\n`);
  }

  async #expect(...words: readonly string[]): Promise<void> {
    const limit = new AbortController();
    using timers = new DisposableStack();
    timers.use(
      this.#ports.scheduler.after(ANSWER_LIMIT_MS, () =>
        limit.abort(gone("the guard does not answer")),
      ),
    );
    const answer = await this.#answer(limit.signal);
    if (answer?.startsWith("missing"))
      throw new OsrError(BLOCK_DEVICE_ERRORS.FREEZE_UNAVAILABLE, `the guard is ${answer}`);
    if (answer === undefined || !words.includes(answer))
      throw gone(`the guard answered ${answer ?? "nothing"} instead of ${words.join(" or ")}`);
  }

  async #answer(signal: AbortSignal): Promise<string | undefined> {
    signal.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    const abort = (): void => aborted.reject(signal.reason as Error);
    signal.addEventListener("abort", abort, { once: true });
    try {
      const line = await Promise.race([this.#lines.next(), aborted.promise]);
      return line.done === true ? undefined : line.value.slice(0, LINE_CHARS_MAX);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  /** Ends the guard. Whatever is still frozen is thawed by it, as if we had died. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#armedUntilMs !== undefined) this.#send("disarm");
    this.#child.stdin?.end();
    using timers = new DisposableStack();
    timers.use(this.#ports.scheduler.after(ANSWER_LIMIT_MS, () => this.#child.kill("SIGKILL")));
    await this.#exited;
  }
}

export type FreezeGuardOptions = {
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  /** What this process hurries while it freezes; if it dies meanwhile, the guard puts it back. */
  readonly rcu: ExpeditedRcu;
  /** How long after arming the guard thaws. */
  readonly limitMs: number;
};

function gone(message: string): OsrError {
  return new OsrError(BLOCK_DEVICE_ERRORS.FREEZE_GUARD_GONE, message);
}
