import { OsrError, defineErrors, messageOf } from "@osr/base/errors";

import { type EnrolWords, enrolMachine } from "./enrol.ts";
import { forgetState } from "./forget-state.ts";
import { runMobilityService } from "./run-mobility-service.ts";
import { printStatus } from "./print-status.ts";

const ERRORS = defineErrors({
  USAGE: {
    retryable: false,
    hint: "osr-mobility-service run [--config FILE] | status [--config FILE] [--json] | forget [--config FILE] | enrol --token FILE",
  },
});

const CONFIGURATION_DEFAULT = "/etc/osr/mobility-service.json";

const STATE_DEFAULT = "/var/lib/osr";

const HELP = `usage: osr-mobility-service run [--config FILE]
       osr-mobility-service status [--config FILE] [--json]
       osr-mobility-service forget [--config FILE]
       osr-mobility-service enrol --token FILE [--configuration-server HOST:PORT]
       osr-mobility-service enrol --passphrase-file FILE --configuration-server HOST:PORT --authority-fingerprint HEX

The mobility service of Open Site Recovery: replicates the disks of this machine to its process server.

  run            protect this machine, until SIGTERM
  status         what the running service says of itself; exit code 1 where it is not well
  forget         remove what a killed service left for its successor, as before uninstalling it
  enrol          join a configuration server, which says from then on what is to be done; --state DIRECTORY for the
                 machine's identity, by default ${STATE_DEFAULT}; the configuration file is made or changed
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
    if (words[0] === "enrol") {
      await enrolMachine(enrolWords(words.slice(1)));
      return 0;
    }
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

const ENROL_OPTIONS = {
  "--token": "token",
  "--passphrase-file": "passphraseFile",
  "--configuration-server": "configurationServer",
  "--authority-fingerprint": "authorityFingerprint",
  "--state": "state",
  "--config": "config",
} as const;

function enrolWords(words: readonly string[]): EnrolWords {
  const found: { -readonly [Key in keyof EnrolWords]: EnrolWords[Key] } = {
    state: STATE_DEFAULT,
    config: CONFIGURATION_DEFAULT,
  };
  for (let index = 0; index < words.length; index += 2) {
    const [word = "", value] = words.slice(index, index + 2);
    const name = Object.entries(ENROL_OPTIONS).find(([option]) => option === word)?.[1];
    if (name === undefined || value === undefined)
      throw new OsrError(ERRORS.USAGE, `no such option, or its value is missing: ${word}`);
    found[name] = value;
  }
  return found;
}
