import { copyFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";

import { must } from "@osr/base/assert";
import { MINUTE_MS } from "@osr/base/units";

import { runCommand } from "../../rig/commands.ts";
import { HOST_ADDRESS } from "../../rig/machine.ts";
import { OSR } from "../../rig/site.ts";
import { SiteState } from "../../rig/site-state.ts";
import { type ControlPlane, until } from "./control-plane.ts";
import { seconds } from "./disturbed-round.ts";
import type { RealMachine } from "./real-machine.ts";

/** The configuration server is lost with its state. A new one has the site's secret and nothing else, and takes over the fabric with all its roles. */
export async function serverReplaced(plane: ControlPlane, real: RealMachine): Promise<void> {
  const { site, api, context } = plane;
  const { narrator, check, figure, folder } = context;
  const before = await SiteState.read(site);
  const [fabric] = await api.list("/replicationFabrics");
  const fabricId = must(fabric.properties.internalIdentifier, "the fabric's id") as string;
  const lostFolder = dirname(site.configurationOf("configuration-server"));
  const kept = join(await folder.folder("kept"), "site.secret");
  await copyFile(join(lostFolder, "site.secret"), kept);
  const pid = must(await site.rolePid("configuration-server"), "the configuration server runs");
  const begin = performance.now();
  await narrator.step("a new configuration server in the place of the lost one", async () => {
    // First the folder, so that nobody starts the old one again.
    await rm(lostFolder, { recursive: true });
    process.kill(pid, "SIGKILL");
    await runCommand(
      process.execPath,
      [
        [OSR, "configuration-server", "init", "--directory", lostFolder, "--site-secret", kept],
        ["--host", "127.0.0.1", "--port", String(site.configurationServerPort)],
        ["--name", "127.0.0.1", HOST_ADDRESS],
      ].flat(),
      { timeoutMs: MINUTE_MS },
    );
    const credentials = join(await folder.folder("kept"), "vault.credentials");
    await site.administer("vault", ["vault", "credentials", "--out", credentials]);
    await site.administer("configuration-server", [
      "configuration-server",
      "register",
      "--credentials",
      credentials,
      "--name",
      fabric.name,
      "--fabric-id",
      fabricId,
    ]);
    await until("the new one knows what the vault wishes", async () => {
      const now = await SiteState.read(site);
      return now.wish(real.id)?.isProtected === true && now.machines.length > 0;
    });
  });
  const takenSeconds = seconds(performance.now() - begin);
  await real.check("configuration server replaced");
  const after = await SiteState.read(site);
  check(
    "configuration server replaced: the new one has the machine and its keys",
    JSON.stringify(after.wish(real.id)?.grant) === JSON.stringify(before.wish(real.id)?.grant) &&
      after.machines.some(({ machineId, registration }) => machineId === real.id && registration),
    `${after.machines.length} machines, ${before.machines.length} before; revision ${after.revision}, ${before.revision} before`,
  );
  const fabrics = await api.list("/replicationFabrics");
  check(
    "configuration server replaced: the vault has one fabric, the same",
    fabrics.length === 1 && fabrics[0].properties.internalIdentifier === fabricId,
    fabrics.map(({ name }) => name).join(),
  );
  figure("configuration server replaced", { takenSeconds });
}
