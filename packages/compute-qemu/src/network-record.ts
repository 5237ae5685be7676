import { OsrError } from "@osr/base/errors";
import { type Shape, boolean, list, object, text } from "@osr/base/json-shape";
import type { NetworkSpec } from "@osr/compute/compute-provider";

import { COMPUTE_ERRORS } from "./compute-errors.ts";
import { isHostAddress, parseSubnet } from "./ipv4.ts";
import { isMac } from "./machine-limits.ts";

const RESERVATIONS_MAX = 1024;
const NAME = /^[a-z0-9]{1,8}$/;
const HOST_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const word = text(256);

/** What is known of a network, on disk, from before anything of it exists. */
export const networkSpecShape: Shape<NetworkSpec> = object({
  name: word,
  subnet: word,
  gateway: word,
  isolated: boolean,
  reservations: list(object({ mac: word, address: word, hostName: word }), RESERVATIONS_MAX),
});

/** Throws NETWORK_SPEC_INVALID. What passes can be written into dnsmasq's configuration as it is. */
export function checkNetworkSpec(spec: NetworkSpec): void {
  checkNetworkName(spec.name);
  const subnet = parseSubnet(spec.subnet);
  if (subnet === undefined) throw invalid(`${spec.subnet} is an IPv4 network in CIDR form`);
  demand(isHostAddress(subnet, spec.gateway), `gateway ${spec.gateway} lies in ${spec.subnet}`);
  demand(spec.reservations.length <= RESERVATIONS_MAX, `at most ${RESERVATIONS_MAX} reservations`);
  for (const { mac, address, hostName } of spec.reservations) {
    demand(isMac(mac), `${mac} is a MAC address`);
    demand(
      isHostAddress(subnet, address) && address !== spec.gateway,
      `${address} is a free host address of ${spec.subnet}`,
    );
    demand(HOST_NAME.test(hostName), `${hostName} is a host name`);
  }
  for (const field of ["mac", "address"] as const) {
    const values = new Set(spec.reservations.map((one) => one[field].toLowerCase()));
    demand(values.size === spec.reservations.length, `each ${field} is reserved once`);
  }
}

/** Throws NETWORK_SPEC_INVALID: names become names of namespaces and files. */
export function checkNetworkName(name: string): void {
  demand(NAME.test(name), `the network's name ${JSON.stringify(name)} is 1 to 8 of [a-z0-9]`);
}

function demand(holds: boolean, rule: string): void {
  if (!holds) throw invalid(rule);
}

function invalid(rule: string): OsrError {
  return new OsrError(COMPUTE_ERRORS.NETWORK_SPEC_INVALID, `it must hold that ${rule}`);
}
