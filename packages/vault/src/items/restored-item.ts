import type { JsonObject } from "@osr/base/json-value";

import { type ItemPhase, type TestPhase, withoutJob } from "./item-state.ts";

/**
 * What a rebuilt vault knows of an item beside what was sealed. Its job went down with the lost vault, so the item is what it
 * would be after that job had failed; the newest point is reported again.
 */
export function restoredItem(value: JsonObject, { nowMs }: { readonly nowMs: number }): JsonObject {
  const state = withoutJob({
    phase: value["phase"] as ItemPhase,
    before: value["phase_before"] as ItemPhase,
    test: value["test"] as TestPhase,
    isFenced: value["is_fenced"] === true,
    hasPoint: false,
  });
  const hasTest = (value["test_replica"] ?? null) !== null;
  return {
    phase: state.phase,
    phase_before: state.before,
    test: hasTest ? "running" : "none",
    newest_point_slot: null,
    newest_point_at: null,
    known_disks: [],
    job_id: null,
    job_kind: null,
    changed_at: nowMs,
  };
}
