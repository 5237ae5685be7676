import { systemErrorCode } from "@osr/base/errors";

/** SQLSTATE classes that say that the server or the connection is away: 08 connection, 57 operator intervention, 53 resources. */
const AWAY_STATE = /^(08|57P|53)/;
const AWAY_SYSTEM = ["ECONNREFUSED", "ECONNRESET", "ENOENT", "EPIPE"];
/** pg reports these without a code. */
const AWAY_MESSAGE =
  /Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error/;

/** True where `error` means that the database does not answer at the moment; what was asked may have happened. */
export function isDatabaseAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = systemErrorCode(error) ?? "";
  return AWAY_STATE.test(code) || AWAY_SYSTEM.includes(code) || AWAY_MESSAGE.test(error.message);
}
