import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { must } from "@osr/base/assert";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import type { ComputeProvider, NetworkSpec } from "@osr/compute/compute-provider";

import { waysOut } from "./network-isolation.ts";
import { ip, linksOf, namespaceOf, withinNamespace } from "./network-namespace.ts";
import { daemonOf, killProcess } from "./process-identity.ts";
import { type QemuHost, missingNetworks, openQemuHost } from "./qemu-fixtures.contract.ts";

const missing = missingNetworks();
const skip = missing ?? false;

suite("virtual networks", { skip }, () => {
  let host: QemuHost;
  let provider: ComputeProvider;
  let spec: NetworkSpec;
  before(async () => {
    host = await openQemuHost();
    provider = host.open();
    spec = {
      name: host.networkName,
      subnet: "10.231.78.0/24",
      gateway: "10.231.78.1",
      isolated: true,
      reservations: [{ mac: "52:54:00:78:00:10", address: "10.231.78.10", hostName: "web" }],
    };
    await provider.ensureNetwork(spec);
  });
  after(async () => {
    await provider[Symbol.asyncDispose]();
    await host.fixtures.dispose();
    assert.deepEqual(await host.fixtures.leftovers(), []);
  });

  const files = (suffix: string): string =>
    join(host.directory, "networks", `${spec.name}.${suffix}`);

  test("a bridge with the gateway's address, and a DHCP server that knows the reservations", async () => {
    assert.deepEqual(await linksOf(spec.name), ["lo", "br0"]);
    const [bridge] = JSON.parse(
      await ip(["-n", namespaceOf(spec.name), "-json", "-4", "address", "show", "br0"]),
    ) as [{ addr_info: [{ local: string; prefixlen: number }] }];
    assert.equal(bridge.addr_info[0].local, spec.gateway);
    assert.equal(bridge.addr_info[0].prefixlen, 24);
    const dnsmasq = must(await daemonOf(files("dnsmasq.pid")), "dnsmasq runs");
    const sockets = await readFile(`/proc/${dnsmasq.pid}/net/udp`, "utf8");
    assert.match(sockets, /: [0-9A-F]{8}:0043 /, "it listens for DHCP in the namespace");
    assert.match(await readFile(files("dnsmasq.conf"), "utf8"), /^dhcp-host=52:54:00:78:00:10,/m);
  });

  test("the same again changes nothing; other reservations make another DHCP server", async () => {
    const first = await daemonOf(files("dnsmasq.pid"));
    await provider.ensureNetwork(spec);
    assert.deepEqual(await daemonOf(files("dnsmasq.pid")), first);
    const more = { mac: "52:54:00:78:00:11", address: "10.231.78.11", hostName: "db" };
    await provider.ensureNetwork({ ...spec, reservations: [...spec.reservations, more] });
    assert.notDeepEqual(await daemonOf(files("dnsmasq.pid")), first);
    assert.match(await readFile(files("dnsmasq.conf"), "utf8"), /^dhcp-host=52:54:00:78:00:11,/m);
  });

  test("what is missing is repaired", async () => {
    const dnsmasq = must(await daemonOf(files("dnsmasq.pid")), "dnsmasq runs");
    await killProcess(dnsmasq, systemScheduler, 5000);
    await ip(["netns", "delete", namespaceOf(spec.name)]);
    await provider.ensureNetwork(spec);
    assert.deepEqual(await linksOf(spec.name), ["lo", "br0"]);
    assert.ok(await daemonOf(files("dnsmasq.pid")));
  });

  test("a way out is found, and the network is refused", async () => {
    assert.deepEqual(await waysOut(spec.name), []);
    const within = ["-n", namespaceOf(spec.name)];
    await ip([...within, "link", "add", "out0", "type", "veth", "peer", "name", "out1"]);
    assert.deepEqual((await waysOut(spec.name)).toSorted(), ["link out0", "link out1"]);
    await assert.rejects(provider.ensureNetwork(spec), { code: "NETWORK_NOT_ISOLATED" });
    await ip([...within, "link", "delete", "out0"]);
    await ip([...within, "route", "add", "default", "via", "10.231.78.9", "dev", "br0"]);
    assert.deepEqual(await waysOut(spec.name), ["route to default by 10.231.78.9"]);
    await assert.rejects(provider.ensureNetwork(spec), { code: "NETWORK_NOT_ISOLATED" });
    await ip([...within, "route", "delete", "default"]);
    await provider.ensureNetwork(spec);
  });

  test("a namespace that is not ours is left alone", async () => {
    const other = `x${spec.name.slice(1)}`;
    await ip(["netns", "add", namespaceOf(other)]);
    try {
      await assert.rejects(provider.ensureNetwork({ ...spec, name: other }), {
        code: "NETWORK_TAKEN",
      });
      await provider.removeNetwork(other);
      assert.ok((await readdir("/run/netns")).includes(namespaceOf(other)));
    } finally {
      await ip(["netns", "delete", namespaceOf(other)]);
    }
  });

  test("a probe speaks from within the network", async () => {
    const script = `
      const server = require("net").createServer((socket) => socket.once("data", (data) => {
        if (String(data) === "hold") socket.write("part"); else socket.end("you said " + data);
      }));
      server.listen(8080, "${spec.gateway}", () => console.log("up"));`;
    const [command = "", ...args] = withinNamespace(spec.name, [process.execPath, "-e", script]);
    const server = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
    try {
      await once(server.stdout, "data");
      const probe = async (request: string, timeoutMs: number, replyBytesMax: number) =>
        String(
          await provider.probe(spec.name, spec.gateway, 8080, Buffer.from(request), {
            timeoutMs,
            replyBytesMax,
          }),
        );
      assert.equal(await probe("hello", 5000, 1000), "you said hello");
      assert.equal(await probe("hello", 5000, 3), "you", "a limited answer");
      assert.equal(await probe("hold", 300, 1000), "part", "what came in time");
      assert.equal(await probe("", 5000, 0), "", "an accepted connection is enough");
      await assert.rejects(probe("", 200, 1000), { code: "PROBE_FAILED" }, "no answer at all");
    } finally {
      server.kill("SIGKILL");
      await once(server, "exit");
    }
    const options = { timeoutMs: 100, replyBytesMax: 1 };
    await assert.rejects(provider.probe("nosuch", "10.231.78.1", 80, Buffer.alloc(0), options), {
      code: "NETWORK_UNKNOWN",
    });
  });
});
