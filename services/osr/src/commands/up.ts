import { join } from "node:path";

import type { UpOptions } from "@osr/cli/program";

import { aborted } from "../interruption.ts";
import { makeSite } from "../site/make-site.ts";
import { RoleProcess } from "../up/role-process.ts";

/** `osr up`: makes the site the first time, runs its roles as child processes, ends them with Ctrl-C. */
export async function up(options: UpOptions, signal: AbortSignal): Promise<void> {
  const { folder, site } = await makeSite(options);
  const say = (line: string): void => {
    process.stdout.write(`${line}\n`);
  };
  const role = (name: string, configFile: string): RoleProcess =>
    new RoleProcess({
      words: [name, "run"],
      configFile,
      logFile: join(folder.root, `${name}.log`),
      say,
    });
  const storageAccount = role("storage-account", folder.storageAccount.configFile);
  const processServer = role("process-server", folder.processServer.configFile);
  try {
    await storageAccount.start();
    say(`storage account   https://${site.host}:${site.storageAccountPort}`);
    await processServer.start();
    say(`process server    https://${site.host}:${site.processServerPort}`);
    say(`vault             ${site.vaultId}`);
    say(
      `vault key         ${folder.vaultKeyFile} (keep a copy elsewhere: without it no data can be read)`,
    );
    say("\nnext:");
    say(
      `  osr mobility-service enrol NAME --site ${options.directory} --out NAME --process-server ${site.host}:${site.processServerPort}`,
    );
    say(`  osr repository points --site ${options.directory}`);
    say("ready; Ctrl-C ends the site");
    await aborted(signal);
  } finally {
    // The process server first, so that it can still upload what it has closed.
    await processServer.stop();
    await storageAccount.stop();
  }
}
