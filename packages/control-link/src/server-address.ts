import { OsrError, defineErrors } from "@osr/base/errors";

const ERRORS = defineErrors({
  ADDRESS_INVALID: { retryable: false, hint: "Write it as host:port, such as 192.0.2.10:443." },
});

export type ServerAddress = { readonly host: string; readonly port: number };

/** Reads `host:port`, with an IPv6 address in brackets. Throws ADDRESS_INVALID. */
export function serverAddress(text: string): ServerAddress {
  const match =
    /^(?:\[(?<six>[0-9a-fA-F:.]{2,45})\]|(?<name>[A-Za-z0-9.-]{1,253})):(?<port>\d{1,5})$/.exec(
      text,
    )?.groups;
  const host = match?.["six"] ?? match?.["name"];
  const port = Number(match?.["port"]);
  if (host === undefined || port < 1 || port > 65_535)
    throw new OsrError(
      ERRORS.ADDRESS_INVALID,
      `${text.slice(0, 300)} is not an address with a port`,
    );
  return { host, port };
}

export function httpsUrl({ host, port }: ServerAddress): string {
  return `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
}
