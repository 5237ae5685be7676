import type { Job, ReplicationProtectedItem } from "@azure/arm-recoveryservices-siterecovery";

import type { Output } from "../output.ts";
import { itemDetails } from "./provider-details.ts";

type Row = Readonly<Record<string, unknown>>;

/** A result in two forms: whole, as the vault answered it, for programs; and the columns that a person reads. */
export class View {
  readonly full: Output;
  readonly short: Output;

  constructor(full: Output, short: Output) {
    this.full = full;
    this.short = short;
  }
}

export function viewOfList<T extends object>(all: readonly T[], short: (one: T) => Row): View {
  return new View(
    all as readonly Row[],
    all.map((one) => short(one)),
  );
}

export function viewOf<T extends object>(one: T, short: (one: T) => Row): View {
  return new View(one as Row, short(one));
}

export function jobRow({ name, properties = {} }: Job): Row {
  const { friendlyName, state, targetObjectName, startTime, endTime } = properties;
  return {
    name,
    job: friendlyName,
    state,
    target: targetObjectName,
    started: time(startTime),
    ended: time(endTime),
  };
}

/** What an operation leaves to show: its job, or that it was done at once. */
export function jobView(job: Job | undefined): View {
  return job === undefined ? viewOf({ state: "Succeeded" }, (row) => row) : viewOf(job, jobRow);
}

export function itemRow(item: ReplicationProtectedItem): Row {
  const { name, properties = {} } = item;
  const details = itemDetails(item);
  return {
    name,
    machine: properties.friendlyName,
    state: properties.protectionState,
    health: properties.replicationHealth,
    rpoSeconds: details?.rpoInSeconds,
    resyncPercent: details?.resyncProgressPercentage,
    policy: properties.policyFriendlyName,
    testFailover: properties.testFailoverState,
    allowed: properties.allowedOperations?.join(","),
  };
}

/** The moments that stand for "never" in ARM are not shown. */
export function time(date: Date | undefined): string | undefined {
  if (date === undefined || Number.isNaN(date.getTime())) return undefined;
  const text = date.toISOString();
  return text.startsWith("0001") || text.startsWith("9999") ? undefined : text;
}
