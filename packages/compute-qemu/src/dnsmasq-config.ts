import { must } from "@osr/base/assert";
import type { NetworkSpec } from "@osr/compute/compute-provider";

import { netmaskOf, parseSubnet } from "./ipv4.ts";

export type DnsmasqFiles = { readonly pidFile: string; readonly leaseFile: string };

/**
 * The configuration of a network's DHCP server: the reserved addresses and no others, the gateway as router, no DNS.
 * It does not ask by ping whether an address is free: the address is the machine's own.
 */
export function dnsmasqConfig(spec: NetworkSpec, bridge: string, files: DnsmasqFiles): string {
  const { prefixBits } = must(parseSubnet(spec.subnet), "the network was checked");
  const first = spec.subnet.slice(0, spec.subnet.indexOf("/"));
  const lines = [
    "port=0",
    `interface=${bridge}`,
    "except-interface=lo",
    "bind-interfaces",
    "user=nobody",
    `pid-file=${files.pidFile}`,
    `dhcp-leasefile=${files.leaseFile}`,
    "dhcp-authoritative",
    "no-ping",
    "quiet-dhcp",
    `dhcp-range=${first},static,${netmaskOf(prefixBits)},1h`,
    `dhcp-option=option:router,${spec.gateway}`,
    ...spec.reservations.map(
      ({ mac, address, hostName }) => `dhcp-host=${mac.toLowerCase()},${address},${hostName}`,
    ),
  ];
  return `${lines.join("\n")}\n`;
}
