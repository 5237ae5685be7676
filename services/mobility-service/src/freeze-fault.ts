import type { Freezer, PreparedFreeze } from "@osr/block-device/freezer";

/** A planted fault for tests: everything but the freeze itself, so that writers go on during the cut. */
export function withoutFreezing(freezer: Freezer): Freezer {
  return {
    async prepare(disks): Promise<PreparedFreeze> {
      const prepared = await freezer.prepare(disks);
      return {
        fileSystems: prepared.fileSystems,
        sync: (signal) => prepared.sync(signal),
        freeze: () => ({ frozen: [], synced: prepared.fileSystems }),
        thaw: () => undefined,
        release: () => prepared.release(),
        [Symbol.asyncDispose]: () => prepared.release(),
      };
    },
  };
}
