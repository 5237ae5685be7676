import { type ErrorInfo, OsrError, messageOf } from "@osr/base/errors";

import { STORE_ERRORS } from "./object-store.ts";

/** HTTP status and Azure's code of a refusal, where the storage account answered one. */
export type Refusal = { readonly status: number; readonly code: string };

/** The storage account refused what it was asked. */
export class Refused extends Error {
  readonly refusal: Refusal;

  constructor(refusal: Refusal, options?: ErrorOptions) {
    super(`refused: ${refusal.status} ${refusal.code}`, options);
    this.refusal = refusal;
  }
}

export function refusalOf(error: unknown): Refusal | undefined {
  return error instanceof Refused ? error.refusal : undefined;
}

/** The port's error for whatever a call of a container threw. */
export function storeErrorOf(error: unknown, name: string): OsrError {
  if (error instanceof OsrError) return error;
  const refusal = refusalOf(error);
  const message =
    refusal === undefined
      ? `the storage account could not be reached for ${name}: ${messageOf(error)}`
      : `the storage account answered ${refusal.status} ${refusal.code} for ${name}`;
  return new OsrError(infoOf(refusal), message, { cause: error });
}

function infoOf(refusal: Refusal | undefined): ErrorInfo {
  if (refusal === undefined) return STORE_ERRORS.STORE_UNAVAILABLE;
  const { status, code } = refusal;
  if (code === "ContainerNotFound") return STORE_ERRORS.STORE_MISSING;
  // Our own role's; Azure has no such answer.
  if (code === "ObjectDamaged") return STORE_ERRORS.OBJECT_DAMAGED;
  if (status === 401 || status === 403) return STORE_ERRORS.STORE_FORBIDDEN;
  if (status === 404) return STORE_ERRORS.OBJECT_NOT_FOUND;
  if (status === 416) return STORE_ERRORS.OBJECT_RANGE;
  if (status === 507) return STORE_ERRORS.STORE_FULL;
  // 409 covers states that pass, such as a container that is being deleted and made anew.
  if (status === 408 || status === 409 || status === 429 || status >= 500)
    return STORE_ERRORS.STORE_UNAVAILABLE;
  return STORE_ERRORS.STORE_REFUSED;
}
