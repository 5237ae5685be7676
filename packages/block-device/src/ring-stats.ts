/** Counters of one CPU's ring buffer since it was made (`per_cpu/cpuN/stats`). */
export type RingStats = {
  /** Events that are gone: overwritten, dropped, or lost to an overwritten commit. */
  lost: number;
  /** Events that were read. */
  read: number;
};

const LOST_LABELS = ["overrun: ", "commit overrun: ", "dropped events: "].map(bytesOf);
const READ_LABEL = bytesOf("read events: ");
const LOST_LINES = LOST_LABELS.length;

const LINE_FEED = 0x0a;
const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Parses `length` bytes of text into `target` without allocating. False where a counter is not in it. */
export function parseRingStats(text: Uint8Array, length: number, target: RingStats): boolean {
  let lines = 0;
  target.lost = 0;
  for (let start = 0; start < length;) {
    if (startsWith(text, start, length, READ_LABEL)) {
      target.read = numberAt(text, start + READ_LABEL.length, length);
      lines += 1;
    }
    for (const label of LOST_LABELS) {
      if (!startsWith(text, start, length, label)) continue;
      target.lost += numberAt(text, start + label.length, length);
      lines += 1;
    }
    while (start < length && text[start] !== LINE_FEED) start += 1;
    start += 1;
  }
  return lines === LOST_LINES + 1;
}

function startsWith(text: Uint8Array, start: number, length: number, label: Uint8Array): boolean {
  if (start + label.length > length) return false;
  for (let index = 0; index < label.length; index++)
    if (text[start + index] !== label[index]) return false;
  return true;
}

function numberAt(text: Uint8Array, start: number, length: number): number {
  let value = 0;
  for (let at = start; at < length; at++) {
    const digit = text[at] ?? 0;
    if (digit < DIGIT_0 || digit > DIGIT_9) break;
    value = value * 10 + (digit - DIGIT_0);
  }
  return value;
}
