import { notAllowed } from "../arm/arm-error.ts";

/**
 * Where a protected item is in its life. This file is the only one that says what may follow what.
 *
 * ```
 * enabling ─▶ protected ─▶ failing-over ─▶ failed-over ─▶ committing ─▶ committed
 *    │            ▲  ▲          │            │    ▲
 *    ▼            │  └──(nothing fenced yet)─┘    └─▶ changing-point ─▶ failed-over
 * enable-failed   │             ▼
 *                 │       failover-failed (fenced, no machine runs)
 *                 └── cancelling ◀── failed-over, failover-failed
 * disabling: from every phase in which no other job runs; the item is gone when it succeeds
 * ```
 *
 * A test failover goes on beside the phase, since it touches neither the replication nor the source.
 */
export const ITEM_PHASES = [
  "enabling",
  "enable-failed",
  "protected",
  "failing-over",
  "failover-failed",
  "failed-over",
  "changing-point",
  "committing",
  "committed",
  "cancelling",
  "disabling",
] as const;
export type ItemPhase = (typeof ITEM_PHASES)[number];

export const TEST_PHASES = ["none", "starting", "running", "cleaning-up"] as const;
export type TestPhase = (typeof TEST_PHASES)[number];

export type ItemState = {
  readonly phase: ItemPhase;
  readonly test: TestPhase;
  /** Phase to which a job that fails returns. */
  readonly before: ItemPhase;
  /** Whether the source's logs are fenced, so that it can't replicate any more. */
  readonly isFenced: boolean;
  /** Whether there is a recovery point that a machine may start from. */
  readonly hasPoint: boolean;
};

/** Operations in ARM's words (allowedOperations), and the two that ARM has no word for. */
export const ITEM_OPERATIONS = [
  "TestFailover",
  "TestFailoverCleanup",
  "UnplannedFailover",
  "ChangePit",
  "Commit",
  "CancelFailover",
  "RepairReplication",
  "DisableProtection",
  "Update",
] as const;
export type ItemOperation = (typeof ITEM_OPERATIONS)[number];

export const ENABLING: ItemState = {
  phase: "enabling",
  test: "none",
  before: "enabling",
  isFenced: false,
  hasPoint: false,
};

/** Phases in which a job of the item itself runs. */
const BUSY: readonly ItemPhase[] = [
  "enabling",
  "failing-over",
  "changing-point",
  "committing",
  "cancelling",
  "disabling",
];

/** What may be asked for now, in a fixed order. */
export function allowedOperations(state: ItemState): readonly ItemOperation[] {
  return ITEM_OPERATIONS.filter((operation) => isAllowed(state, operation));
}

function isAllowed(state: ItemState, operation: ItemOperation): boolean {
  const { phase, test, hasPoint } = state;
  switch (operation) {
    case "TestFailover":
      return phase === "protected" && test === "none" && hasPoint;
    case "TestFailoverCleanup":
      return test === "running" && phase !== "disabling";
    case "UnplannedFailover":
      // Also while a test runs: a disaster doesn't wait for it.
      return (phase === "protected" || phase === "failover-failed") && hasPoint;
    case "ChangePit":
      return phase === "failed-over" || phase === "failover-failed";
    case "Commit":
      return phase === "failed-over";
    case "CancelFailover":
      return phase === "failed-over" || phase === "failover-failed";
    case "RepairReplication":
      return phase === "protected";
    case "DisableProtection":
      return !BUSY.includes(phase) && test === "none";
    case "Update":
      return phase !== "disabling";
  }
}

/** Refuses what is not allowed now. Throws ArmError 409 with the operations that are. */
export function requireAllowed(state: ItemState, operation: ItemOperation, name: string): void {
  const allowed = allowedOperations(state);
  if (allowed.includes(operation)) return;
  const why = state.hasPoint ? "" : ", and it has no recovery point yet";
  throw notAllowed(
    `${operation} is not possible while ${name} is ${stateText(state)}${why}`,
    allowed,
  );
}

const BEGUN: Partial<Record<ItemOperation, Partial<ItemState>>> = {
  TestFailover: { test: "starting" },
  TestFailoverCleanup: { test: "cleaning-up" },
  UnplannedFailover: { phase: "failing-over" },
  ChangePit: { phase: "changing-point" },
  Commit: { phase: "committing" },
  CancelFailover: { phase: "cancelling" },
  DisableProtection: { phase: "disabling" },
};

/** The state while the operation's job runs. Throws as `requireAllowed`. */
export function begun(state: ItemState, operation: ItemOperation, name: string): ItemState {
  requireAllowed(state, operation, name);
  return { ...state, ...BEGUN[operation], before: state.phase };
}

const SUCCEEDED: Partial<Record<ItemOperation, Partial<ItemState>>> = {
  TestFailover: { test: "running" },
  TestFailoverCleanup: { test: "none" },
  UnplannedFailover: { phase: "failed-over" },
  ChangePit: { phase: "failed-over" },
  Commit: { phase: "committed" },
  CancelFailover: { phase: "protected", isFenced: false },
};

/** The state after the operation's job has succeeded. Of DisableProtection there is none: the item is gone. */
export function succeeded(state: ItemState, operation: ItemOperation): ItemState {
  return { ...state, ...SUCCEEDED[operation] };
}

/** The state after the operation's job has failed or was cancelled: never one in which something seems to run that doesn't. */
export function failed(state: ItemState, operation: ItemOperation): ItemState {
  switch (operation) {
    case "TestFailover":
      return { ...state, test: "none" };
    case "TestFailoverCleanup":
      return { ...state, test: "running" };
    case "UnplannedFailover":
    case "ChangePit":
    case "CancelFailover":
      return { ...state, phase: state.isFenced ? "failover-failed" : "protected" };
    case "Commit":
    case "DisableProtection":
    case "RepairReplication":
    case "Update":
      return { ...state, phase: state.before };
  }
}

/** The state of an item whose job was lost with its vault: never one in which something seems to go on that doesn't. */
export function withoutJob(state: ItemState): ItemState {
  switch (state.phase) {
    case "enabling":
      return { ...state, phase: "enable-failed", before: "enable-failed" };
    case "failing-over":
    case "changing-point":
    case "cancelling":
      return { ...state, phase: state.isFenced ? "failover-failed" : "protected" };
    case "committing":
    case "disabling":
      return { ...state, phase: state.before };
    default:
      return state;
  }
}

/** ARM's protectionState and its description. */
export function protectionState(
  state: ItemState,
  stage: "initial" | "resync" | "delta" | "unknown",
): { readonly word: string; readonly description: string } {
  const known: Record<ItemPhase, { readonly word: string; readonly description: string }> = {
    enabling: { word: "EnablingProtection", description: "Enabling protection" },
    "enable-failed": { word: "EnablingFailed", description: "Enabling protection failed" },
    protected: replicating(stage),
    "failing-over": { word: "UnplannedFailoverInProgress", description: "Failing over" },
    "failover-failed": { word: "UnplannedFailoverFailed", description: "Failover failed" },
    "failed-over": {
      word: "UnplannedFailoverCommitPending",
      description: "Failover completed, commit pending",
    },
    "changing-point": {
      word: "ApplyingRecoveryPoint",
      description: "Changing the recovery point",
    },
    committing: { word: "CommitFailoverInProgress", description: "Committing the failover" },
    committed: { word: "UnplannedFailoverCommitted", description: "Failover committed" },
    cancelling: { word: "CancelFailoverInProgress", description: "Cancelling the failover" },
    disabling: { word: "DisablingProtection", description: "Disabling protection" },
  };
  return known[state.phase];
}

function replicating(stage: "initial" | "resync" | "delta" | "unknown"): {
  readonly word: string;
  readonly description: string;
} {
  switch (stage) {
    case "initial":
      return { word: "InitialReplicationInProgress", description: "Initial replication" };
    case "resync":
      return { word: "ResynchronizationInProgress", description: "Resynchronization" };
    case "delta":
      return { word: "Protected", description: "Protected" };
    case "unknown":
      return { word: "InitialReplicationPending", description: "Waiting for the machine" };
  }
}

/** ARM's testFailoverState and its description. */
export function testState(test: TestPhase): {
  readonly word: string;
  readonly description: string;
} {
  switch (test) {
    case "none":
      return { word: "None", description: "None" };
    case "starting":
      return { word: "TestFailoverInProgress", description: "Test failover in progress" };
    case "running":
      return {
        word: "WaitingForCompletion",
        description: "Waiting for cleanup: the test counts when it has been cleaned up",
      };
    case "cleaning-up":
      return { word: "MarkedForDeletion", description: "Cleaning up test environment" };
  }
}

function stateText({ phase, test }: ItemState): string {
  return test === "none" ? phase : `${phase} with a test failover ${test}`;
}
