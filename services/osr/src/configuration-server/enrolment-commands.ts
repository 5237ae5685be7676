import { hostname } from "node:os";
import { resolve } from "node:path";

import type {
  ProcessServerEnrolOptions,
  TokenOptions,
} from "@osr/cli/configuration-server-commands";
import type { Output } from "@osr/cli/output";
import { OsrError, defineErrors } from "@osr/base/errors";
import { parseJson } from "@osr/base/json-shape";
import { isoTime } from "@osr/base/platform/iso-time";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { HOUR_MS } from "@osr/base/units";
import {
  createToken,
  newPassphrase,
  setPassphrase,
} from "@osr/configuration-server/enrolment-desk";
import { type EnrolmentToken, enrolmentTokenShape } from "@osr/contracts/enrolment";
import { enrolRole } from "@osr/control-link/enrolment-client";
import { identityFile } from "@osr/control-link/role-identity";
import { serverAddress } from "@osr/control-link/server-address";
import { readGivenFile } from "@osr/control-link/secret-file";

import { writeNewSecret } from "./backup.ts";
import { openConfiguredSite, reachedAt } from "./open-configured-site.ts";
import { idOf } from "./site-commands.ts";

const ERRORS = defineErrors({
  ROLE_UNKNOWN: {
    retryable: false,
    hint: "See `osr configuration-server role list` for those there are.",
  },
  TOKEN_FOR_ANOTHER: {
    retryable: false,
    hint: "Make a token with --role process-server.",
  },
});

const ports = { clock: systemClock, scheduler: systemScheduler, randomness: systemRandomness };

/** `osr configuration-server token create`: one file that holds all a role needs to join. */
export async function createTokenFile(options: TokenOptions): Promise<Output> {
  using open = await openConfiguredSite(options.config);
  const { site, configuration } = open;
  const configurationServer = options.address ?? reachedAt(configuration);
  serverAddress(configurationServer);
  const { role } = options;
  const id = options.id === undefined ? undefined : idOf(options.id);
  const made = createToken(
    { ...ports, state: site.state },
    { role, id, validMs: options.validHours * HOUR_MS },
  );
  const token: EnrolmentToken = {
    ...made,
    role,
    configurationServer,
    authorityFingerprint: site.fingerprint,
    ...(id === undefined ? {} : { id }),
  };
  writeNewSecret(options.out, `${JSON.stringify(token, null, 2)}\n`);
  return { file: options.out, role, configurationServer, expires: isoTime(made.expiresUnixMs) };
}

/** `osr configuration-server passphrase new`: the file is the only place where it is ever shown. */
export async function writeNewPassphrase(options: {
  readonly config: string;
  readonly out: string;
}): Promise<Output> {
  using open = await openConfiguredSite(options.config);
  const passphrase = newPassphrase(systemRandomness);
  // First the file: the one before stays good where it cannot be written.
  writeNewSecret(options.out, `${passphrase}\n`);
  setPassphrase(open.site.state, passphrase);
  return { file: options.out, authorityFingerprint: open.site.fingerprint };
}

/** `osr configuration-server role list`. */
export async function listRoles({ config }: { readonly config: string }): Promise<Output> {
  using open = await openConfiguredSite(config);
  return open.site.state.members().map(({ id, role, hostName, enrolledUnixMs, revokedUnixMs }) => ({
    id,
    role,
    hostName,
    enrolled: isoTime(enrolledUnixMs),
    revoked: revokedUnixMs === undefined ? "" : isoTime(revokedUnixMs),
  }));
}

/** `osr configuration-server role revoke`. */
export async function revokeRole(
  text: string,
  { config }: { readonly config: string },
): Promise<Output> {
  using open = await openConfiguredSite(config);
  const id = idOf(text);
  if (!open.site.state.revokeMember(id, Math.floor(systemClock.unixMs())))
    throw new OsrError(ERRORS.ROLE_UNKNOWN, `no role with the id ${id} has enrolled here`);
  return { id, state: "revoked" };
}

/** `osr process-server enrol`: writes the identity that the configuration of `osr process-server run` names. */
export async function enrolProcessServer(options: ProcessServerEnrolOptions): Promise<Output> {
  const token = parseJson(readGivenFile(options.token), enrolmentTokenShape);
  if (token.role !== "process-server")
    throw new OsrError(ERRORS.TOKEN_FOR_ANOTHER, `the token is for a ${token.role}`);
  const identity = await enrolRole(
    {
      role: token.role,
      configurationServer: token.configurationServer,
      authorityFingerprint: token.authorityFingerprint,
      secret: { kind: "token", tokenId: token.tokenId, secret: token.token },
      id: token.id,
      hostName: hostname(),
      biosUuid: "",
      addresses: options.address,
    },
    ports,
  );
  const file = resolve(options.out);
  identityFile(file).write(identity);
  return { id: identity.id, identity: file, configurationServer: identity.configurationServer };
}
