import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { uuidOfName } from "@osr/base/uuid";

import { bindMachine } from "./machine-binding.ts";

const MACHINE = {
  machineId: uuidOfName("machine"),
  biosUuid: "4c4c4544-0000-1000-8000-000000000001",
  disks: ["serial:A"],
};

test("the first run binds the enrolment to the machine, and a copy never binds it to itself", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "osr-binding-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "identity.json");
  const bound = (): unknown => JSON.parse(readFileSync(file, "utf8"));
  assert.equal(bindMachine(file, MACHINE), undefined);
  assert.deepEqual(bound(), MACHINE);
  const copy = { ...MACHINE, biosUuid: "4c4c4544-0000-1000-8000-000000000002" };
  assert.match(bindMachine(file, copy) ?? "", /SMBIOS UUID/);
  assert.deepEqual(bound(), MACHINE);
  // Disks that are not there yet are not forgotten, new ones are taken over.
  assert.equal(bindMachine(file, { ...MACHINE, disks: [] }), undefined);
  assert.deepEqual(bound(), MACHINE);
  const grown = { ...MACHINE, disks: ["serial:A", "serial:B"] };
  assert.equal(bindMachine(file, grown), undefined);
  assert.deepEqual(bound(), grown);
  // Enrolled again, the copy is a machine of its own.
  const enrolled = { ...copy, machineId: uuidOfName("another machine") };
  assert.equal(bindMachine(file, enrolled), undefined);
  assert.deepEqual(bound(), enrolled);
  writeFileSync(file, "{");
  assert.throws(() => bindMachine(file, copy), { code: "IDENTITY_UNREADABLE" });
});
