import assert from "node:assert/strict";
import { test } from "node:test";

import { MIB } from "@osr/base/units";

import { startFastMachine } from "./rig/fast-rig.ts";
import { silentNarrator } from "./rig/narrator.ts";
import { ReferenceSnapshots } from "./rig/reference-snapshots.ts";
import { makeRunFolder } from "./rig/run-folder.ts";
import { rigMissing } from "./rig/requirements.ts";

const CUT_1 = "11111111-1111-4111-8111-111111111111";
const CUT_2 = "22222222-2222-4222-8222-222222222222";

/** What an agent does at its hook, with the machine's own hashes of the frozen disks as the oracle. */
function frozen(cutId: string): string {
  return `
set -e
sync
fsfreeze --freeze /data1 && fsfreeze --freeze /data2
trap 'fsfreeze --unfreeze /data2; fsfreeze --unfreeze /data1' EXIT
for serial in data1 data2; do
  for block in /sys/block/vd*; do
    [ "$(cat $block/serial)" = $serial ] && dd if=/dev/\${block##*/} bs=1M iflag=direct 2>/dev/null | sha256sum | cut -c1-64
  done
done
echo '{"frozen": "${cutId}"}' >/dev/ttyS2
head -c 1 /dev/ttyS2 >/dev/null`;
}

test("a machine of the fast rig boots, obeys, and its disks are held at a cut", async (t) => {
  const missing = rigMissing();
  if (missing !== undefined) return t.skip(missing);
  await using run = await makeRunFolder();
  await using machine = await startFastMachine({
    directory: await run.folder("m"),
    dataDisksBytes: [8 * MIB, 12 * MIB],
    narrator: silentNarrator,
  });
  const { shell } = machine;
  assert.deepEqual(await shell.run("echo out; echo err >&2; exit 7"), {
    code: 7,
    output: "out\nerr\n",
  });
  assert.match(await shell.must("node --version"), /^v26\./);
  assert.equal((await shell.run("sleep 30", 1000)).code, 143);
  const bytes = Buffer.alloc(30_000, "rig");
  await shell.writeFile("/run/file", bytes, "600");
  assert.equal(await shell.must("stat -c '%a %s' /run/file"), "600 30000\n");
  // Nothing but the host's loopback can be reached.
  assert.equal(await shell.must("ip route"), "10.0.2.0/24 dev eth0 scope link  src 10.0.2.15 \n");

  using references = await ReferenceSnapshots.attach(machine, ["data1", "data2"], silentNarrator);
  const expected = new Map<string, string[]>();
  for (const [index, cutId] of [CUT_1, CUT_2].entries()) {
    await shell.must(
      `for d in 1 2; do dd if=/dev/urandom of=/data$d/${index} bs=64k count=8; done`,
    );
    expected.set(cutId, (await shell.must(frozen(cutId))).trim().split("\n"));
    // What is written after the thaw belongs to no reference.
    await shell.must("dd if=/dev/urandom of=/data1/later bs=64k count=8; sync");
  }
  assert.deepEqual(references.cutIds, [CUT_1, CUT_2]);
  const hashes = new Set<string>();
  for (const [cutId, sha256] of expected) {
    const of = await references.of(cutId);
    assert.deepEqual(of, [
      { disk: "data1", sha256: sha256[0] },
      { disk: "data2", sha256: sha256[1] },
    ]);
    for (const reference of of) hashes.add(reference.sha256);
  }
  assert.equal(hashes.size, 4);
});
