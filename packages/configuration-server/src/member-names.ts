import { isIP } from "node:net";

import { OsrError } from "@osr/base/errors";
import type { EnrolledRole } from "@osr/contracts/enrolment";

import { CONFIGURATION_SERVER_ERRORS } from "./configuration-server-errors.ts";

const NAMES_MAX = 32;
const DNS_NAME =
  /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/i;

export type MemberNames = {
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
  readonly usage: "client" | "both";
};

/** What a role's certificate says beside its id. Only server roles have addresses. Throws ENROLMENT_ADDRESS_INVALID. */
export function memberNames(role: EnrolledRole, addresses: readonly string[]): MemberNames {
  if (role === "mobility-service") return { dnsNames: [], ipAddresses: [], usage: "client" };
  const names = [...new Set(addresses)];
  const wrong = names.find((name) => isIP(name) === 0 && !DNS_NAME.test(name));
  if (wrong !== undefined || names.length === 0 || names.length > NAMES_MAX)
    throw new OsrError(
      CONFIGURATION_SERVER_ERRORS.ENROLMENT_ADDRESS_INVALID,
      wrong === undefined
        ? `a ${role} has 1 to ${NAMES_MAX} addresses, not ${names.length}`
        : `${wrong.slice(0, 255)} is neither a DNS name nor an IP address`,
    );
  return { ...splitAddresses(names), usage: "both" };
}

/** DNS names and IP addresses, as certificates tell them apart. */
export function splitAddresses(names: readonly string[]): Omit<MemberNames, "usage"> {
  return {
    dnsNames: names.filter((name) => isIP(name) === 0),
    ipAddresses: names.filter((name) => isIP(name) !== 0),
  };
}

/** Splits comma-separated addresses. */
export function addressList(text: string | undefined): string[] {
  return (text ?? "")
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

/** The addresses in Node's text of a certificate's subject alternative names. */
export function certificateAddresses(names: string): string[] {
  return names.split(", ").flatMap((part) => /^(?:DNS|IP Address):(.+)$/.exec(part)?.[1] ?? []);
}
