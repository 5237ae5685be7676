import { copyFile, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { SECOND_MS } from "@osr/base/units";

import { runCommand } from "../../rig/commands.ts";
import { OSR } from "../../rig/site.ts";
import { type ControlPlane, until, withoutRole } from "./control-plane.ts";
import { seconds } from "./disturbed-round.ts";
import { postmasterPid } from "./disturbance.ts";
import type { RealMachine } from "./real-machine.ts";
import { itemPath } from "./workflows.ts";

const REBUILD_MS_MAX = 120 * SECOND_MS;
const GONE_MS_MAX = 30 * SECOND_MS;

/** The vault is lost with its database and its authority's key. What the storage account and the vault key hold is enough. */
export async function vaultRebuilt(plane: ControlPlane, real: RealMachine): Promise<void> {
  const { site, api, context } = plane;
  const { narrator, check, figure } = context;
  const configuration = site.configurationOf("vault");
  const folder = dirname(configuration);
  const pointsBefore = await api.list(`${itemPath(plane, real.name)}/recoveryPoints`);
  let rebuiltSeconds = 0;
  await narrator.step("a lost vault is rebuilt from the storage account", () =>
    withoutRole(plane, "vault", async () => {
      const postmaster = await postmasterPid(site.directory);
      process.kill(postmaster, "SIGKILL");
      await until("PostgreSQL is gone", async () => !(await isRunning(postmaster)), GONE_MS_MAX);
      // Its children hold the folder a little longer.
      await wait(3 * SECOND_MS);
      for (const name of await readdir(folder))
        if (!name.startsWith("config.json")) await rm(join(folder, name), { recursive: true });
      // Another name, so that nobody starts the vault yet.
      const other = join(folder, "rebuild.json");
      await copyFile(`${configuration}.away`, other);
      const begin = performance.now();
      await runCommand(process.execPath, [OSR, "vault", "rebuild", "--config", other], {
        timeoutMs: REBUILD_MS_MAX,
      });
      rebuiltSeconds = seconds(performance.now() - begin);
      await runCommand(
        process.execPath,
        [
          [OSR, "token", "create", "--config", other, "--name", "administrator", "--role", "Owner"],
          ["--out", join(site.directory, "secrets", "administrator.token")],
        ].flat(),
        { timeoutMs: REBUILD_MS_MAX },
      );
      await rm(other);
    }),
  );
  const item = await api.get(itemPath(plane, real.name));
  check(
    "vault rebuilt: it knows its machine again",
    item?.properties.friendlyName !== undefined,
    `${item?.properties.friendlyName}: ${item?.properties.protectionState}`,
  );
  const points = await api.list(`${itemPath(plane, real.name)}/recoveryPoints`);
  const known = new Set(points.map(({ name }) => name));
  const lost = pointsBefore.filter(({ name }) => !known.has(name));
  check(
    "vault rebuilt: it knows every recovery point again",
    points.length >= pointsBefore.length && lost.length === 0,
    `${points.length}, ${pointsBefore.length} before`,
  );
  await real.check("vault rebuilt");
  await until("the machine is well known", async () => {
    const { properties } = await api.get(itemPath(plane, real.name));
    return properties.protectionState === "Protected" && properties.replicationHealth === "Normal";
  })
    .then(() => "Protected, Normal")
    .catch(String)
    .then((said) =>
      check("vault rebuilt: the fabric reports to it again", !said.includes("RIG"), said),
    );
  figure("vault rebuilt", { rebuiltSeconds });
}

async function isRunning(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
