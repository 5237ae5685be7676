import { OsrError, messageOf } from "@osr/base/errors";
import { type Shape, parseJson } from "@osr/base/json-shape";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import { type RetryPolicy, retryDelayMs } from "@osr/base/retry";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";
import type { HttpsClient } from "@osr/https/https-client";

import { LINK_ERRORS } from "./link-errors.ts";

/** The server answers at the latest after its waiting time; the rest is for a slow network. */
const SLACK_MS = 20 * SECOND_MS;
const RETRIES: RetryPolicy = {
  attemptsMax: Infinity,
  delayFirstMs: 500,
  delayMaxMs: 15 * SECOND_MS,
};

export type WishedStateOptions<State extends { readonly revision: number }> = {
  readonly client: HttpsClient;
  readonly path: string;
  /** Time that the server lets a question wait where there is nothing new. */
  readonly waitMs: number;
  readonly shape: Shape<State>;
  /** The revision that the caller has; 0: none. */
  readonly have: () => number;
  /** Takes the new state over; the next question follows when it has ended. What it throws is logged, and asked for again. */
  readonly onState: (state: State) => Promise<void> | void;
  /** Told of every answer (undefined) and of every failure. */
  readonly onContact?: (failure: unknown) => void;
  readonly scheduler: Scheduler;
  readonly randomness: Randomness;
  readonly log: Log;
};

/** Asks for a state again and again, each time until it is another one (long polling). Ends with the signal. */
export async function followWishedState<State extends { readonly revision: number }>(
  options: WishedStateOptions<State>,
  signal: AbortSignal,
): Promise<void> {
  const { onState, onContact, scheduler, randomness, log } = options;
  for (let failures = 0; !signal.aborted;) {
    try {
      const state = await ask(options, signal);
      onContact?.(undefined);
      if (state !== undefined) await onState(state);
      if (failures > 0) log.info("the server above answers again", { path: options.path });
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      onContact?.(error);
      if (failures++ === 0)
        log.warn("the server above does not answer; it goes on with what is known", {
          path: options.path,
          error: messageOf(error),
        });
      const delayMs = retryDelayMs(RETRIES, failures + 1, randomness);
      await scheduler.sleep(delayMs, signal).catch(() => undefined);
    }
  }
}

async function ask<State extends { readonly revision: number }>(
  options: WishedStateOptions<State>,
  signal: AbortSignal,
): Promise<State | undefined> {
  const { client, path, waitMs, shape, have } = options;
  const reply = await client.request({
    method: "GET",
    path: `${path}?after=${have()}`,
    timeoutMs: waitMs + SLACK_MS,
    signal,
  });
  if (reply.status === 204) return undefined;
  try {
    return parseJson(reply.body.toString("utf8"), shape);
  } catch (cause) {
    throw new OsrError(LINK_ERRORS.REPLY_INVALID, `unexpected reply to ${path}`, { cause });
  }
}
