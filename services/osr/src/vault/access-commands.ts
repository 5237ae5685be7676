import type { Output } from "@osr/cli/output";
import type {
  CredentialsOptions,
  RoleAssignOptions,
  TokenCreateOptions,
} from "@osr/cli/vault-role-commands";
import { OsrError, defineErrors } from "@osr/base/errors";
import { silentLog } from "@osr/base/log";
import { isoTime } from "@osr/base/platform/iso-time";
import { isUuid, type Uuid } from "@osr/base/uuid";
import type { Administration } from "@osr/vault/access/administration";
import { ROLE_NAMES, type RoleName } from "@osr/vault/access/roles";

import { readConfiguration } from "../site/configuration-file.ts";
import { writeDurably } from "../site/durable-file.ts";
import { vaultConfigurationShape } from "./vault-configuration.ts";
import { administered } from "./vault-database.ts";
import { vaultAuthority } from "./vault-identity.ts";

type Configured = { readonly config: string };

const ERRORS = defineErrors({
  TOKEN_ID_INVALID: { retryable: false, hint: "Give an id as `osr token list` shows it." },
  ROLE_UNKNOWN: { retryable: false, hint: `Roles are: ${ROLE_NAMES.join(", ")}.` },
});

/** `osr vault credentials`. */
export async function writeCredentials(options: CredentialsOptions): Promise<Output> {
  const config = readConfiguration(options.config, vaultConfigurationShape);
  const authority = await vaultAuthority(options.config, config);
  const [name = config.listen.host] = config.listen.names;
  const url = options.url ?? `https://${name}:${config.listen.port}`;
  const made = await work(options, (administration) =>
    administration.credentials({ vault: options.vault, url, authority }),
  );
  writeDurably(options.out, `${JSON.stringify(made, null, 2)}\n`, 0o600);
  return {
    file: options.out,
    vault: made.vaultArmId,
    url,
    goodUntil: isoTime(made.expiresUnixMs),
  };
}

/** `osr token create`. */
export async function createToken(options: TokenCreateOptions): Promise<Output> {
  const { name, hours, scope } = options;
  const role = roleOf(options.role);
  const { id, token, expiresUnixMs } = await work(options, (administration) =>
    administration.createToken({ name, hours, role, scope }),
  );
  writeDurably(options.out, `${token}\n`, 0o600);
  return { id, name, role, scope, goodUntil: isoTime(expiresUnixMs), file: options.out };
}

/** `osr token list`. */
export async function listTokens(options: Configured): Promise<Output> {
  const tokens = await work(options, (administration) => administration.listTokens());
  return tokens.map(({ id, name, created_at: made, expires_at: until, revoked_at: revoked }) => ({
    id,
    name,
    made: isoTime(made),
    goodUntil: isoTime(until),
    revoked: revoked === null ? "" : isoTime(revoked),
  }));
}

/** `osr token revoke`. */
export async function revokeToken(id: string, options: Configured): Promise<Output> {
  const tokenId = tokenIdOf(id);
  await work(options, (administration) => administration.revokeToken(tokenId));
  return { id, revoked: true };
}

/** `osr role assign`. */
export async function assignRole(token: string, options: RoleAssignOptions): Promise<Output> {
  const { scope } = options;
  const role = roleOf(options.role);
  const tokenId = tokenIdOf(token);
  await work(options, (administration) => administration.assign(tokenId, role, scope));
  return { token, role, scope };
}

/** `osr role list`. */
export async function listRoles(options: Configured): Promise<Output> {
  const rows = await work(options, (administration) => administration.listAssignments());
  return rows.map(({ token_id: token, name, role, scope }) => ({ token, name, role, scope }));
}

function work<T>(
  options: Configured,
  act: (administration: Administration) => Promise<T>,
): Promise<T> {
  const config = readConfiguration(options.config, vaultConfigurationShape);
  return administered(options.config, config, silentLog, act);
}

function tokenIdOf(id: string): Uuid {
  if (!isUuid(id)) throw new OsrError(ERRORS.TOKEN_ID_INVALID, `${id} is no id of a token`);
  return id;
}

function roleOf(name: string): RoleName {
  const role = ROLE_NAMES.find((one) => one === name);
  if (role === undefined) throw new OsrError(ERRORS.ROLE_UNKNOWN, `there is no role ${name}`);
  return role;
}
