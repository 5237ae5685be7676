import { OsrError, messageOf } from "@osr/base/errors";

import { MANAGEMENT_ERRORS } from "./management-errors.ts";

/** Runs requests and turns what the clients throw into REQUEST_REFUSED or VAULT_UNREACHABLE. */
export async function asking<T>(requests: () => Promise<T>): Promise<T> {
  try {
    return await requests();
  } catch (cause) {
    if (cause instanceof OsrError || !(cause instanceof Error) || cause.name === "AbortError")
      throw cause;
    const { statusCode, code } = cause as { statusCode?: unknown; code?: unknown };
    if (typeof statusCode !== "number")
      throw new OsrError(
        MANAGEMENT_ERRORS.VAULT_UNREACHABLE,
        `the vault does not answer: ${messageOf(cause)}`,
        { cause },
      );
    const word = typeof code === "string" ? code : "no code";
    throw new OsrError(
      MANAGEMENT_ERRORS.REQUEST_REFUSED,
      `${statusCode} ${word}: ${firstLine(messageOf(cause))}`,
      { details: { statusCode, code: word } },
    );
  }
}

/** All of a paged list. */
export function listed<T>(items: AsyncIterable<T>): Promise<readonly T[]> {
  return asking(() => Array.fromAsync(items));
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? "";
}
