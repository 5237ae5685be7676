import { readFile, rm } from "node:fs/promises";

import type { Scheduler } from "@osr/base/scheduler";

import type { MachinePaths } from "./machine-paths.ts";
import { withControl } from "./qemu-control.ts";

/** What is on the machine's screen, as PNG: a few KiB of text, at most some MiB. QEMU writes it as a file, which goes at once. */
export async function takeScreenshot(paths: MachinePaths, scheduler: Scheduler): Promise<Buffer> {
  try {
    await withControl(paths, scheduler, (qmp) =>
      qmp.execute("screendump", { filename: paths.screenshot, format: "png" }),
    );
    return await readFile(paths.screenshot);
  } finally {
    await rm(paths.screenshot, { force: true });
  }
}
