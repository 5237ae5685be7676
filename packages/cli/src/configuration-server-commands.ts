import { type Command, InvalidArgumentError, Option } from "commander";

import type { Output } from "./output.ts";
import type { Shown } from "./program.ts";

export type InitOptions = {
  readonly directory: string;
  readonly host: string;
  readonly port?: number;
  readonly name: readonly string[];
  readonly restore?: string;
  readonly siteSecret?: string;
};

type Configured = { readonly config: string };

export type RegisterOptions = Configured & {
  readonly credentials: string;
  readonly name: string;
  readonly fabricId?: string;
};

export type TokenOptions = Configured & {
  readonly role: "mobility-service" | "process-server" | "master-target";
  readonly id?: string;
  readonly address?: string;
  readonly validHours: number;
  readonly out: string;
};

export type AccountOptions = Configured & { readonly secretFile: string };

export type ProcessServerEnrolOptions = {
  readonly token: string;
  readonly out: string;
  readonly address: readonly string[];
};

/** What the commands of the configuration server do, and how a process server joins it. */
export type ConfigurationServerActions = {
  readonly init: (options: InitOptions) => Promise<Output>;
  readonly run: (options: Configured) => Promise<void>;
  readonly show: (options: Configured) => Promise<Output>;
  readonly register: (options: RegisterOptions) => Promise<Output>;
  readonly createToken: (options: TokenOptions) => Promise<Output>;
  readonly writeNewPassphrase: (options: Configured & { readonly out: string }) => Promise<Output>;
  readonly listRoles: (options: Configured) => Promise<Output>;
  readonly revokeRole: (id: string, options: Configured) => Promise<Output>;
  readonly addAccount: (name: string, options: AccountOptions) => Promise<Output>;
  readonly listAccounts: (options: Configured) => Promise<Output>;
  readonly removeAccount: (id: string, options: Configured) => Promise<Output>;
  readonly backup: (options: Configured & { readonly out: string }) => Promise<Output>;
  readonly enrolProcessServer: (options: ProcessServerEnrolOptions) => Promise<Output>;
};

const CONFIG_DEFAULT = "osr-configuration-server/config.json";

/** Adds `osr configuration-server …`. Secrets come from files and go to files, 0600. */
export function addConfigurationServer(
  program: Command,
  actions: ConfigurationServerActions,
  shown: Shown,
): void {
  const noun = program
    .command("configuration-server")
    .description(
      "the management server of a site: roles enrol with it, it alone talks to the vault",
    );
  const verb = (words: string, description: string, under: Command = noun): Command =>
    under
      .command(words)
      .description(description)
      .option("--config <file>", "its configuration", CONFIG_DEFAULT);
  addInit(noun, actions, shown);
  verb("run", "run the role").action(shown(actions.run));
  verb("show", "what roles need to know to join, and where it is registered").action(
    shown(actions.show),
  );
  verb("register", "register the site with a vault, or take it over there")
    .requiredOption("--credentials <file>", "the vault credentials file")
    .requiredOption("--name <name>", "what the vault calls the site")
    .option("--fabric-id <id>", "of a site that was registered by a lost configuration server")
    .action(shown(actions.register));
  verb("backup", "write all that another configuration server needs to take over; keep it safe")
    .requiredOption("--out <file>", "where to; must not exist yet")
    .action(shown(actions.backup));
  const token = noun.command("token").description("one-time tokens for roles that join");
  verb("create", "make a token", token)
    .addOption(
      new Option("--role <role>", "what joins with it")
        .choices(["mobility-service", "process-server", "master-target"])
        .default("mobility-service"),
    )
    .option("--id <id>", "of a role that was enrolled before and is to be the same one")
    .option("--address <host:port>", "how the role reaches the configuration server")
    .option("--valid-hours <hours>", "how long it is good", hours, 24)
    .requiredOption("--out <file>", "where to; must not exist yet")
    .action(shown(actions.createToken));
  const passphrase = noun
    .command("passphrase")
    .description("for agents that are enrolled in numbers");
  verb("new", "make a passphrase; the one before is refused from now on", passphrase)
    .requiredOption("--out <file>", "where to; must not exist yet")
    .action(shown(actions.writeNewPassphrase));
  const role = noun.command("role").description("agents, process servers and master targets");
  verb("list", "who has enrolled", role).action(shown(actions.listRoles));
  verb("revoke <id>", "its certificates are not accepted any more", role).action(
    shown(actions.revokeRole),
  );
  const account = noun.command("account").description("run-as accounts");
  verb("add <name>", "keep an account, sealed", account)
    .requiredOption("--secret-file <file>", "file with its password or private key")
    .action(shown(actions.addAccount));
  verb("list", "their names", account).action(shown(actions.listAccounts));
  verb("remove <id>", "forget an account", account).action(shown(actions.removeAccount));
}

function addInit(noun: Command, actions: ConfigurationServerActions, shown: Shown): void {
  noun
    .command("init")
    .description("make the site's secret and the configuration")
    .option("--directory <path>", "where to", "osr-configuration-server")
    .option("--host <address>", "address to listen on", "0.0.0.0")
    .option("--port <port>", "port; without it 443, or 4443 where that cannot be bound", port)
    .requiredOption("--name <address...>", "DNS names and IP addresses under which roles reach it")
    .option("--restore <file>", "a backup of the configuration server that is replaced")
    .option("--site-secret <file>", "the site's secret, where there is no backup")
    .action(shown(actions.init));
}

/** Adds `osr process-server enrol`. */
export function addProcessServerEnrolment(
  server: Command,
  actions: ConfigurationServerActions,
  shown: Shown,
): void {
  server
    .command("enrol")
    .description("join a configuration server")
    .requiredOption("--token <file>", "of `osr configuration-server token create`")
    .requiredOption("--out <file>", "file for its identity")
    .requiredOption("--address <address...>", "under which machines reach this process server")
    .action(shown(actions.enrolProcessServer));
}

function port(text: string): number {
  return whole(text, 1, 65_535);
}

function hours(text: string): number {
  return whole(text, 1, 24 * 365);
}

function whole(text: string, min: number, max: number): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isInteger(value) && value >= min && value <= max) return value;
  throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
}
