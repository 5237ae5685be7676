import assert from "node:assert/strict";
import { test } from "node:test";

import { subnetAround, withAddresses } from "./network-addresses.ts";

const network = {
  name: "n1",
  subnet: "10.1.0.0/29",
  gateway: "10.1.0.1",
  isIsolated: true,
  reservations: [{ mac: "52:54:00:00:00:01", address: "10.1.0.2", hostName: "db" }],
};
const machine = (n: number, addresses: readonly string[], hostName = "web") => ({
  mac: `52:54:00:00:00:0${n}`,
  hostName,
  addresses,
});

test("machines keep their own address where it is free, others get the next one", () => {
  const { reservations } = withAddresses(network, [
    machine(2, ["192.0.2.7", "10.1.0.4"]),
    machine(3, ["10.1.0.4"]),
    machine(4, ["10.1.0.1"], "a b"),
    machine(1, ["10.1.0.5"]),
  ]);
  assert.deepEqual(
    reservations.map(({ address, hostName }) => [address, hostName]),
    [
      ["10.1.0.2", "db"],
      ["10.1.0.4", "web"],
      ["10.1.0.3", "web-2"],
      ["10.1.0.5", "a-b"],
    ],
  );
});

test("a subnet that is full leaves machines out, and never gives its own or its broadcast address", () => {
  const many = [2, 3, 4, 5, 6, 7].map((n) => machine(n, ["10.1.0.7", "10.1.0.0"]));
  const { reservations } = withAddresses(network, many);
  const addresses = reservations.map(({ address }) => address);
  assert.deepEqual(addresses.toSorted(), [
    "10.1.0.2",
    "10.1.0.3",
    "10.1.0.4",
    "10.1.0.5",
    "10.1.0.6",
  ]);
});

test("a test network is made around the machine's own address", () => {
  assert.deepEqual(subnetAround("10.0.2.15"), { subnet: "10.0.2.0/24", gateway: "10.0.2.1" });
  assert.deepEqual(subnetAround("10.9.8.1"), { subnet: "10.9.8.0/24", gateway: "10.9.8.254" });
  assert.deepEqual(subnetAround("fe80::1"), { subnet: "10.0.2.0/24", gateway: "10.0.2.1" });
});
