import { type Command, InvalidArgumentError, Option } from "commander";

import type { Output } from "./output.ts";
import type { Shown } from "./program.ts";

type Configured = { readonly config: string };

export type TokenCreateOptions = Configured & {
  readonly name: string;
  readonly role: string;
  readonly scope: string;
  readonly hours: number;
  readonly out: string;
};

export type RoleAssignOptions = Configured & { readonly role: string; readonly scope: string };

export type CredentialsOptions = Configured & {
  readonly out: string;
  readonly vault?: string;
  readonly url?: string;
};

/** What of the configuration is to be taken from elsewhere. */
export type RebuildOptions = Configured & {
  readonly storage?: string;
  readonly container?: string;
  readonly tokenFile?: string;
  readonly authority?: string;
  readonly key?: string;
};

export type BackupOptions = Configured & { readonly out: string };
export type RestoreOptions = Configured & { readonly from: string };

/** What is done where the vault runs, with its configuration instead of a token. */
export type VaultRoleActions = {
  readonly run: (options: Configured) => Promise<void>;
  readonly credentials: (options: CredentialsOptions) => Promise<Output>;
  readonly rebuild: (options: RebuildOptions) => Promise<Output>;
  readonly backup: (options: BackupOptions) => Promise<Output>;
  readonly restore: (options: RestoreOptions) => Promise<Output>;
  readonly createToken: (options: TokenCreateOptions) => Promise<Output>;
  readonly listTokens: (options: Configured) => Promise<Output>;
  readonly revokeToken: (id: string, options: Configured) => Promise<Output>;
  readonly assignRole: (token: string, options: RoleAssignOptions) => Promise<Output>;
  readonly listRoles: (options: Configured) => Promise<Output>;
};

const CONFIG_DEFAULT = "osr-vault/config.json";
const ROLES = [
  "Owner",
  "Site Recovery Contributor",
  "Site Recovery Operator",
  "Site Recovery Reader",
];
const HOURS_MAX = 10 * 365 * 24;

/** Adds `osr vault run|credentials|rebuild`, `osr token …` and `osr role …`. Secrets go to files, 0600. */
export function addVaultRole(program: Command, actions: VaultRoleActions, shown: Shown): void {
  const vault = program.command("vault").description("the control plane at the recovery site");
  const token = program.command("token").description("bearer tokens for the vault's API");
  const role = program.command("role").description("what tokens may do, and where");
  const verb = (under: Command, words: string, description: string): Command =>
    under
      .command(words)
      .description(description)
      .option("--config <file>", "the vault's configuration", CONFIG_DEFAULT);
  verb(vault, "run", "run the role").action(shown(actions.run));
  verb(vault, "credentials", "make a file with which one configuration server may register")
    .requiredOption("--out <file>", "where it goes; it is a secret")
    .option("--vault <name>", "which vault, where there is more than one")
    .option("--url <url>", "the vault as the configuration server reaches it")
    .action(shown(actions.credentials));
  verb(vault, "rebuild", "make the vault anew from the storage account, on an empty database")
    .option("--storage <url>", "the storage account, if not the configuration's")
    .option("--container <name>", "its container")
    .option("--token-file <path>", "file with the maintainer's token or SAS")
    .option("--authority <path>", "file with the CA certificate of the account")
    .option("--key <path>", "file with the vault key, if not the configuration's")
    .action(shown(actions.rebuild));
  verb(vault, "backup", "write the vault's database to a file, while it works")
    .requiredOption("--out <file>", "where it goes; it is a secret")
    .action(shown(actions.backup));
  verb(vault, "restore", "put a backup into a database that has no vault yet")
    .requiredOption("--from <file>", "what `osr vault backup` has written")
    .action(shown(actions.restore));
  withRole(verb(token, "create", "make a token and give it a role"))
    .requiredOption("--name <name>", "whose it is; shown in the audit log")
    .requiredOption("--out <file>", "where it goes; it is a secret and is not shown again")
    .option("--hours <hours>", "how long it is good", hours, 30 * 24)
    .action(shown(actions.createToken));
  verb(token, "list", "tokens with their expiry").action(shown(actions.listTokens));
  verb(token, "revoke <id>", "end a token at once").action(shown(actions.revokeToken));
  withRole(verb(role, "assign <token-id>", "give a token one more role")).action(
    shown(actions.assignRole),
  );
  verb(role, "list", "who may do what, where").action(shown(actions.listRoles));
}

function withRole(command: Command): Command {
  return command
    .addOption(new Option("--role <role>", "what it allows").choices(ROLES).makeOptionMandatory())
    .option("--scope <path>", "at and below this ARM path", "/");
}

function hours(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > HOURS_MAX)
    throw new InvalidArgumentError(`a whole number from 1 to ${HOURS_MAX}`);
  return value;
}
