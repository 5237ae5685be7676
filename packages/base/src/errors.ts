/** What an error tells a person and a program. */
export type ErrorInfo = {
  /** Stable, upper case, with underscores: `SEGMENT_TAMPERED`. */
  readonly code: string;
  /** True where the same call may succeed later without anybody doing anything. */
  readonly retryable: boolean;
  /** What the reader can do about it. */
  readonly hint: string;
};

export type OsrErrorOptions = { readonly cause?: unknown; readonly details?: object };

/**
 * The one error class of the project. Programs look at `code` and `retryable`, never at `message`; people read
 * `message` (what happened, with the values) and `hint` (what to do).
 */
export class OsrError extends Error {
  override readonly name = "OsrError";
  readonly code: string;
  readonly retryable: boolean;
  readonly hint: string;
  /** Facts for programs, such as the offset of a damaged record. Never a secret. */
  readonly details: object;

  constructor(info: ErrorInfo, message: string, options: OsrErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = info.code;
    this.retryable = info.retryable;
    this.hint = info.hint;
    this.details = options.details ?? {};
  }
}

/** True where `error` is ours and has that code. */
export function hasCode(error: unknown, info: ErrorInfo): error is OsrError {
  return error instanceof OsrError && error.code === info.code;
}

/** True where trying again may help. Errors that are not ours count as permanent: nobody has thought about them. */
export function isRetryable(error: unknown): boolean {
  return error instanceof OsrError && error.retryable;
}

/** The `code` of a system error of Node (`ENOENT`), or undefined. */
export function systemErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** The message of anything that was thrown. What failed comes before what failed while it was cleaned up. */
export function messageOf(error: unknown): string {
  if (error instanceof SuppressedError)
    return `${messageOf(error.suppressed)} (and while cleaning up: ${messageOf(error.error)})`;
  return error instanceof Error ? error.message : String(error);
}

/** The table of a package's errors; its keys are the codes. */
export function defineErrors<Code extends string>(
  table: Readonly<Record<Code, { readonly retryable: boolean; readonly hint: string }>>,
): Readonly<Record<Code, ErrorInfo>> {
  const entries = Object.entries<{ retryable: boolean; hint: string }>(table);
  const infos = entries.map(([code, info]) => [code, Object.freeze({ code, ...info })] as const);
  return Object.freeze(Object.fromEntries(infos)) as Readonly<Record<Code, ErrorInfo>>;
}
