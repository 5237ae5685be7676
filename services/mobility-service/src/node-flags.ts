import { assert } from "@osr/base/assert";

/**
 * `node:ffi`, for freezing, cannot be switched on in a running Node. The young generation of the heap is kept small: the
 * agent makes little garbage, and each MiB there costs three. TurboFan stays out: V8's other compiler is as good for what
 * the agent does (measured: the same processor time for a first copy), and TurboFan's own code takes 5 MiB. That other one,
 * Maglev, waits until a function was called ten times as often as by itself: what it works with takes 6 MiB less at the peak, for
 * no more processor time. Without Maglev it would be 10 MiB, but a first copy would take a quarter more of it.
 * Optimising for size, V8 collects the old generation after 2 MiB of garbage and not after 5: 99 MiB at the peak became 91 with
 * points every two seconds, and a first copy takes as long.
 */
export const NODE_FLAGS: readonly string[] = [
  "--experimental-ffi",
  "--disable-warning=ExperimentalWarning",
  "--max-semi-space-size=1",
  "--no-opt",
  "--optimize-for-size",
  "--invocation-count-for-maglev=4000",
];

/** Of glibc: threads share one heap, since each of their own keeps what it once needed. */
const ENVIRONMENT = { MALLOC_ARENA_MAX: "1" };

/** Returns at once where this Node runs with the flags that the service needs; else becomes one that does, same process id. */
export function becomeWithFlags(): void {
  if (NODE_FLAGS.every((flag) => process.execArgv.includes(flag))) return;
  const more = process.execArgv.filter((flag) => !NODE_FLAGS.includes(flag));
  const words = [process.execPath, ...NODE_FLAGS, ...more, ...process.argv.slice(1)];
  // That execve is experimental is nothing that the user can do anything about.
  process.removeAllListeners("warning");
  assert(process.execve !== undefined, "Node has execve on this platform");
  process.execve(process.execPath, words, { ...process.env, ...ENVIRONMENT });
}
