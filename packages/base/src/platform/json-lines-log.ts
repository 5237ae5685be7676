import { OsrError, messageOf } from "../errors.ts";
import type { Log, LogFields } from "../log.ts";

const LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LEVELS)[number];

/** A log that writes one JSON object a line through `write`. */
export function jsonLinesLog(
  write: (line: string) => void,
  level: LogLevel = "info",
  fields: LogFields = {},
): Log {
  const line = (at: LogLevel) => (message: string, more?: LogFields) => {
    if (LEVELS.indexOf(at) < LEVELS.indexOf(level)) return;
    const time = new Date().toISOString();
    write(`${JSON.stringify({ time, level: at, message, ...fields, ...more }, replaceError)}\n`);
  };
  return {
    debug: line("debug"),
    info: line("info"),
    warn: line("warn"),
    error: line("error"),
    child: (more) => jsonLinesLog(write, level, { ...fields, ...more }),
  };
}

function replaceError(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (!(value instanceof Error)) return value;
  const code = value instanceof OsrError ? { code: value.code, hint: value.hint } : {};
  const cause = value.cause === undefined ? {} : { cause: messageOf(value.cause) };
  return { name: value.name, message: value.message, ...code, ...cause, stack: value.stack };
}
