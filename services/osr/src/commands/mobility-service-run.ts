import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { assert } from "@osr/base/assert";

/**
 * `osr mobility-service run`: becomes the mobility service, in the same process id. It needs `node:ffi`, which a running
 * Node cannot switch on.
 */
export function mobilityServiceRun(options: { readonly config: string }): Promise<void> {
  const main = fileURLToPath(import.meta.resolve("@osr/service-mobility-service/main"));
  assert(process.execve !== undefined, "Node has execve on this platform");
  const flags = ["--experimental-ffi", "--disable-warning=ExperimentalWarning"];
  const words = [process.execPath, ...flags, main, "run", "--config", resolve(options.config)];
  return Promise.resolve(process.execve(process.execPath, words));
}
