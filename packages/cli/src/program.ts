import { Command, InvalidArgumentError, Option } from "commander";

import { addCompletion } from "./completion.ts";
import {
  type ConfigurationServerActions,
  addConfigurationServer,
  addProcessServerEnrolment,
} from "./configuration-server-commands.ts";
import { EXIT_CODES_HELP } from "./exit-codes.ts";
import type { ManagementPorts } from "./management/management-ports.ts";
import { View } from "./management/view.ts";
import { OUTPUT_FORMATS, type Output, type OutputFormat, queried } from "./output.ts";
import { type VaultRoleActions, addVaultRole } from "./vault-role-commands.ts";

const EXAMPLES_HELP = `
Examples:
  osr up --directory site                       a whole site on this machine
  osr fabric list -o json                       what there is, for programs
  osr item list --query "[].name" -o tsv        one field of each
  osr item failover web01 --shut-down-source    run it at the recovery site
  source <(osr completion bash)                 words and options by Tab`;

/** What every command that reads a storage account is told; either a site folder or the rest. */
export type RepositoryOptions = {
  readonly site?: string;
  readonly storage?: string;
  readonly container?: string;
  readonly tokenFile?: string;
  readonly authority?: string;
  readonly vault?: string;
  readonly key?: string;
};

export type PointChoice = { readonly point: string; readonly machine?: string };

export type MaterialiseOptions = RepositoryOptions &
  PointChoice & { readonly disk: string; readonly out: string; readonly format: "raw" | "qcow2" };

export type ServeOptions = RepositoryOptions &
  PointChoice & { readonly disk?: string; readonly socketDirectory: string };

export type UpOptions = {
  readonly directory: string;
  readonly host: string;
  readonly processServerPort: number;
  readonly storageAccountPort: number;
  readonly vaultPort: number;
  readonly configurationServerPort: number;
  /** Further addresses under which machines reach the site, beside `host`. */
  readonly processServerName: readonly string[];
  /** False: storage account and process server alone; machines are enrolled by `osr mobility-service enrol --site`. */
  readonly vault: boolean;
};

export type DownOptions = {
  readonly directory: string;
  /** Id of the vault of the site that is to be deleted. */
  readonly delete?: string;
};

export type EnrolOptions = {
  readonly site: string;
  readonly out: string;
  /** In the order in which they are tried. */
  readonly processServer: readonly string[];
  readonly pointInterval: number;
};

export type FailoverTestOptions = RepositoryOptions &
  PointChoice & {
    readonly runDirectory: string;
    readonly network: string;
    readonly subnet: string;
    readonly gateway: string;
    readonly address?: string;
    readonly mac?: string;
    readonly memoryMib?: number;
    readonly move: boolean;
    readonly waitPort?: number;
  };

/** What the commands do. A result is printed in the chosen format; nothing is printed for undefined. */
export type Actions = {
  readonly up: (options: UpOptions) => Promise<void>;
  readonly down: (options: DownOptions) => Promise<Output>;
  readonly doctor: (options: { readonly directory: string }) => Promise<Output>;
  readonly replicaHostRun: (options: { readonly config: string }) => Promise<void>;
  readonly storageAccountRun: (options: { readonly config: string }) => Promise<void>;
  readonly configurationServer: ConfigurationServerActions;
  readonly vault: VaultRoleActions;
  readonly processServerRun: (options: { readonly config: string }) => Promise<void>;
  readonly mobilityServiceRun: (options: { readonly config: string }) => Promise<void>;
  readonly mobilityServiceStatus: (options: { readonly statusFile: string }) => Promise<Output>;
  readonly mobilityServiceEnrol: (name: string, options: EnrolOptions) => Promise<Output>;
  readonly repositoryPoints: (
    options: RepositoryOptions & { readonly machine?: string },
  ) => Promise<Output>;
  readonly repositoryVerify: (options: RepositoryOptions) => Promise<Output>;
  readonly repositoryMaterialise: (options: MaterialiseOptions) => Promise<Output>;
  readonly repositoryServe: (options: ServeOptions) => Promise<void>;
  readonly failoverTest: (options: FailoverTestOptions) => Promise<void>;
};

export type Print = (output: Output, format: OutputFormat) => void;

/** Options that every command takes. */
type GlobalOptions = {
  readonly output: OutputFormat;
  readonly query?: string;
  readonly context?: string;
};

/**
 * The `osr` command line: nouns and verbs as in az. `print` gets what an action returns. Where `words`, what was typed after
 * `osr`, name a noun of this machine, those of the vault are left out: to load them takes as long as to read a recovery point.
 */
export async function createProgram(
  actions: Actions,
  version: string,
  print: Print,
  ports: ManagementPorts,
  words: readonly string[],
): Promise<Command> {
  const program = new Command("osr")
    .description("Open Site Recovery: replicates machines to a second site and runs them there")
    .version(version)
    .addOption(
      new Option("-o, --output <format>", "how results are printed")
        .choices(OUTPUT_FORMATS)
        .default("table"),
    )
    .option("--query <expression>", "JMESPath: what of the result is printed, such as [].name")
    .option("--context <name>", "which vault to talk to; without it, the current context")
    .addHelpText("after", `${EXAMPLES_HELP}\n${EXIT_CODES_HELP}`)
    // -o, --query and --context go with every command, and nobody reads the help of the program for them.
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError("(run it with --help to see what it takes)")
    .showSuggestionAfterError();
  const shown: Shown =
    (action) =>
    async (...args) => {
      const result = await action(...args);
      if (result !== undefined) printResult(result, program.opts<GlobalOptions>(), print);
    };
  addSite(program, actions, shown);
  addRoles(program, actions, shown);
  addRepository(program, actions, shown);
  addFailover(program, actions, shown);
  if (!isOfThisMachine(nounOf(program, words), program)) {
    const { addManagement } = await import("./management/add-management.ts");
    addManagement(program, ports, shown, () => program.opts<GlobalOptions>().context);
  }
  addCompletion(program);
  return program;
}

/** Also the vault's management has something to say of a `vault`. */
function isOfThisMachine(noun: string | undefined, program: Command): boolean {
  return noun !== "vault" && program.commands.some((command) => command.name() === noun);
}

/** The first word that is neither an option of the program nor the value of one. */
function nounOf(program: Command, words: readonly string[]): string | undefined {
  for (let index = 0; index < words.length; index++) {
    const word = words[index];
    if (word?.startsWith("-") !== true) return word;
    const option = program.options.find(({ short, long }) => word === short || word === long);
    if (option?.required === true) index += 1;
  }
  return undefined;
}

/** A person reads the columns; programs and queries get everything. */
function printResult(result: Output | View, options: GlobalOptions, print: Print): void {
  const { output: format, query } = options;
  const full = result instanceof View ? result.full : result;
  const isForPerson = format === "table" || format === "tsv";
  if (query !== undefined) print(queried(full, query), format);
  else print(result instanceof View && isForPerson ? result.short : full, format);
}

/** An action whose result is printed in the chosen format. */
export type Shown = <Args extends unknown[]>(
  action: (...args: Args) => Promise<Output | View | void>,
) => (...args: Args) => Promise<void>;

const SITE_DEFAULT = "osr-site";

function addSite(program: Command, actions: Actions, shown: Shown): void {
  program
    .command("up")
    .description(
      "start a whole site on this machine; makes its keys and certificates the first time",
    )
    .option("--directory <path>", "the site folder", SITE_DEFAULT)
    .option("--host <address>", "address to listen on", "127.0.0.1")
    .option("--process-server-port <port>", "port for replication data", port, 9443)
    .option("--storage-account-port <port>", "port of the storage account", port, 10443)
    .option("--vault-port <port>", "port of the vault", port, 8443)
    .option("--configuration-server-port <port>", "port of the configuration server", port, 4443)
    .option(
      "--process-server-name <address...>",
      "further addresses under which machines reach the site; the last one is what they are told",
      [],
    )
    .option("--no-vault", "only a storage account and a process server, without a control plane")
    .action(shown(actions.up));
  program
    .command("down")
    .description("end the roles of a site that a killed `osr up` has left running")
    .option("--directory <path>", "the site folder", SITE_DEFAULT)
    .option(
      "--delete <vault-id>",
      "also delete the site for good: keys, replicated data, database; the id says that this one is meant",
    )
    .action(shown(actions.down));
  program
    .command("doctor")
    .description("what this machine can do for Open Site Recovery and what not, with reasons")
    .option("--directory <path>", "the site folder whose space is looked at", SITE_DEFAULT)
    .action(shown(actions.doctor));
}

function addRoles(program: Command, actions: Actions, shown: Shown): void {
  const storage = program.command("storage-account").description("the embedded storage account");
  storage
    .command("run")
    .description("run the role")
    .requiredOption("--config <file>", "its configuration")
    .action(shown(actions.storageAccountRun));
  const server = program.command("process-server").description("the replication gateway");
  server
    .command("run")
    .description("run the role")
    .requiredOption("--config <file>", "its configuration")
    .action(shown(actions.processServerRun));
  addProcessServerEnrolment(server, actions.configurationServer, shown);
  addConfigurationServer(program, actions.configurationServer, shown);
  addVaultRole(program, actions.vault, shown);
  program
    .command("replica-host")
    .description("runs failed-over machines for the vault")
    .command("run")
    .description("run the role")
    .requiredOption("--config <file>", "its configuration")
    .action(shown(actions.replicaHostRun));
  const agent = program.command("mobility-service").description("the agent in a protected machine");
  agent
    .command("run")
    .description("protect this machine")
    .requiredOption("--config <file>", "its configuration")
    .action(shown(actions.mobilityServiceRun));
  agent
    .command("status")
    .description("what the mobility service of this machine is doing")
    .option("--status-file <path>", "where it writes its status", "/run/osr/status.json")
    .action(shown(actions.mobilityServiceStatus));
  agent
    .command("enrol <name>")
    .description("make the configuration and certificate of a machine, to be copied to it")
    .option("--site <path>", "the site folder", SITE_DEFAULT)
    .requiredOption("--out <path>", "folder for the files; must not exist yet")
    .requiredOption(
      "--process-server <host:port...>",
      "process servers as the machine reaches them; the next is used when one is away for a minute",
    )
    .option("--point-interval <seconds>", "seconds between recovery points", seconds, 300)
    .action(shown(actions.mobilityServiceEnrol));
}

function addRepository(program: Command, actions: Actions, shown: Shown): void {
  const repository = program
    .command("repository")
    .description(
      "recovery points in the storage account; needs no server, only the account and the key",
    );
  withRepository(repository.command("points"))
    .description("list the recovery points")
    .option("--machine <id>", "only those of one machine or replication group")
    .action(shown(actions.repositoryPoints));
  withRepository(repository.command("verify"))
    .description(
      "check every object: checksums and hashes, and with the key also what is encrypted",
    )
    .action(shown(actions.repositoryVerify));
  withPoint(withRepository(repository.command("materialise")))
    .description("write a disk as it was at a recovery point")
    .requiredOption("--disk <name>", "name or id of the disk")
    .requiredOption("--out <path>", "file or block device to write")
    .addOption(new Option("--format <format>", "").choices(["raw", "qcow2"]).default("raw"))
    .action(shown(actions.repositoryMaterialise));
  withPoint(withRepository(repository.command("serve")))
    .description("serve disks as they were at a recovery point over NBD, until Ctrl-C")
    .option("--disk <name>", "only this disk")
    .option("--socket-directory <path>", "folder for the unix sockets, one a disk", "osr-nbd")
    .action(shown(actions.repositoryServe));
}

function addFailover(program: Command, actions: Actions, shown: Shown): void {
  const failover = program.command("failover").description("run machines from recovery points");
  withPoint(withRepository(failover.command("test")))
    .description("test failover: boot a machine in an isolated network, until Ctrl-C cleans it up")
    .option("--run-directory <path>", "folder for overlays and sockets", "osr-failover")
    .option("--network <name>", "name of the test network", "test")
    .option("--subnet <cidr>", "its subnet", "10.0.2.0/24")
    .option("--gateway <address>", "its gateway", "10.0.2.2")
    .option("--address <address>", "fixed address of the machine")
    .option("--mac <mac>", "fixed MAC of the machine's network card")
    .option("--memory-mib <mib>", "memory, if not that of the source", positive)
    .option("--move", "move the disks to local storage behind the running machine", false)
    .option("--wait-port <port>", "wait until this TCP port of the machine answers", port)
    .action(shown(actions.failoverTest));
}

function withRepository(command: Command): Command {
  return command
    .option("--site <path>", "site folder to take everything from")
    .option("--storage <url|path>", "the storage account: an https address or a directory")
    .option("--container <name>", "container in the account", "osr")
    .option("--token-file <path>", "file with a bearer token or SAS for reading")
    .option("--authority <path>", "file with the CA certificate of the account")
    .option("--vault <id>", "id of the vault")
    .option("--key <path>", "file with the vault key");
}

function withPoint(command: Command): Command {
  return command
    .requiredOption("--point <slot|latest>", "the recovery point: its slot, or latest")
    .option("--machine <id>", "id of the machine, where the account holds several");
}

function port(text: string): number {
  return whole(text, 0, 65_535);
}

function positive(text: string): number {
  return whole(text, 1, 2 ** 31);
}

function seconds(text: string): number {
  return whole(text, 15, 86_400);
}

function whole(text: string, min: number, max: number): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isInteger(value) || value < min || value > max)
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  return value;
}
