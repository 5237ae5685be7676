import { existsSync, readdirSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";

import type { Output } from "@osr/cli/output";
import type { DownOptions } from "@osr/cli/program";
import { OsrError, defineErrors } from "@osr/base/errors";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { isUuid } from "@osr/base/uuid";
import { deleteEmbeddedPostgres } from "@osr/postgres/embedded-postgres";

import { replicaFolder } from "../replicas/replica-folder.ts";
import { readSite } from "../site/site.ts";
import { LeftRoles } from "../up/left-roles.ts";

const ERRORS = defineErrors({
  SITE_IS_ANOTHER: {
    retryable: false,
    hint: "Give the id of the vault whose site is to be deleted; `site.json` in its folder has it.",
  },
  SITE_HAS_MACHINES: {
    retryable: false,
    hint: "Failed-over machines live in the site. Delete them first: clean up test failovers, cancel failovers, or delete the machines in the vault.",
  },
});

/**
 * `osr down`: ends roles that a killed `osr up` has left running. With `delete`, the site is deleted for good, wherever it has data:
 * keys, replicated data, database. Throws SITE_RUNS, SITE_IS_ANOTHER, SITE_HAS_MACHINES, with nothing deleted.
 */
export async function down(options: DownOptions): Promise<Output> {
  const root = resolve(options.directory);
  const { site } = readSite(root);
  const vaultId = options.delete;
  if (vaultId !== undefined && vaultId !== site.vaultId)
    throw new OsrError(ERRORS.SITE_IS_ANOTHER, `${root} is the site of vault ${site.vaultId}`);
  const replicas = replicaFolder(root);
  const machines = vaultId === undefined ? 0 : machinesIn(replicas);
  if (machines > 0)
    throw new OsrError(ERRORS.SITE_HAS_MACHINES, `${machines} machine(s) in ${replicas}`);
  const ended: string[] = [];
  await new LeftRoles(root).end((line) => void ended.push(line));
  if (vaultId !== undefined) {
    await deleteEmbeddedPostgres({
      folder: join(root, "vault", "postgres"),
      scheduler: systemScheduler,
    });
    for (const path of [replicas, root]) rmSync(path, { recursive: true, force: true });
  }
  return { site: root, ended, deleted: vaultId !== undefined };
}

function machinesIn(replicas: string): number {
  if (!existsSync(replicas)) return 0;
  const vaults = readdirSync(replicas, { withFileTypes: true }).filter((one) => one.isDirectory());
  return vaults
    .map(({ name }) => join(replicas, name, "machines"))
    .filter(existsSync)
    .flatMap((folder) => readdirSync(folder).filter(isUuid)).length;
}
