import type { JsonValue } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";

import type { VaultDatabase, VaultTransaction } from "../database/database.ts";

/** The vault of a request's path. */
export type VaultRow = {
  readonly id: Uuid;
  /** ARM id, with the letters' case as at creation. */
  readonly armId: string;
  readonly name: string;
};

/** Who asks. */
export type Caller = { readonly name: string; readonly tokenId: Uuid };

export type ArmRequest = {
  /** Values of the template's `{names}`, decoded, with the case that the client sent. Compare them with `sameName`. */
  readonly parameters: Readonly<Record<string, string>>;
  /** The path of the resource (of an action: without it), decoded segments joined; the ids of replies begin with it. */
  readonly resourcePath: string;
  /** The same, as segments: the vault's own are the first eight. */
  readonly segments: readonly string[];
  /** Names in lower case: `$filter`, `$skiptoken`. */
  readonly query: ReadonlyMap<string, string>;
  readonly apiVersion: string;
  /** Parsed JSON; undefined where there was none. */
  readonly body: JsonValue | undefined;
  readonly caller: Caller;
  /** For jobs and logs. */
  readonly activityId: string;
  /** `https://host:port`, as the client reached us. */
  readonly baseUrl: string;
  readonly signal: AbortSignal;
};

/** A request below `V/`: its vault exists. */
export type VaultRequest = ArmRequest & { readonly vault: VaultRow };

export type ArmReply = { readonly status: 200 | 201 | 204; readonly body?: JsonValue };

/** Reply of an operation that goes on as a job: 202 with the headers of a long-running operation. */
export type ArmAccepted = {
  readonly acceptedJobId: Uuid;
  /** Of the resource that the operation ends with, where it is not the request's own. */
  readonly resourcePath?: string | undefined;
};

export function ok(body: JsonValue): ArmReply {
  return { status: 200, body };
}

export function accepted(jobId: Uuid, resourcePath?: string): ArmAccepted {
  return { acceptedJobId: jobId, resourcePath };
}

type Route<Method> = {
  readonly method: Method;
  /**
   * As arm-api.md writes it: `V/replicationPolicies/{policyName}`, `V` for the vault. Literal segments match in any case.
   * Templates of `POST` end with the action's name.
   */
  readonly path: string;
  /** What the caller's role must allow: `Microsoft.RecoveryServices/vaults/replicationPolicies/write`. */
  readonly action: string;
  /** For the OpenAPI document. */
  readonly summary: string;
};

export type ReadRoute = Route<"GET"> & {
  readonly read: (request: VaultRequest, database: VaultDatabase) => Promise<ArmReply>;
};

/**
 * `write` runs in one transaction with the audit row of the request; what it throws rolls both back (and a refused write is audited by itself). An
 * ArmError becomes its status. It may be run again after a serialisation failure, so it has no side effects outside the transaction.
 */
export type WriteRoute = Route<"PUT" | "PATCH" | "POST" | "DELETE"> & {
  readonly write: (request: VaultRequest, tx: VaultTransaction) => Promise<ArmReply | ArmAccepted>;
};

/** One operation of the API. Modules export lists of these; they are mounted on the one router. */
export type ResourceRoute = ReadRoute | WriteRoute;
