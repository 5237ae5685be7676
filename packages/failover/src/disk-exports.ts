import type { BlockSource } from "@osr/base/block-source";
import { cachedSource } from "@osr/nbd/cached-source";
import { startNbdServer } from "@osr/nbd/nbd-server";
import { openPoint } from "@osr/repository/point-reader";

import type { FailoverPlan } from "./failover-plan.ts";
import type { FailoverPorts } from "./failover-ports.ts";

/** The disks of one machine at its point, served over NBD by their names. Disposing it stops serving them. */
export type DiskExports = AsyncDisposable & { readonly unixSocketPath: string };

/** The disks of a plan, opened: every index on the way to the point is authentic and readable. */
export type OpenDisks = AsyncDisposable & { readonly sources: ReadonlyMap<string, BlockSource> };

export async function openDisks(
  plan: FailoverPlan,
  ports: FailoverPorts,
  signal: AbortSignal,
): Promise<OpenDisks> {
  const { store, vaultId, cache } = ports;
  const sources = new Map<string, BlockSource>();
  await using opened = new AsyncDisposableStack();
  for (const { descriptor, dataKey } of plan.disks) {
    const { diskId, name } = descriptor;
    const options = { vaultId, point: plan.point, diskId, dataKey, signal };
    const source = cachedSource(await openPoint(store, options), { cache });
    sources.set(name, opened.use(source));
  }
  const kept = opened.move();
  return { sources, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Serves opened disks, which it takes over: disposing the exports closes the disks too. */
export async function serveDisks(
  disks: OpenDisks,
  unixSocketPath: string,
  ports: FailoverPorts,
): Promise<DiskExports> {
  const { log, scheduler } = ports;
  const server = await startNbdServer({
    listen: { unixSocketPath },
    exports: disks.sources,
    log,
    scheduler,
  });
  const dispose = async (): Promise<void> => {
    await server.close();
    await disks[Symbol.asyncDispose]();
  };
  let disposed: Promise<void> | undefined;
  return { unixSocketPath, [Symbol.asyncDispose]: () => (disposed ??= dispose()) };
}
