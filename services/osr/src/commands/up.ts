import { join, resolve } from "node:path";

import { must } from "@osr/base/assert";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import type { UpOptions } from "@osr/cli/program";

import { aborted } from "@osr/base/platform/interruption";
import { makeSite, rememberVault } from "../site/make-site.ts";
import type { SiteFolder } from "../site/site-folder.ts";
import type { Site } from "../site/site.ts";
import { startControlPlane } from "../up/control-plane.ts";
import { LeftRoles } from "../up/left-roles.ts";
import { RoleProcess } from "../up/role-process.ts";

type MadeSite = { readonly folder: SiteFolder; readonly site: Site };

/** `osr up`: makes the site the first time, runs its roles as child processes, ends them with Ctrl-C. */
export async function up(options: UpOptions, signal: AbortSignal): Promise<void> {
  const left = new LeftRoles(resolve(options.directory));
  await left.end(say);
  const made = await makeSite(options);
  const { folder, site } = made;
  const roles: RoleProcess[] = [];
  const start = async (name: string, configFile: string): Promise<void> => {
    const role = new RoleProcess({
      main: must(process.argv[1], "this process was started from a file"),
      words: [name, "run"],
      configFile,
      logFile: join(folder.root, `${name}.log`),
      left,
      say,
      clock: systemClock,
      scheduler: systemScheduler,
    });
    roles.push(role);
    await role.start();
  };
  try {
    await start("storage-account", folder.storageAccount.configFile);
    say(`storage account        https://${site.host}:${site.storageAccountPort}`);
    if (options.vault) await startWithVault(options, made, start, signal);
    else await startWithoutVault(options, made, start);
    say("ready; Ctrl-C ends the site");
    await aborted(signal);
  } finally {
    // In reverse, so that the process server can still upload what it has closed.
    for (const role of roles.toReversed()) await role.stop();
  }
}

async function startWithVault(
  options: UpOptions,
  made: MadeSite,
  start: (name: string, configFile: string) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { folder, site } = made;
  const { vaultId, contextsFile } = await startControlPlane(options, made, start, signal);
  rememberVault(folder, site, vaultId);
  say(`vault                  https://${options.host}:${options.vaultPort}`);
  say(`configuration server   https://${options.host}:${options.configurationServerPort}`);
  say(`process server         https://${site.host}:${site.processServerPort}`);
  sayKey(folder, vaultId);
  say("\nnext:");
  say(`  export OSR_CONTEXTS=${contextsFile}`);
  say("  osr fabric list");
  const config = join(folder.root, "configuration-server", "config.json");
  say(`  osr configuration-server token create --config ${config} --out web01.token`);
}

async function startWithoutVault(
  options: UpOptions,
  { folder, site }: MadeSite,
  start: (name: string, configFile: string) => Promise<void>,
): Promise<void> {
  await start("process-server", folder.processServer.configFile);
  say(`process server         https://${site.host}:${site.processServerPort}`);
  sayKey(folder, site.vaultId);
  say("\nnext:");
  say(
    `  osr mobility-service enrol NAME --site ${options.directory} --out NAME --process-server ${site.host}:${site.processServerPort}`,
  );
  say(`  osr repository points --site ${options.directory}`);
}

function sayKey(folder: SiteFolder, vaultId: string): void {
  say(`vault id               ${vaultId}`);
  say(
    `vault key              ${folder.vaultKeyFile} (keep a copy elsewhere: without it no data can be read)`,
  );
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
