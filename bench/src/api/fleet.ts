import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { SECOND_MS } from "@osr/base/units";

import { BENCH_ERRORS } from "../bench-errors.ts";
import { endChild, spawnTied } from "../machine/command.ts";
import type { FleetFabric, FleetOrder } from "./fleet-process.ts";

const MAIN = join(import.meta.dirname, "fleet-process.ts");
const STOP_MS_MAX = 10 * SECOND_MS;

/** Configuration servers that report for many agents, until it is disposed. */
export type Fleet = AsyncDisposable & { readonly fabrics: readonly FleetFabric[] };

/** Starts it and registers its fabrics; their first reports are under way then. Throws BENCH_COMMAND_FAILED. */
export async function startFleet(order: FleetOrder): Promise<Fleet> {
  const file = join(order.folder, "order.json");
  await writeFile(file, JSON.stringify(order), { mode: 0o600 });
  const child = spawnTied(process.execPath, [MAIN, file], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface(must(child.stdout, "its output is a pipe"))[Symbol.asyncIterator]();
  const line = await lines.next();
  if (line.done === true) {
    await endChild(child, STOP_MS_MAX);
    throw new OsrError(BENCH_ERRORS.BENCH_COMMAND_FAILED, "the configuration servers have ended");
  }
  return {
    fabrics: JSON.parse(line.value) as FleetFabric[],
    [Symbol.asyncDispose]: () => endChild(child, STOP_MS_MAX),
  };
}
