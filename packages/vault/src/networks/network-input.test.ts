import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { OsrError } from "@osr/base/errors";

import { networkValues } from "./network-input.ts";

const values = (properties: object): ReturnType<typeof networkValues> =>
  networkValues({ properties });

test("a network gets the first address as its gateway, and keeps what was said", () => {
  assert.deepEqual(values({ subnet: "10.1.0.0/24" }), {
    subnet: "10.1.0.0/24",
    gateway: "10.1.0.1",
    isIsolated: false,
    reservations: [],
  });
  const reservation = { mac: "52:54:00:AA:00:01", address: "10.1.0.9", hostName: "web01" };
  const given = { subnet: "10.1.0.0/16", gateway: "10.1.255.254", isIsolated: true };
  assert.deepEqual(values({ ...given, reservations: [reservation] }), {
    ...given,
    reservations: [{ ...reservation, mac: "52:54:00:aa:00:01" }],
  });
});

test("what is no network, lies outside of it or is there twice is refused by the name of its field", () => {
  const at = (mac: string, address: string): object => ({ mac, address, hostName: "a" });
  const [mac, other] = ["52:54:00:00:00:01", "52:54:00:00:00:02"];
  const refused: [object, string][] = [
    [{ subnet: "10.1.0.1/24" }, "properties.subnet"],
    [{ subnet: "10.1.0.0/31" }, "properties.subnet"],
    [{ subnet: "10.0.0.0" }, "properties.subnet"],
    [{ subnet: "fd00::/64" }, "properties.subnet"],
    [{ subnet: "10.1.0.0/24", gateway: "10.1.1.1" }, "properties.gateway"],
    [{ subnet: "10.1.0.0/24", gateway: "10.1.0.255" }, "properties.gateway"],
    [
      { subnet: "10.1.0.0/24", reservations: [at("x", "10.1.0.4")] },
      "properties.reservations[0].mac",
    ],
    [
      { subnet: "10.1.0.0/24", reservations: [at(mac, "10.1.0.1")] },
      "properties.reservations[0].address",
    ],
    [
      { subnet: "10.1.0.0/24", reservations: [at(mac, "10.1.0.4"), at(mac, "10.1.0.5")] },
      "properties.reservations[1].mac",
    ],
    [
      { subnet: "10.1.0.0/24", reservations: [at(mac, "10.1.0.4"), at(other, "10.1.0.4")] },
      "properties.reservations[1].address",
    ],
  ];
  for (const [properties, path] of refused)
    assert.throws(
      () => values(properties),
      (error) =>
        error instanceof OsrError && "path" in error.details && error.details.path === path,
      JSON.stringify(properties),
    );
});

test("whatever is sent, it is taken or refused by an error of ours", () => {
  const subnet = fc.oneof(
    fc.string(),
    fc.tuple(fc.ipV4(), fc.nat(40)).map(([address, bits]) => `${address}/${bits}`),
  );
  const body = fc.oneof(
    fc.jsonValue(),
    fc.record({ properties: fc.record({ subnet, gateway: fc.option(fc.ipV4()) }) }),
  );
  fc.assert(
    fc.property(body, (sent) => {
      try {
        networkValues(sent);
      } catch (error) {
        assert.ok(error instanceof OsrError && error.code !== "INTERNAL_ASSERTION", String(error));
      }
    }),
  );
});
