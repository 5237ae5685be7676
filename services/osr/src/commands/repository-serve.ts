import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";

import type { ServeOptions } from "@osr/cli/program";
import { keepFreedMemory } from "@osr/base/freed-memory";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MIB } from "@osr/base/units";
import { cachedSource } from "@osr/nbd/cached-source";
import { startNbdServer } from "@osr/nbd/nbd-server";
import { openPoint } from "@osr/repository/point-reader";

import { aborted } from "@osr/base/platform/interruption";
import { choosePoint, diskNamed, disksOf } from "../repository/choose-point.ts";
import { dataKeyOf, openRepository } from "../repository/open-repository.ts";
import { roleLog } from "../role-log.ts";

/** `osr repository serve`: one read-only NBD export a disk, until the signal. */
export async function repositoryServe(options: ServeOptions, signal: AbortSignal): Promise<void> {
  keepFreedMemory(32 * MIB);
  using repository = await openRepository(options);
  const point = await choosePoint(repository, options);
  const all = await disksOf(repository, point);
  const disks = options.disk === undefined ? all : [diskNamed(all, options.disk)];
  const directory = resolve(options.socketDirectory);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  await using stack = new AsyncDisposableStack();
  for (const { diskId, name } of disks) {
    const dataKey = await dataKeyOf(repository, diskId);
    const { store, vaultId } = repository;
    const source = stack.use(await openPoint(store, { vaultId, point, diskId, dataKey, signal }));
    const cached = stack.use(cachedSource(source));
    const socket = join(directory, `${name}.sock`);
    stack.use(
      await startNbdServer({
        listen: { unixSocketPath: socket },
        exports: new Map([["", cached]]),
        log: roleLog("nbd"),
        scheduler: systemScheduler,
      }),
    );
    process.stdout.write(`${name}  nbd+unix:///?socket=${socket}\n`);
  }
  process.stdout.write("ready; Ctrl-C ends it\n");
  await aborted(signal);
}
