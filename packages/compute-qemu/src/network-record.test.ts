import assert from "node:assert/strict";
import { test } from "node:test";

import { dnsmasqConfig } from "./dnsmasq-config.ts";
import { checkNetworkSpec } from "./network-record.ts";

const RESERVATION = { mac: "52:54:00:AA:00:10", address: "10.9.0.10", hostName: "web-1" };
const SPEC = {
  name: "test",
  subnet: "10.9.0.0/23",
  gateway: "10.9.0.1",
  isolated: true,
  reservations: [RESERVATION],
};

test("a DHCP server gives the reserved addresses and no others", () => {
  checkNetworkSpec(SPEC);
  const files = { pidFile: "/d/test.pid", leaseFile: "/d/test.leases" };
  assert.equal(
    dnsmasqConfig(SPEC, "br0", files),
    [
      "port=0",
      "interface=br0",
      "except-interface=lo",
      "bind-interfaces",
      "user=nobody",
      "pid-file=/d/test.pid",
      "dhcp-leasefile=/d/test.leases",
      "dhcp-authoritative",
      "no-ping",
      "quiet-dhcp",
      "dhcp-range=10.9.0.0,static,255.255.254.0,1h",
      "dhcp-option=option:router,10.9.0.1",
      "dhcp-host=52:54:00:aa:00:10,10.9.0.10,web-1",
      "",
    ].join("\n"),
  );
});

test("what could not be a network, or could smuggle something into a configuration, is refused", () => {
  const wrong = [
    { ...SPEC, name: "../x" },
    { ...SPEC, name: "ninechars" },
    { ...SPEC, name: "" },
    { ...SPEC, subnet: "10.9.0.1/23" },
    { ...SPEC, subnet: "10.9.0.0/31" },
    { ...SPEC, subnet: "10.9.0.0" },
    { ...SPEC, subnet: "10.9.0.0/23/1" },
    { ...SPEC, subnet: "010.9.0.0/23" },
    { ...SPEC, gateway: "10.9.0.0" },
    { ...SPEC, gateway: "10.9.1.255" },
    { ...SPEC, gateway: "10.9.2.1" },
    { ...SPEC, reservations: [{ ...RESERVATION, address: "10.9.0.1" }] },
    { ...SPEC, reservations: [{ ...RESERVATION, address: "10.9.2.1" }] },
    { ...SPEC, reservations: [{ ...RESERVATION, mac: "53:54:00:aa:00:10" }] },
    { ...SPEC, reservations: [{ ...RESERVATION, mac: "52:54:00:aa:00" }] },
    { ...SPEC, reservations: [{ ...RESERVATION, hostName: "a\ndhcp-script=/x" }] },
    { ...SPEC, reservations: [{ ...RESERVATION, hostName: "a,b" }] },
    { ...SPEC, reservations: [RESERVATION, { ...RESERVATION, address: "10.9.0.11" }] },
    { ...SPEC, reservations: [RESERVATION, { ...RESERVATION, mac: "52:54:00:aa:00:11" }] },
  ];
  for (const spec of wrong)
    assert.throws(
      () => checkNetworkSpec(spec),
      { code: "NETWORK_SPEC_INVALID" },
      JSON.stringify(spec),
    );
});
