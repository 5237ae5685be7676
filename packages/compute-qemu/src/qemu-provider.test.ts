import { test } from "node:test";

import { computeProviderContract } from "@osr/compute/compute-provider.contract";

import { missingQemu, openQemuHost } from "./qemu-fixtures.contract.ts";

const missing = missingQemu();
if (missing === undefined) {
  const host = await openQemuHost();
  computeProviderContract("QEMU", host.open, host.fixtures);
} else test("ComputeProvider contract: QEMU", (t) => t.skip(missing));
