import { peakBytesOf } from "./machine/process-usage.ts";

export const MEASURED_ROLES = ["agent", "process server", "storage account", "NBD"] as const;
export type MeasuredRole = (typeof MEASURED_ROLES)[number];

/** The largest resident set of each role over all suites of a run, and where it was. */
export class PeakMemory {
  readonly #peaks = new Map<MeasuredRole, { bytes: number; suite: string }>();

  /** Looks at a process of a role; to be called before it ends. */
  look(role: MeasuredRole, suite: string, pid: number | undefined): void {
    if (pid !== undefined) this.note(role, suite, peakBytesOf(pid));
  }

  note(role: MeasuredRole, suite: string, bytes: number): void {
    if (bytes > (this.#peaks.get(role)?.bytes ?? 0)) this.#peaks.set(role, { bytes, suite });
  }

  /** Undefined where no suite ran that role. */
  of(role: MeasuredRole): { readonly bytes: number; readonly suite: string } | undefined {
    return this.#peaks.get(role);
  }
}
