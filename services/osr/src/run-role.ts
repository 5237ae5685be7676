import type { Service } from "@osr/base/service";

import { aborted } from "@osr/base/platform/interruption";

/**
 * Runs a role until it ends by itself or `signal` stops it. Says on the standard output, in one line, that it listens:
 * `osr up` and other supervisors wait for that line.
 */
export async function runRole(
  role: Service,
  ready: Promise<object>,
  signal: AbortSignal,
): Promise<void> {
  const running = role.run();
  void aborted(signal).then(() => role.stop());
  const facts = await Promise.race([ready, running.then(() => undefined)]);
  if (facts !== undefined) process.stdout.write(`${JSON.stringify({ ready: true, ...facts })}\n`);
  await running;
}
