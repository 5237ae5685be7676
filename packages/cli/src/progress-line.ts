import type { Clock } from "@osr/base/clock";
import { formatBytes, formatDuration } from "@osr/base/units";

/** Rates are averaged over about this long, so that the time left does not jump. */
const RATE_WINDOW_MS = 5000;

export type ProgressLine = {
  /** `label: 12 % (1.2 GiB of 9.8 GiB), 85 MiB/s, 1 min 40 s left`. */
  text(doneBytes: number, totalBytes: number): string;
};

/** Narrates a long copy: bytes, rate and time left. */
export function progressLine(label: string, clock: Clock): ProgressLine {
  let rate = 0;
  let last: { readonly ms: number; readonly bytes: number } | undefined;
  return {
    text(doneBytes, totalBytes) {
      const now = clock.monotonicMs();
      if (last !== undefined && now > last.ms) {
        const current = Math.max(0, doneBytes - last.bytes) / (now - last.ms);
        const weight = rate === 0 ? 1 : 1 - Math.exp(-(now - last.ms) / RATE_WINDOW_MS);
        rate += (current - rate) * weight;
      }
      last = { ms: now, bytes: doneBytes };
      const share = totalBytes === 0 ? 100 : Math.floor((100 * doneBytes) / totalBytes);
      const left = Math.max(0, totalBytes - doneBytes);
      const speed = rate > 0 ? `, ${formatBytes(rate * 1000)}/s` : "";
      const time = rate > 0 && left > 0 ? `, ${formatDuration(left / rate)} left` : "";
      return `${label}: ${share} % (${formatBytes(doneBytes)} of ${formatBytes(totalBytes)})${speed}${time}`;
    },
  };
}
