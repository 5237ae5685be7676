import type { ErrorInfo } from "@osr/base/errors";
import { MINUTE_MS, formatDuration } from "@osr/base/units";
import type { HealthError } from "@osr/contracts/agent-protocol";

import { health } from "./machine-disk.ts";
import { MISSED_REASONS, MOBILITY_ERRORS } from "./mobility-errors.ts";
import { FREEZE_MS_MAX } from "./quiet-instant.ts";

/** Beyond this, times of points mislead people, and certificates may count as not valid yet or no more. */
export const CLOCK_SKEW_MS_MAX = 5 * MINUTE_MS;
/** A certificate is renewed at two thirds of its life; one that is older was not. */
const CERTIFICATE_SHARE_MAX = 2 / 3;

export type CertificateLife = { readonly fromUnixMs: number; readonly untilUnixMs: number };

/** What is wrong with the certificate by which this machine is known. */
export function certificateHealth(
  life: CertificateLife | undefined,
  nowUnixMs: number,
): readonly HealthError[] {
  if (life === undefined) return [];
  const leftMs = life.untilUnixMs - nowUnixMs;
  const renewedAtMs =
    life.fromUnixMs + (life.untilUnixMs - life.fromUnixMs) * CERTIFICATE_SHARE_MAX;
  if (nowUnixMs < renewedAtMs) return [];
  return leftMs > 0
    ? [
        health(
          MOBILITY_ERRORS.CERTIFICATE_EXPIRING,
          `it is valid for ${formatDuration(leftMs)} more`,
        ),
      ]
    : [health(MOBILITY_ERRORS.CERTIFICATE_EXPIRED, `it ended ${formatDuration(-leftMs)} ago`)];
}

/** A point was missed, with the remedy for its reason where there is one. */
export function missedHealth(reason: string, message: string): HealthError {
  const reasons: Readonly<Record<string, ErrorInfo>> = { ...MISSED_REASONS, ...MOBILITY_ERRORS };
  const { code, hint } = MOBILITY_ERRORS.POINT_MISSED;
  return health(
    { code, hint: reasons[reason]?.hint ?? hint, retryable: true },
    `${reason}: ${message}`,
  );
}

/** `skewMs`: this machine's clock less that of the process server. */
export function clockHealth(skewMs: number): readonly HealthError[] {
  if (Math.abs(skewMs) <= CLOCK_SKEW_MS_MAX) return [];
  const direction = skewMs > 0 ? "ahead of" : "behind";
  const message = `this clock is ${formatDuration(Math.abs(skewMs))} ${direction} the process server's`;
  return [health(MOBILITY_ERRORS.CLOCK_SKEWED, message)];
}

/** `frozenMs`: of the newest point. */
export function freezeHealth(frozenMs: number | undefined): readonly HealthError[] {
  if (frozenMs === undefined || frozenMs <= FREEZE_MS_MAX) return [];
  const message = `file systems were frozen for ${Math.round(frozenMs)} ms, more than ${FREEZE_MS_MAX}`;
  return [health(MOBILITY_ERRORS.FREEZE_LONG, message)];
}
