import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { type Uuid, uuidOfName } from "@osr/base/uuid";

import { gatewayFacts } from "./testing/test-site.ts";
import { GatewayHealth } from "./gateway-health.ts";
import { chooseProcessServers } from "./process-server-choice.ts";

const MINUTE_MS = 60_000;
const server = (n: number): Uuid => uuidOfName("server", String(n));
const machine = (n: number): Uuid => uuidOfName("machine", String(n));

const sites = fc.record({
  servers: fc.array(fc.record({ isAlive: fc.boolean(), isCritical: fc.boolean() }), {
    maxLength: 4,
  }),
  machines: fc.array(
    fc.record({
      wanted: fc.option(fc.nat(5), { nil: undefined }),
      current: fc.option(fc.nat(5), { nil: undefined }),
    }),
    { maxLength: 12 },
  ),
});

test("machines move only where they must or are asked to, never to a server that is dead or critical", () => {
  fc.assert(
    fc.property(sites, ({ servers, machines }) => {
      const known = servers.map((state, n) => ({ id: server(n), ...state }));
      const idOf = (n: number | undefined): Uuid | undefined =>
        n === undefined ? undefined : server(n);
      const placed = machines.map(({ wanted, current }, n) => ({
        machineId: machine(n),
        wantedId: idOf(wanted),
        currentId: idOf(current),
      }));
      const chosen = chooseProcessServers(placed, known);
      const isAlive = (id: Uuid | undefined): boolean =>
        known.some((one) => one.id === id && one.isAlive);
      const isOpen = (id: Uuid | undefined): boolean =>
        known.some((one) => one.id === id && one.isAlive && !one.isCritical);
      for (const { machineId, wantedId, currentId } of placed) {
        const id = chosen.get(machineId);
        if (isAlive(wantedId)) assert.equal(id, wantedId);
        else if (isAlive(currentId)) assert.equal(id, currentId);
        else if (known.some((one) => isOpen(one.id))) assert.ok(isOpen(id));
        else assert.equal(id, currentId);
      }
      const again = placed.map((one) => ({ ...one, currentId: chosen.get(one.machineId) }));
      assert.deepEqual(chooseProcessServers(again, known), chosen, "and then it stays so");
    }),
  );
});

test("new machines are spread evenly", () => {
  const servers = [1, 2, 3].map((n) => ({ id: server(n), isAlive: true, isCritical: false }));
  const machines = Array.from({ length: 9 }, (_, n) => ({ machineId: machine(n) }));
  const loads = Map.groupBy(chooseProcessServers(machines, servers), ([, id]) => id);
  assert.deepEqual(
    [...loads.values()].map((list) => list.length),
    [3, 3, 3],
  );
});

test("a signal counts once it has lasted, the worst of its kind alone, and no longer than it lasts", () => {
  const health = new GatewayHealth();
  const codes = (nowMs: number): string[] => health.judge(nowMs, 0).health.map(({ code }) => code);
  const busy = { ...gatewayFacts(), cpuPermille: 960, cacheFreePermille: 290 };
  health.note(busy, 0);
  health.note(busy, 14 * MINUTE_MS);
  assert.deepEqual(codes(14 * MINUTE_MS), []);
  assert.deepEqual(codes(15 * MINUTE_MS), ["CPU_CRITICAL", "CACHE_WARNING"]);
  assert.equal(health.judge(15 * MINUTE_MS, 0).isCritical, true);
  health.note({ ...busy, cpuPermille: 900 }, 16 * MINUTE_MS);
  assert.deepEqual(codes(16 * MINUTE_MS), ["CPU_WARNING", "CACHE_WARNING"]);
  assert.equal(health.judge(16 * MINUTE_MS, 0).isCritical, false);
  const throttled = { code: "CACHE_THROTTLED", message: "", hint: "" };
  health.note({ ...gatewayFacts(), health: [throttled] }, 17 * MINUTE_MS);
  assert.deepEqual(codes(17 * MINUTE_MS), ["CACHE_THROTTLED"]);
  assert.equal(health.judge(17 * MINUTE_MS, 0).isCritical, true);
  const away = { code: "STORE_UNAVAILABLE", message: "", hint: "" };
  health.note({ ...gatewayFacts(), health: [away] }, 18 * MINUTE_MS);
  assert.equal(health.judge(18 * MINUTE_MS, 0).isCritical, true);
  health.note(gatewayFacts(), 19 * MINUTE_MS);
  assert.equal(health.judge(19 * MINUTE_MS, 0).isCritical, false);
});
