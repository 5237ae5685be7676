import type { ReplicaNetwork } from "@osr/contracts/replica-host";

import { hostNameOf } from "./machine-names.ts";

/** A machine that may come into a network. */
export type NetworkMachine = {
  readonly mac: string;
  readonly hostName: string;
  /** Its own addresses at the primary site, the first one first. */
  readonly addresses: readonly string[];
};

const OCTETS = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/;

/**
 * Addresses for machines that a network has none for yet: each keeps its own where it lies within the subnet and is free,
 * else it gets the next free one. A pure function of the order of the machines, so that all who ask agree. A machine for
 * which the subnet has no room is left out.
 */
export function withAddresses(
  network: ReplicaNetwork,
  machines: readonly NetworkMachine[],
): ReplicaNetwork {
  const { first, last } = rangeOf(network.subnet);
  const taken = new Set([network.gateway, ...network.reservations.map(({ address }) => address)]);
  const known = new Set(network.reservations.map(({ mac }) => mac.toLowerCase()));
  const names = new Set(network.reservations.map(({ hostName }) => hostName.toLowerCase()));
  const reservations = [...network.reservations];
  let next = first;
  for (const { mac, hostName, addresses } of machines) {
    if (known.has(mac.toLowerCase())) continue;
    let address = addresses.find(
      (own) => !taken.has(own) && numberOf(own) >= first && numberOf(own) <= last,
    );
    for (; address === undefined && next <= last; next++)
      if (!taken.has(textOf(next))) address = textOf(next);
    if (address === undefined) continue;
    taken.add(address);
    known.add(mac.toLowerCase());
    reservations.push({ mac, address, hostName: uniqueName(hostName, names) });
  }
  return { ...network, reservations };
}

/** The /24 around an address, with a gateway that is not the address itself. */
export function subnetAround(address: string | undefined): {
  readonly subnet: string;
  readonly gateway: string;
} {
  const [, a, b, c] = OCTETS.exec(address ?? "") ?? ["", "10", "0", "2"];
  const prefix = `${a}.${b}.${c}`;
  const gateway = address === `${prefix}.1` ? `${prefix}.254` : `${prefix}.1`;
  return { subnet: `${prefix}.0/24`, gateway };
}

/** Names that DHCP servers take, each once. */
function uniqueName(hostName: string, names: Set<string>): string {
  const base = hostNameOf(hostName);
  let name = base;
  for (let count = 2; names.has(name.toLowerCase()); count++) name = `${base}-${count}`;
  names.add(name.toLowerCase());
  return name;
}

/** First and last address that a machine can have. */
function rangeOf(subnet: string): { readonly first: number; readonly last: number } {
  const [address = "", bits = "24"] = subnet.split("/");
  const size = 2 ** (32 - Number(bits));
  const start = Math.floor(numberOf(address) / size) * size;
  return { first: start + 1, last: start + size - 2 };
}

/** NaN for what is no IPv4 address: within no range. */
function numberOf(address: string): number {
  const octets = OCTETS.exec(address)?.slice(1).map(Number) ?? [];
  if (octets.length !== 4 || octets.some((octet) => octet > 255)) return Number.NaN;
  return octets.reduce((total, octet) => total * 256 + octet, 0);
}

function textOf(number: number): string {
  return [2 ** 24, 2 ** 16, 2 ** 8, 1].map((unit) => Math.floor(number / unit) % 256).join(".");
}
