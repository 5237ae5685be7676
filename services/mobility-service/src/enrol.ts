import { readFileSync } from "node:fs";

import { OsrError, defineErrors, systemErrorCode } from "@osr/base/errors";
import { parseJson } from "@osr/base/json-shape";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { isUuid } from "@osr/base/uuid";
import { enrolmentTokenShape } from "@osr/contracts/enrolment";
import { type EnrolmentOptions, enrolRole } from "@osr/control-link/enrolment-client";
import { identityFile } from "@osr/control-link/role-identity";
import { readGivenFile, writeSecretFile } from "@osr/control-link/secret-file";

import { machineAddresses } from "./configuration-server-link.ts";
import { machineFacts } from "./machine-facts.ts";

const ERRORS = defineErrors({
  USAGE: {
    retryable: false,
    hint: "osr-mobility-service enrol (--token FILE | --passphrase-file FILE --configuration-server HOST:PORT --authority-fingerprint HEX) [--state DIRECTORY] [--config FILE]",
  },
  TOKEN_FOR_ANOTHER: {
    retryable: false,
    hint: "Make a token with `osr configuration-server token create --role mobility-service`.",
  },
});

export type EnrolWords = {
  readonly token?: string | undefined;
  readonly passphraseFile?: string | undefined;
  readonly configurationServer?: string | undefined;
  readonly authorityFingerprint?: string | undefined;
  /** Folder of the identity; the service keeps its settings there, too. */
  readonly state: string;
  readonly config: string;
};

/** Enrols this machine, and writes its identity (0600) and a configuration that names it. */
export async function enrolMachine(words: EnrolWords): Promise<void> {
  const machine = machineFacts();
  const identity = await enrolRole(
    {
      ...secretOf(words),
      role: "mobility-service",
      hostName: machine.hostName,
      biosUuid: machine.biosUuid,
      addresses: machineAddresses(),
    },
    { scheduler: systemScheduler, randomness: systemRandomness },
  );
  const enrolmentFile = `${words.state}/enrolment.json`;
  identityFile(enrolmentFile).write(identity);
  const configuration = { ...kept(words.config), enrolmentFile };
  writeSecretFile(words.config, `${JSON.stringify(configuration, null, 2)}\n`);
  process.stdout.write(
    `enrolled as ${identity.id} with ${identity.configurationServer}\n` +
      `identity       ${enrolmentFile}\nconfiguration  ${words.config}\n`,
  );
}

type Secret = Pick<
  EnrolmentOptions,
  "configurationServer" | "authorityFingerprint" | "secret" | "id"
>;

function secretOf(words: EnrolWords): Secret {
  if (words.token !== undefined) {
    const token = parseJson(readGivenFile(words.token), enrolmentTokenShape);
    if (token.role !== "mobility-service")
      throw new OsrError(ERRORS.TOKEN_FOR_ANOTHER, `the token is for a ${token.role}`);
    return {
      configurationServer: words.configurationServer ?? token.configurationServer,
      authorityFingerprint: words.authorityFingerprint ?? token.authorityFingerprint,
      secret: { kind: "token", tokenId: token.tokenId, secret: token.token },
      ...(isUuid(token.id) ? { id: token.id } : {}),
    };
  }
  const { passphraseFile, configurationServer, authorityFingerprint } = words;
  if (passphraseFile === undefined || configurationServer === undefined)
    throw new OsrError(ERRORS.USAGE, "a token, or a passphrase and its configuration server");
  if (authorityFingerprint === undefined)
    throw new OsrError(ERRORS.USAGE, "--authority-fingerprint is missing");
  const secret = readGivenFile(passphraseFile).trim();
  return {
    configurationServer,
    authorityFingerprint,
    secret: { kind: "passphrase", secret },
  };
}

/** What an administrator has set before, but what says where to replicate to. */
function kept(config: string): object {
  let known: Record<string, unknown>;
  try {
    known = JSON.parse(readFileSync(config, "utf8")) as Record<string, unknown>;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return {};
    throw error;
  }
  const { disks, statusFile, scripts, hookDevice } = known;
  return { disks, statusFile, scripts, hookDevice };
}
