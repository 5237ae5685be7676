import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { readConfiguration } from "./configuration.ts";

const CORRECT = {
  processServer: { host: "192.0.2.1", port: 9443 },
  authority: "/etc/osr/authority.pem",
  certificate: "/etc/osr/certificate.pem",
  privateKey: "/etc/osr/private-key.pem",
};

function read(content: unknown): ReturnType<typeof readConfiguration> {
  const folder = mkdtempSync(join(tmpdir(), "osr-configuration-"));
  try {
    const file = join(folder, "configuration.json");
    writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
    return readConfiguration(file);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("a minimal configuration gets the defaults", () => {
  const configuration = read(CORRECT);
  assert.equal(configuration.pointIntervalSeconds, 300);
  assert.deepEqual(configuration.disks, []);
  assert.equal(configuration.statusFile, "/run/osr/status.json");
  assert.equal(configuration.testFaults, undefined);
});

test("process servers are one, or a list in order", () => {
  const [first, second] = [CORRECT.processServer, { host: "2001:db8::1", port: 9444 }];
  assert.deepEqual(read(CORRECT).processServers, [first]);
  const { processServer: _, ...others } = CORRECT;
  const listed = read({ ...others, processServers: [second, first] });
  assert.deepEqual(listed.processServers, [second, first]);
});

test("a machine that has enrolled needs nothing but its identity", () => {
  const { enrolmentFile, processServers } = read({ enrolmentFile: "/var/lib/osr/enrolment.json" });
  assert.equal(enrolmentFile, "/var/lib/osr/enrolment.json");
  assert.deepEqual(processServers, []);
});

test("scripts have a time limit, their own or the default", () => {
  const scripts = { preScript: "/a", postScript: "/b" };
  assert.equal(read({ ...CORRECT, scripts }).scripts?.seconds, 30);
  assert.equal(read({ ...CORRECT, scripts: { ...scripts, seconds: 5 } }).scripts?.seconds, 5);
});

for (const [name, content, message] of [
  ["is no JSON", "{", /not JSON/],
  ["lacks a field", { ...CORRECT, authority: undefined }, /authority must be text/],
  [
    "has a wrong port",
    { ...CORRECT, processServer: { host: "h", port: 0 } },
    /processServer\.port/,
  ],
  ["names no process server", { ...CORRECT, processServer: undefined }, /processServers must name/],
  [
    "lists a wrong port",
    { ...CORRECT, processServers: [{ host: "h", port: 1 }, { host: "h" }] },
    /processServers\[1\]\.port/,
  ],
  ["has points too close", { ...CORRECT, pointIntervalSeconds: 14 }, /pointIntervalSeconds/],
  ["has a relative path", { ...CORRECT, privateKey: "key.pem" }, /privateKey must be an absolute/],
  ["has a misspelt field", { ...CORRECT, pointInterval: 60 }, /pointInterval is not a known field/],
  [
    "has an unknown fault",
    { ...CORRECT, testFaults: { quietWindow: "never" } },
    /testFaults\.quietWindow/,
  ],
] as const)
  test(`a configuration that ${name} is refused with the field`, () => {
    assert.throws(() => read(content), { code: "CONFIGURATION_INVALID", message });
  });
