import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { OsrError } from "@osr/base/errors";
import { type Uuid, uuidOfName } from "@osr/base/uuid";

import { REPLICA_ERRORS } from "./replica-errors.ts";
import type { ReplicaSpec } from "@osr/contracts/replica-host";
import type { ReplicaHost } from "./replica-host.ts";

/** A host for one test, and a machine that it has a point of. */
export type HostUnderTest = {
  readonly host: ReplicaHost;
  /** Replaces the host's process: gives its successor. */
  readonly restarted: () => Promise<ReplicaHost>;
  readonly spec: Omit<ReplicaSpec, "replicaId">;
};

const SIGNAL_MS = 60_000;

/** What every ReplicaHost does. `open` gives undefined, with the reason printed, where this machine cannot run it. */
export function replicaHostContract(
  name: string,
  open: (t: TestContext) => Promise<HostUnderTest | undefined>,
): void {
  const id = (word: string): Uuid => uuidOfName("replica", word);
  const by = (leaseToken: number): { jobId: Uuid; leaseToken: number } => ({
    jobId: id("job"),
    leaseToken,
  });
  const signal = (): AbortSignal => AbortSignal.timeout(SIGNAL_MS);

  test(`${name}: a replica is started once however often it is asked for, told of, and destroyed`, async (t) => {
    const under = await open(t);
    if (under === undefined) return;
    const { host, spec } = under;
    const asked = { ...spec, replicaId: id("a") };
    assert.deepEqual(await host.preflight(asked, signal()), []);
    const first = await host.start(asked, by(1), signal());
    const again = await host.start(asked, by(1), signal());
    assert.equal(first.state, "running");
    assert.deepEqual([again.replicaId, again.point], [first.replicaId, first.point]);
    assert.equal((await host.list()).length, 1);
    assert.equal((await host.facts(id("a")))?.machineId, spec.machineId);
    assert.equal(typeof (await host.console(id("a"), 100)), "string");
    assert.equal((await host.screenshot(id("a")))?.toString("latin1", 1, 4), "PNG");
    await host.destroy(id("a"), by(1));
    await host.destroy(id("a"), by(1));
    assert.equal(await host.screenshot(id("a")), undefined);
    assert.equal(await host.facts(id("a")), undefined);
    assert.equal(await host.console(id("a"), 100), "");
    assert.deepEqual(await host.list(), []);
  });

  test(`${name}: a point that is not there is objected to, and starting it leaves nothing`, async (t) => {
    const under = await open(t);
    if (under === undefined) return;
    const { host, spec } = under;
    const asked = { ...spec, replicaId: id("b"), point: { kind: "custom", slot: 1 } } as const;
    assert.notDeepEqual(await host.preflight(asked, signal()), []);
    await assert.rejects(host.start(asked, by(1), signal()), (error) => error instanceof OsrError);
    assert.deepEqual(await host.list(), []);
  });

  test(`${name}: a successor has what its predecessor ran`, async (t) => {
    const under = await open(t);
    if (under === undefined) return;
    const asked = { ...under.spec, replicaId: id("c") };
    const before = await under.host.start(asked, by(1), signal());
    const successor = await under.restarted();
    const after = await successor.start(asked, by(2), signal());
    assert.deepEqual(
      [after.replicaId, after.point, after.state],
      [before.replicaId, before.point, "running"],
    );
    await successor.destroy(id("c"), by(2));
  });

  test(`${name}: nobody older than the newest asker has any effect`, async (t) => {
    const under = await open(t);
    if (under === undefined) return;
    const { host, spec } = under;
    await host.start({ ...spec, replicaId: id("d") }, by(7), signal());
    const isStale = (error: unknown): boolean =>
      error instanceof OsrError && error.code === REPLICA_ERRORS.LEASE_STALE.code;
    await assert.rejects(host.destroy(id("d"), by(6)), isStale);
    await assert.rejects(host.start({ ...spec, replicaId: id("e") }, by(6), signal()), isStale);
    assert.equal((await host.list()).length, 1);
    const successor = await under.restarted();
    await assert.rejects(successor.destroy(id("d"), by(6)), isStale);
    await successor.destroy(id("d"), by(7));
    assert.deepEqual(await successor.list(), []);
  });
}
