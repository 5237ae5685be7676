import type { Clock } from "@osr/base/clock";
import type { Scheduler } from "@osr/base/scheduler";

type Timer = { readonly atMs: number; readonly order: number; readonly fire: () => void };

const UNIX_MS = 1_800_000_000_000;

/** Clock and scheduler of a simulated world: time passes only when nothing else is left to do. */
export class VirtualTime implements Clock, Scheduler {
  /** How far the machine's clock has been set wrong. */
  unixOffsetMs = 0;
  #nowMs = 0;
  #order = 0;
  readonly #timers = new Set<Timer>();

  unixMs(): number {
    return UNIX_MS + this.#nowMs + this.unixOffsetMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  /** Time that passes while the thread is blocked. */
  pass(ms: number): void {
    this.#nowMs += ms;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason);
      const timer = this.after(ms, () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      });
      const onAbort = (): void => {
        timer[Symbol.dispose]();
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  after(ms: number, task: () => void): Disposable {
    this.#order += 1;
    const timer = { atMs: this.#nowMs + Math.max(0, ms), order: this.#order, fire: task };
    this.#timers.add(timer);
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) };
  }

  /** Fires the next timer. False where there is none. */
  step(): boolean {
    let next: Timer | undefined;
    for (const timer of this.#timers)
      if (
        next === undefined ||
        timer.atMs < next.atMs ||
        (timer.atMs === next.atMs && timer.order < next.order)
      )
        next = timer;
    if (next === undefined) return false;
    this.#timers.delete(next);
    this.#nowMs = Math.max(this.#nowMs, next.atMs);
    next.fire();
    return true;
  }
}
