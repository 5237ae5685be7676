import { createHash } from "node:crypto";

import type { Clock } from "@osr/base/clock";
import type { Randomness } from "@osr/base/randomness";
import { HOUR_MS } from "@osr/base/units";
import { type Uuid, randomUuid } from "@osr/base/uuid";

import { ArmError } from "../arm/arm-error.ts";
import type { ArmCode } from "../arm/possible-causes.ts";
import type { Caller } from "../arm/resource-routes.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import { type Grant, grantsOf } from "./roles.ts";

const PREFIX = "osr_";

export type IssuedToken = {
  readonly id: Uuid;
  /** Shown once: only its hash is kept. */
  readonly token: string;
  readonly expiresUnixMs: number;
};

/** Makes a bearer token. It may nothing until a role is assigned to it. */
export async function issueToken(
  tx: VaultTransaction,
  options: {
    readonly name: string;
    readonly hours: number;
    readonly clock: Clock;
    readonly randomness: Randomness;
  },
): Promise<IssuedToken> {
  const token = PREFIX + options.randomness.bytes(32).toString("base64url");
  const id = randomUuid(options.randomness);
  const now = options.clock.unixMs();
  const expiresUnixMs = now + options.hours * HOUR_MS;
  await tx
    .insertInto("token")
    .values({
      id,
      name: options.name,
      sha256: tokenHash(token),
      created_at: now,
      expires_at: expiresUnixMs,
      revoked_at: null,
    })
    .execute();
  return { id, token, expiresUnixMs };
}

export function tokenHash(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

/** A caller and what it may do. */
export type AuthenticatedCaller = Caller & { readonly grants: readonly Grant[] };

/** Who sends `Authorization: Bearer …`. Throws ArmError 401, which never says more than that the token is not good. */
export async function authenticate(
  database: VaultDatabase,
  authorization: string | undefined,
  clock: Clock,
): Promise<AuthenticatedCaller> {
  const token = /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
  if (token === undefined)
    throw unauthenticated("AuthenticationFailed", "a bearer token is needed");
  // One statement, since it is before every request: a row for each role, and one where there is none.
  const rows = await database
    .selectFrom("token")
    .leftJoin("role_assignment", "role_assignment.token_id", "token.id")
    .select(["token.id", "token.name", "token.expires_at", "token.revoked_at"])
    .select(["role_assignment.role", "role_assignment.scope"])
    .where("token.sha256", "=", tokenHash(token))
    .execute();
  const [row] = rows;
  if (row === undefined || row.revoked_at !== null)
    throw unauthenticated("InvalidAuthenticationToken", "the bearer token is not known");
  if (row.expires_at <= clock.unixMs())
    throw unauthenticated("ExpiredAuthenticationToken", "the bearer token has expired");
  return { name: row.name, tokenId: row.id, grants: grantsOf(rows) };
}

function unauthenticated(code: ArmCode, message: string): ArmError {
  return new ArmError(401, code, message, "Make a token with `osr token create`.");
}
