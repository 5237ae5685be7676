import { setTimeout as wait } from "node:timers/promises";

import { SECOND_MS } from "@osr/base/units";

import { runCommand } from "./command.ts";

const SAMPLE_MS = 250;

/**
 * Bytes that clients sent to a TCP port of loopback, as the kernel counts them: TLS records and all, headers of IP not, and
 * what a busy machine made it send twice not.
 */
export type WireBytes = AsyncDisposable & { total(): Promise<number> };

/**
 * Counts from now on. Connections that were open before count with what they send from now on. The count of a connection is
 * what ss(8) last saw of it, so the last quarter of a second of one that is closed is missing; ours are kept open.
 */
export async function countWireBytes(port: number, signal: AbortSignal): Promise<WireBytes> {
  const sent = new Map<string, number>();
  const ending = new AbortController();
  const sample = async (): Promise<void> => {
    const text = await runCommand("ss", ["-tinHO", `dport = :${port}`], {
      timeoutMs: 10 * SECOND_MS,
      signal,
    });
    for (const [connection, bytes] of sentBytesOf(text))
      sent.set(connection, Math.max(bytes, sent.get(connection) ?? 0));
  };
  await sample();
  const before = totalOf(sent);
  const sampling = (async () => {
    while (!ending.signal.aborted && !signal.aborted) {
      await wait(SAMPLE_MS);
      await sample().catch(() => undefined);
    }
  })();
  return {
    async total() {
      await sample();
      return totalOf(sent) - before;
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await sampling;
    },
  };
}

/** Local address and bytes sent of each connection in the output of `ss -tinHO`. */
export function sentBytesOf(text: string): readonly (readonly [string, number])[] {
  return text.split("\n").flatMap((line) => {
    const connection = /^\S+\s+\d+\s+\d+\s+(\S+)\s+\S+/.exec(line)?.[1];
    const bytes = /\bbytes_sent:(\d+)/.exec(line)?.[1];
    const again = /\bbytes_retrans:(\d+)/.exec(line)?.[1] ?? "0";
    return connection === undefined || bytes === undefined
      ? []
      : [[connection, Number(bytes) - Number(again)] as const];
  });
}

function totalOf(sent: ReadonlyMap<string, number>): number {
  return sent.values().reduce((sum, bytes) => sum + bytes, 0);
}
