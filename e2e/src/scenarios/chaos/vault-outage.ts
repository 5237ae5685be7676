import { setTimeout as wait } from "node:timers/promises";

import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { SiteState } from "../../rig/site-state.ts";
import type { Body } from "../../rig/vault-api.ts";
import { type ControlPlane, POINT_SECONDS, killRole, until, withoutRole } from "./control-plane.ts";
import { seconds } from "./disturbed-round.ts";
import type { RealMachine } from "./real-machine.ts";
import { itemPath } from "./workflows.ts";

const OUTAGE_MS = 10 * MINUTE_MS;
const OUTAGE_SHORT_MS = 2 * MINUTE_MS;
const SLOT_MS = 15 * SECOND_MS;
/** Of the points that are due, so many must be there: those that fall into the restart of the process server are missed. */
const POINTS_SHARE_MIN = 0.8;
const GAP_MS_MAX = 2 * MINUTE_MS;
const RECONCILED_MS_MAX = MINUTE_MS;

/** The vault is away for ten minutes, and the process server is killed meanwhile: it has its keys from the configuration server, and points go on. */
export async function vaultOutage(plane: ControlPlane, real: RealMachine): Promise<void> {
  const { narrator, signal, check, figure, isShort } = plane.context;
  const outageMs = isShort ? OUTAGE_SHORT_MS : OUTAGE_MS;
  let begin = 0;
  let end = 0;
  let restartMs = 0;
  const backMs = await narrator.step(`outage of the vault, ${outageMs / SECOND_MS} s`, () =>
    withoutRole(plane, "vault", async () => {
      begin = Date.now();
      await wait(outageMs / 3, undefined, { signal });
      restartMs = await killRole(plane, "process-server");
      await wait(outageMs - (Date.now() - begin), undefined, { signal });
      end = Date.now();
    }),
  );
  const slots = (await real.slots()).filter(
    (slot) => slot * SLOT_MS > begin && slot * SLOT_MS <= end,
  );
  const due = Math.floor((end - begin) / SECOND_MS / POINT_SECONDS);
  check(
    "outage of the vault: recovery points went on in the storage account",
    slots.length >= due * POINTS_SHARE_MIN,
    `${slots.length} of ${due} that were due in ${seconds(end - begin)} s`,
  );
  const times = [begin, ...slots.map((slot) => slot * SLOT_MS), end];
  const gapMs = Math.max(...times.slice(1).map((time, n) => time - (times[n] ?? 0)));
  check(
    "outage of the vault: also after the process server was killed",
    gapMs <= GAP_MS_MAX,
    `it ran again after ${seconds(restartMs)} s, and the longest time without a point was ${seconds(gapMs)} s`,
  );
  await real.check("outage of the vault");
  await reconciled(plane, real);
  figure("outage of the vault", {
    seconds: seconds(end - begin),
    points: slots.length,
    longestGapSeconds: seconds(gapMs),
    vaultBackSeconds: seconds(backMs),
  });
}

/** The vault knows of every point, calls the machine well, and its wish is what the configuration server works with. */
async function reconciled(plane: ControlPlane, real: RealMachine): Promise<void> {
  const { api, site, context } = plane;
  const begin = performance.now();
  const look = async (): Promise<string> => {
    const stored = await real.slots();
    const listed = await api.list(`${itemPath(plane, real.name)}/recoveryPoints`);
    const { properties } = await api.get(itemPath(plane, real.name));
    const [server] = await api.list("/replicationFabrics");
    const warnings = server.properties.healthErrorDetails.map(({ errorCode }: Body) => errorCode);
    const health = properties.replicationHealth;
    const isWell =
      listed.length >= stored.length &&
      properties.protectionState === "Protected" &&
      health === "Normal";
    const said = `${listed.length} points listed, ${stored.length} stored; ${properties.protectionState}, ${health}; fabric ${server.properties.health} ${warnings.join()}; revision ${(await SiteState.read(site)).revision}`;
    return isWell ? said : `not yet: ${said}`;
  };
  let said = "";
  await until(
    "all is reconciled",
    async () => {
      said = await look();
      return !said.startsWith("not yet");
    },
    RECONCILED_MS_MAX,
  ).catch(() => undefined);
  context.check(
    "outage of the vault: everything is reconciled afterwards",
    !said.startsWith("not yet"),
    `${said}, after ${seconds(performance.now() - begin)} s`,
  );
}
