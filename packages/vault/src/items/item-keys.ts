import type { Uuid } from "@osr/base/uuid";
import type { DataKey } from "@osr/repository/key-schedule";

import type { ItemRow } from "./item-row.ts";

type Owner = Pick<ItemRow, "id" | "changed_at">;
type Kept = { readonly changedAt: number; readonly keys: Map<Uuid, DataKey> };

/**
 * Data keys of the items of fabrics, in memory, so that a wish of 1,000 machines does not read as many objects. The storage account has the say: whatever
 * changes the state of an item (deleting its data among it) makes its keys be read again, and those of items that are gone are forgotten.
 */
export class ItemKeys {
  readonly #fabrics = new Map<Uuid, ReadonlyMap<Uuid, Kept>>();

  /** Keys for one wish of the fabric, whose items are `items`. */
  forWish(
    fabricId: Uuid,
    items: readonly Owner[],
  ): (item: Owner, diskId: Uuid, read: () => Promise<DataKey>) => Promise<DataKey> {
    const before = this.#fabrics.get(fabricId);
    const now = new Map<Uuid, Kept>();
    for (const { id, changed_at: changedAt } of items) {
      const kept = before?.get(id);
      now.set(id, kept?.changedAt === changedAt ? kept : { changedAt, keys: new Map() });
    }
    this.#fabrics.set(fabricId, now);
    return async ({ id }, diskId, read) => {
      const kept = now.get(id);
      const key = kept?.keys.get(diskId) ?? (await read());
      kept?.keys.set(diskId, key);
      return key;
    };
  }
}
