import type { Clock } from "@osr/base/clock";
import type { Scheduler } from "@osr/base/scheduler";
import { MINUTE_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import { OsrError } from "@osr/base/errors";
import { parseObjectName, sealedStatePrefix, vaultPrefix } from "@osr/repository/object-names";
import { type ObjectStore, STORE_ERRORS, listAll } from "@osr/repository/object-store";

export type Use = { readonly bytes: number; readonly objects: number };

export type StorageUse = {
  readonly countedUnixMs: number;
  readonly disks: ReadonlyMap<Uuid, Use>;
  readonly recoveryPoints: Use;
  readonly sealedState: Use;
  readonly other: Use;
};

/** Counting lists every object of the vault, so a count is given again for as long. */
export const STORAGE_USE_AGE_MS_MAX = 15 * MINUTE_MS;
const COUNT_MS_MAX = 10 * MINUTE_MS;
/** Vaults whose counts are kept; what is more is counted again. */
const COUNTS_MAX = 1000;

type Ports = { readonly store: ObjectStore; readonly clock: Clock; readonly scheduler: Scheduler };

/** Counts what vaults have in the storage account: one count of a vault at a time, whoever asks, and none while the last one is young. */
export class StorageUses {
  readonly #ports: Ports;
  readonly #counts = new Map<Uuid, Promise<StorageUse>>();

  constructor(ports: Ports) {
    this.#ports = ports;
  }

  /** At most STORAGE_USE_AGE_MS_MAX old. Throws STORE_UNAVAILABLE; the next request counts again then. */
  async of(vaultId: Uuid): Promise<StorageUse> {
    const { clock } = this.#ports;
    const known = this.#counts.get(vaultId);
    if (known !== undefined) {
      const use = await known;
      if (clock.unixMs() - use.countedUnixMs < STORAGE_USE_AGE_MS_MAX) return use;
      // Whoever finds it old first counts; others that found the same wait for that.
      if (this.#counts.get(vaultId) !== known) return this.of(vaultId);
    }
    const counting = this.#count(vaultId);
    this.#counts.set(vaultId, counting);
    const oldest = this.#counts.keys().next().value;
    if (this.#counts.size > COUNTS_MAX && oldest !== undefined) this.#counts.delete(oldest);
    try {
      return await counting;
    } catch (error) {
      if (this.#counts.get(vaultId) === counting) this.#counts.delete(vaultId);
      throw error;
    }
  }

  async #count(vaultId: Uuid): Promise<StorageUse> {
    const { store, clock, scheduler } = this.#ports;
    const limit = new AbortController();
    using _ = scheduler.after(COUNT_MS_MAX, () =>
      limit.abort(
        new OsrError(
          STORE_ERRORS.STORE_UNAVAILABLE,
          `the objects of the vault could not be counted within ${COUNT_MS_MAX / MINUTE_MS} min`,
        ),
      ),
    );
    const disks = new Map<Uuid, Use>();
    let recoveryPoints = NOTHING;
    let other = NOTHING;
    for await (const { name, sizeBytes } of listAll(store, vaultPrefix(vaultId), limit.signal)) {
      const parsed = parseObjectName(vaultId, name);
      if (parsed?.kind === "recovery-point") recoveryPoints = more(recoveryPoints, sizeBytes);
      else if (parsed !== undefined && "diskId" in parsed)
        disks.set(parsed.diskId, more(disks.get(parsed.diskId) ?? NOTHING, sizeBytes));
      else other = more(other, sizeBytes);
    }
    let sealedState = NOTHING;
    for await (const { sizeBytes } of listAll(store, sealedStatePrefix(vaultId), limit.signal))
      sealedState = more(sealedState, sizeBytes);
    return { countedUnixMs: clock.unixMs(), disks, recoveryPoints, sealedState, other };
  }
}

const NOTHING: Use = { bytes: 0, objects: 0 };

function more({ bytes, objects }: Use, sizeBytes: number): Use {
  return { bytes: bytes + sizeBytes, objects: objects + 1 };
}
