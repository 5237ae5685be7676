import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import type { Narrator } from "../rig/narrator.ts";
import { RIG_ERRORS } from "../rig/rig-errors.ts";
import type { Site } from "../rig/site.ts";

const POLICY = "gold";
const REGISTERED_MS_MAX = 2 * MINUTE_MS;

/**
 * Enables replication of the only machine that the site knows, as an administrator does it: a policy, its association, the
 * item. Gives the machine's id.
 */
export async function enableReplication(
  site: Site,
  options: {
    readonly item: string;
    readonly pointIntervalSeconds: number;
    readonly narrator: Narrator;
    readonly signal: AbortSignal;
  },
): Promise<string> {
  const { item, pointIntervalSeconds, narrator, signal } = options;
  const machine = await narrator.step("waiting for the machine to register", () =>
    registered(site, signal),
  );
  const minutes = String(pointIntervalSeconds / 60);
  await narrator.step("creating a replication policy", async () => {
    const settings = ["--crash-minutes", minutes, "--app-minutes", "0"];
    await site.manage(["policy", "create", POLICY, ...settings], signal);
    await site.manage(["policy", "associate", POLICY], signal);
  });
  await narrator.step("enabling replication", () =>
    site.manage(["item", "enable", machine, "--policy", POLICY, "--as", item], signal),
  );
  return machine;
}

async function registered(site: Site, signal: AbortSignal): Promise<string> {
  for (const end = performance.now() + REGISTERED_MS_MAX; performance.now() < end;) {
    const machines = (await site.manage(["fabric", "machines"], signal)) as { name: string }[];
    const [machine] = machines;
    if (machine !== undefined) return machine.name;
    await wait(SECOND_MS, undefined, { signal });
  }
  throw new OsrError(RIG_ERRORS.RIG_TIMEOUT, "the machine did not register with the site");
}
