import { isIPv4 } from "node:net";

/** An IPv4 network. Addresses are numbers from 0 to 2^32 - 1; arithmetic, not bit operations, keeps them so. */
export type Subnet = { readonly first: number; readonly prefixBits: number };

function parseIpv4(text: string): number | undefined {
  if (!isIPv4(text)) return undefined;
  return text.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

/** `10.0.2.0/24`; the host bits must be zero, and there must be room for hosts (prefix 8 to 30). */
export function parseSubnet(text: string): Subnet | undefined {
  const [address, prefix, ...rest] = text.split("/");
  const first = parseIpv4(address ?? "");
  if (first === undefined || rest.length > 0 || !/^\d{1,2}$/.test(prefix ?? "")) return undefined;
  const prefixBits = Number(prefix);
  if (prefixBits < 8 || prefixBits > 30) return undefined;
  return first % 2 ** (32 - prefixBits) === 0 ? { first, prefixBits } : undefined;
}

/** True for an address that a host may have: within the network, neither its first nor its last. */
export function isHostAddress(subnet: Subnet, address: string): boolean {
  const value = parseIpv4(address);
  const last = subnet.first + 2 ** (32 - subnet.prefixBits) - 1;
  return value !== undefined && value > subnet.first && value < last;
}

/** `255.255.255.0` for 24. */
export function netmaskOf(prefixBits: number): string {
  const mask = 2 ** 32 - 2 ** (32 - prefixBits);
  return [24, 16, 8, 0].map((shift) => Math.floor(mask / 2 ** shift) % 256).join(".");
}
