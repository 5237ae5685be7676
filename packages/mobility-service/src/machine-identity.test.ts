import assert from "node:assert/strict";
import { test } from "node:test";

import { silentLog } from "@osr/base/log";
import { uuidOfName } from "@osr/base/uuid";

import { type MachineIdentity, identityMismatch } from "./machine-identity.ts";
import type { MobilityStatus } from "./mobility-status.ts";
import { ReplicaService } from "./replica-service.ts";
import { VirtualTime } from "./testing/virtual-time.ts";

const BOUND: MachineIdentity = {
  machineId: uuidOfName("machine"),
  biosUuid: "4c4c4544-0000-1000-8000-000000000001",
  disks: ["serial:A", "wwid:naa.1", "ptuuid:1234"],
};

for (const [what, change, isReplica] of [
  ["the machine itself", {}, false],
  ["another SMBIOS UUID", { biosUuid: "4c4c4544-0000-1000-8000-000000000002" }, true],
  ["no SMBIOS UUID and the same disks", { biosUuid: "" }, false],
  ["no SMBIOS UUID and other disks", { biosUuid: "", disks: ["serial:B", "ptuuid:1234"] }, true],
  ["the same SMBIOS UUID and other disks", { disks: ["serial:B", "ptuuid:1234"] }, true],
  ["one of its disks replaced, one gone, one new", { disks: ["wwid:naa.1", "serial:C"] }, false],
  ["no disk found yet", { disks: [] }, false],
] as const)
  test(`${what}: ${isReplica ? "a replica" : "the machine"}`, () => {
    const mismatch = identityMismatch(BOUND, { ...BOUND, ...change });
    assert.equal(mismatch !== undefined, isReplica, String(mismatch));
  });

test("what a copy has on its disks proves nothing, and what the enrolled machine lacked is not asked for", () => {
  const bound = { ...BOUND, biosUuid: "", disks: ["ptuuid:1234"] };
  assert.equal(identityMismatch(bound, { ...bound, disks: ["ptuuid:9"] }), undefined);
});

test("the agent of a replica says so, every second, until it is stopped", async () => {
  const time = new VirtualTime();
  const written: MobilityStatus[] = [];
  const service = new ReplicaService({
    mismatch: "it is another one",
    processServer: "192.0.2.1:9443",
    writeStatus: (status) => Promise.resolve(void written.push(status)),
    clock: time,
    scheduler: time,
    log: silentLog,
  });
  const running = service.run();
  for (let step = 0; step < 20; step++) {
    await new Promise((resolve) => void setImmediate(resolve));
    time.step();
  }
  await service.stop();
  await running;
  const [first, second] = written;
  assert.equal(first?.state, "replica");
  assert.deepEqual(
    first.health.map(({ code, message }) => [code, message]),
    [["MACHINE_IS_REPLICA", "it is another one"]],
  );
  assert.equal(second?.unixMs, first.unixMs + 1000);
  assert.equal(written.at(-1)?.state, "stopped");
});
