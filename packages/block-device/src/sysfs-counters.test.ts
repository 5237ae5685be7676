import assert from "node:assert/strict";
import { test } from "node:test";

import { sysfsCounters } from "./sysfs-counters.ts";
import { KernelTree } from "./testing/kernel-tree.ts";

const STAT =
  "   48865       24 26217415    36332 12815537   117888 110168151  2048525        0   225872  2142274      491        0 11046162      676   157337    56739\n";

test("sectors written and discarded come from the kernel's own count, where it counts", (t) => {
  const disk = { device: "254:0", sectors: 8000 };
  const tree = new KernelTree(t)
    .disk("vda", { ...disk, files: { stat: STAT, "queue/iostats": "1\n" } })
    .disk("vdb", { ...disk, device: "254:16", files: { stat: STAT, "queue/iostats": "0\n" } })
    // Kernels before 4.18 count no discards.
    .disk("vdc", { ...disk, device: "254:32", files: { stat: "1 2 3 4 5 6 7 8 9 10 11\n" } });
  const counters = sysfsCounters(tree.roots);
  const vda = counters.counterOf({ name: "vda" });
  assert.deepEqual(vda(), { written: 110168151, discarded: 11046162 });
  for (const name of ["vdb", "vdc", "gone"])
    assert.equal(counters.counterOf({ name })(), undefined);
  tree.file("sys/block/vda/stat", STAT.replace("110168151", "110168159"));
  assert.deepEqual(vda()?.written, 110168159);
});
