/** Shows the newest of many progress lines: rewritten in place on a terminal, about once in ten seconds elsewhere. */
export type ProgressWriter = { show(line: string): void; clear(): void };

const TERMINAL_MS = 200;
const ELSEWHERE_MS = 10_000;

export function progressWriter(): ProgressWriter {
  const { stderr } = process;
  const pauseMs = stderr.isTTY ? TERMINAL_MS : ELSEWHERE_MS;
  let last = -Infinity;
  return {
    show(line) {
      const now = performance.now();
      if (now - last < pauseMs) return;
      last = now;
      stderr.write(stderr.isTTY ? `\r\u001B[K${line}` : `${line}\n`);
    },
    clear() {
      if (stderr.isTTY) stderr.write("\r\u001B[K");
    },
  };
}
