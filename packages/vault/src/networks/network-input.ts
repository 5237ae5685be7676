import { isIPv4 } from "node:net";

import { type Shape, boolean, list, object, optional, text } from "@osr/base/json-shape";

import { badRequest } from "../arm/arm-error.ts";

const RESERVATIONS_MAX = 256;
const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;
const HOST_NAME = /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const PREFIX_BITS_MIN = 8;
const PREFIX_BITS_MAX = 30;

export type Reservation = {
  readonly mac: string;
  readonly address: string;
  readonly hostName: string;
};

/** A virtual network of the recovery site, as a client describes it. */
export type NetworkInput = {
  /** IPv4 network in CIDR form, prefix 8 to 30. */
  readonly subnet: string;
  /** Address of the gateway within it; the first one where absent. */
  readonly gateway?: string | undefined;
  /** True: no way out or in, so it may have the addresses of the primary site. */
  readonly isIsolated?: boolean | undefined;
  /** Fixed addresses by MAC. */
  readonly reservations?: readonly Reservation[] | undefined;
};

export type NetworkValues = {
  readonly subnet: string;
  readonly gateway: string;
  readonly isIsolated: boolean;
  readonly reservations: readonly Reservation[];
};

const bodyShape: Shape<{ readonly properties: NetworkInput }> = object<{
  readonly properties: NetworkInput;
}>({
  properties: object<NetworkInput>({
    subnet: text(18),
    gateway: optional(text(15)),
    isIsolated: optional(boolean),
    reservations: optional(
      list(
        object<Reservation>({ mac: text(17), address: text(15), hostName: text(63) }),
        RESERVATIONS_MAX,
      ),
    ),
  }),
});

/** What a request describes, checked. Throws INPUT_INVALID, ArmError 400. */
export function networkValues(body: unknown): NetworkValues {
  const { subnet, gateway, isIsolated = false, reservations = [] } = bodyShape(body, "").properties;
  const range = rangeOf(subnet);
  if (range === undefined)
    throw badRequest(
      "properties.subnet",
      `must be an IPv4 network such as 10.0.2.0/24, with a prefix of ${PREFIX_BITS_MIN} to ${PREFIX_BITS_MAX} and no host bits`,
    );
  const isHost = (address: string): boolean => {
    const value = numberOf(address);
    return value !== undefined && value > range.first && value < range.last;
  };
  const given = gateway ?? addressOf(range.first + 1);
  if (!isHost(given))
    throw badRequest("properties.gateway", `must be an address of a host within ${subnet}`);
  const addresses = new Set([given]);
  const macs = new Set<string>();
  const checked = reservations.map(({ mac, address, hostName }, index) => {
    const at = `properties.reservations[${index}]`;
    const lower = mac.toLowerCase();
    if (!MAC.test(lower)) throw badRequest(`${at}.mac`, "must look like 52:54:00:12:34:56");
    if (!isHost(address))
      throw badRequest(`${at}.address`, `must be an address of a host within ${subnet}`);
    if (!HOST_NAME.test(hostName)) throw badRequest(`${at}.hostName`, "must be a host name");
    if (addresses.has(address)) throw badRequest(`${at}.address`, `${address} is taken`);
    if (macs.has(lower)) throw badRequest(`${at}.mac`, `${lower} is taken`);
    addresses.add(address);
    macs.add(lower);
    return { mac: lower, address, hostName };
  });
  return { subnet, gateway: given, isIsolated, reservations: checked };
}

/** First and last address of a network. Addresses are numbers below 2^32; arithmetic, not bit operations, keeps them so. */
function rangeOf(subnet: string): { readonly first: number; readonly last: number } | undefined {
  const [address = "", prefix = "", ...rest] = subnet.split("/");
  const first = numberOf(address);
  if (first === undefined || rest.length > 0 || !/^\d{1,2}$/.test(prefix)) return undefined;
  const bits = Number(prefix);
  if (bits < PREFIX_BITS_MIN || bits > PREFIX_BITS_MAX) return undefined;
  const size = 2 ** (32 - bits);
  return first % size === 0 ? { first, last: first + size - 1 } : undefined;
}

function numberOf(address: string): number | undefined {
  if (!isIPv4(address)) return undefined;
  return address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

function addressOf(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join(".");
}
