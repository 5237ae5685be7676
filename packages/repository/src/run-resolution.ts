import { assert } from "@osr/base/assert";

import { RunTable, SHARD_BLOCKS } from "./run-table.ts";

/** Runs that can be resolved at once: a start (32 bits) and a row (21 bits) share one exact number of 53 bits. */
export const RESOLVED_ROWS_MAX = 2 ** 21;

/**
 * The state that `table` leaves behind when its runs are applied in order: the newest run wins for every block. The
 * result is sorted by start, has no overlaps, and no run of it crosses a shard boundary.
 *
 * Runs are sorted by start and swept; a heap holds those that cover the position, the newest on top. Painting an array
 * of blocks was left: it costs as much for an idle disk as for a busy one.
 */
export function resolveRuns(table: RunTable): RunTable {
  const { length, starts, counts } = table;
  assert(length <= RESOLVED_ROWS_MAX, `${length} runs are too many to resolve at once`);
  const endOf = (row: number): number => (starts[row] ?? 0) + (counts[row] ?? 0);
  const order = sortedKeys(table);
  const result = new RunTable(length);
  const active = new RowHeap();
  let position = 0;
  for (let next = 0; next < length || active.size > 0;) {
    if (active.size === 0) {
      position = startOf(order, next);
      // Most runs have their blocks for themselves.
      const row = rowOf(order, next);
      if (next + 1 === length || startOf(order, next + 1) >= endOf(row)) {
        pushSplit(result, table, row, position, endOf(row));
        next += 1;
        continue;
      }
    }
    while (next < length && startOf(order, next) === position) active.push(rowOf(order, next++));
    const newest = active.top();
    const end = endOf(newest);
    if (end <= position) {
      active.pop();
      continue;
    }
    const until = next < length ? Math.min(end, startOf(order, next)) : end;
    pushSplit(result, table, newest, position, until);
    position = until;
  }
  return result;
}

function sortedKeys(table: RunTable): Float64Array {
  const keys = new Float64Array(table.length);
  for (let row = 0; row < table.length; row++)
    keys[row] = (table.starts[row] ?? 0) * RESOLVED_ROWS_MAX + row;
  // oxlint-disable-next-line unicorn/no-array-sort -- in place: the keys are ours and may take 16 MiB
  return keys.sort();
}

function startOf(keys: Float64Array, index: number): number {
  return Math.floor((keys[index] ?? 0) / RESOLVED_ROWS_MAX);
}

function rowOf(keys: Float64Array, index: number): number {
  return (keys[index] ?? 0) % RESOLVED_ROWS_MAX;
}

function pushSplit(to: RunTable, from: RunTable, row: number, start: number, end: number): void {
  for (let at = start; at < end;) {
    const boundary = (Math.floor(at / SHARD_BLOCKS) + 1) * SHARD_BLOCKS;
    const until = Math.min(end, boundary);
    to.pushPart(from, row, at, until);
    at = until;
  }
}

/** A heap of row numbers, the highest on top: a higher row was put later, so it is newer. */
class RowHeap {
  readonly #rows: number[] = [];

  get size(): number {
    return this.#rows.length;
  }

  top(): number {
    return this.#rows[0] ?? -1;
  }

  push(row: number): void {
    const rows = this.#rows;
    let at = rows.length;
    rows.push(row);
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      const above = rows[parent] ?? 0;
      if (above >= row) break;
      rows[at] = above;
      at = parent;
    }
    rows[at] = row;
  }

  pop(): void {
    const rows = this.#rows;
    const last = rows.pop() ?? 0;
    if (rows.length === 0) return;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= rows.length) break;
      if ((rows[child + 1] ?? -1) > (rows[child] ?? -1)) child += 1;
      const below = rows[child] ?? 0;
      if (below <= last) break;
      rows[at] = below;
      at = child;
    }
    rows[at] = last;
  }
}
