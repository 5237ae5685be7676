/** Waiting comes in through this port, so that simulation can replay us. */
export interface Scheduler {
  /** Resolves after `ms`; rejects with the signal's reason as soon as it is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `task` once after `ms` unless disposed first. Does not keep the process alive. */
  after(ms: number, task: () => void): Disposable;
}
