/**
 * A long-running part of a role. `run` resolves when the part has ended by itself or by `stop`, and rejects when it
 * failed. `stop` ends it soon, leaves nothing half-written, and may be called more than once.
 */
export interface Service {
  run(): Promise<void>;
  stop(): Promise<void>;
}
