import { OsrError, defineErrors, messageOf } from "@osr/base/errors";

import { forgetState } from "./forget-state.ts";
import { runMobilityService } from "./run-mobility-service.ts";
import { printStatus } from "./print-status.ts";

const ERRORS = defineErrors({
  USAGE: {
    retryable: false,
    hint: "osr-mobility-service run [--config FILE] | status [--config FILE] [--json] | forget [--config FILE]",
  },
});

const CONFIGURATION_DEFAULT = "/etc/osr/mobility-service.json";

const HELP = `usage: osr-mobility-service run [--config FILE]
       osr-mobility-service status [--config FILE] [--json]
       osr-mobility-service forget [--config FILE]

The mobility service of Open Site Recovery: replicates the disks of this machine to its process server.

  run            protect this machine, until SIGTERM
  status         what the running service says of itself; exit code 1 where it is not well
  forget         remove what a killed service left for its successor, as before uninstalling it
  --config FILE  its configuration, by default ${CONFIGURATION_DEFAULT}; \`osr mobility-service enrol\` writes it
  --json         as JSON
`;

type Command = { readonly verb: string; readonly configuration: string; readonly json: boolean };

/** Runs one command; returns the exit code: 0 well, 1 failed or not well, 2 wrong use or configuration. */
export async function runCommand(words: readonly string[]): Promise<number> {
  if (words.includes("--help") || words.includes("-h")) {
    process.stdout.write(HELP);
    return 0;
  }
  try {
    const { verb, configuration, json } = commandOf(words);
    if (verb === "status") return printStatus(configuration, json);
    if (verb === "forget") forgetState(configuration);
    else await runMobilityService(configuration);
    return 0;
  } catch (error) {
    const code = error instanceof OsrError ? error.code : "INTERNAL";
    const remedy = error instanceof OsrError ? `\n  remedy: ${error.hint}` : "";
    process.stderr.write(`${code}: ${messageOf(error)}${remedy}\n`);
    return code === "USAGE" || code === "CONFIGURATION_INVALID" ? 2 : 1;
  }
}

function commandOf(words: readonly string[]): Command {
  const [verb, ...rest] = words;
  if (verb !== "run" && verb !== "status" && verb !== "forget")
    throw new OsrError(ERRORS.USAGE, `no such command: ${verb ?? "none was given"}`);
  let configuration = CONFIGURATION_DEFAULT;
  let json = false;
  for (let index = 0; index < rest.length; index++) {
    const word = rest[index];
    if (word === "--json" && verb === "status") json = true;
    else if (word === "--config" && rest[index + 1] !== undefined)
      configuration = rest[++index] ?? configuration;
    else throw new OsrError(ERRORS.USAGE, `no such option, or its value is missing: ${word}`);
  }
  return { verb, configuration, json };
}
