import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { retried } from "@osr/base/retry";
import { HOUR_MS } from "@osr/base/units";
import { uuidOfName } from "@osr/base/uuid";
import { certificateFacts } from "@osr/certificates/certificate-facts";
import { revokedSerials, sameSerial } from "@osr/certificates/revocation-list";
import { ENROLMENT_ROUTES } from "@osr/contracts/enrolment";
import { keepRenewed } from "@osr/control-link/certificate-renewal";

import { openSite } from "./site.ts";
import { FakeVault } from "./testing/fake-vault.ts";
import { TestRole, TestSite, desiredItem } from "./testing/test-site.ts";

test("a machine leaves a process server that has fallen silent, and goes where its item wants it", async () => {
  await using vault = await FakeVault.start();
  await using site = await new TestSite({ gatewaySilentMs: 400 }).start();
  await site.register(vault);
  using agent = await site.enrol("mobility-service");
  using first = await site.enrol("process-server");
  using second = await site.enrol("process-server");
  await agent.report();
  await first.reportGateway();
  vault.wish({ items: [desiredItem(agent.id)] });
  let settings = (await agent.settings())!;
  if (!settings.isProtected) settings = (await agent.settings(settings.revision))!;
  assert.equal(settings.processServer?.id, first.id);
  // The first one says nothing more.
  const over = new AbortController();
  const alive = (async (): Promise<void> => {
    while (!over.signal.aborted) {
      await second.reportGateway();
      await systemScheduler.sleep(50, over.signal).catch(() => undefined);
    }
  })();
  try {
    const moved = (await agent.settings(settings.revision))!;
    assert.equal(moved.processServer?.id, second.id);
    assert.equal((await second.assignment())!.machines.length, 1);
    assert.deepEqual((await first.assignment())!.machines, []);
    await first.reportGateway();
    vault.wish({ items: [desiredItem(agent.id, { processServerId: first.id })] });
    const wanted = (await agent.settings(moved.revision))!;
    assert.equal(wanted.processServer?.id, first.id);
  } finally {
    over.abort();
    await alive;
  }
});

test("who is revoked is out, and process servers get the list", async () => {
  await using vault = await FakeVault.start();
  await using site = await new TestSite().start();
  await site.register(vault);
  using agent = await site.enrol("mobility-service");
  using gateway = await site.enrol("process-server");
  await agent.report();
  await gateway.reportGateway();
  vault.wish({ items: [desiredItem(agent.id)] });
  let assignment = (await gateway.assignment())!;
  while (assignment.machines.length === 0)
    assignment = (await gateway.assignment(assignment.revision))!;
  assert.equal(assignment.revokedPem, undefined);
  const waiting = gateway.assignment(assignment.revision);
  const { revision } = (await agent.settings())!;
  const held = assert.rejects(agent.settings(revision));
  // As the command does it, in another process.
  using beside = await openSite(
    { secret: site.secret, stateFolder: join(site.folder, "state") },
    { clock: systemClock, randomness: systemRandomness },
  );
  beside.state.revokeMember(agent.id, Math.floor(systemClock.unixMs()));
  const after = (await waiting)!;
  assert.deepEqual(after.machines, []);
  assert.match(after.revokedPem ?? "", /BEGIN X509 CRL/);
  // What it holds open does not help it, and whoever comes back is told.
  await held;
  const settings = (role: TestRole): Promise<unknown> =>
    retried(() => role.settings(), RETRIES, {
      scheduler: systemScheduler,
      randomness: systemRandomness,
    });
  await assert.rejects(settings(agent), { code: "CERTIFICATE_REVOKED" });
  // Enrolled again, it is back, and whoever has its old certificate is not.
  const secret = site.token("mobility-service", agent.id);
  using again = await site.enrol("mobility-service", { id: agent.id, secret });
  for (let tries = 0; tries < 100; tries++) {
    const isBack = await settings(again).then(
      () => true,
      () => false,
    );
    if (isBack) break;
    await systemScheduler.sleep(50);
  }
  await settings(again);
  await assert.rejects(settings(agent), { code: "CERTIFICATE_REVOKED" });
  const list = (await gateway.assignment())!.revokedPem ?? "";
  assert.deepEqual([...revokedSerials(list)], [serialOf(agent)]);
});

/** A connection that is cut is no answer yet. */
const RETRIES = { attemptsMax: 5, delayFirstMs: 20, delayMaxMs: 100 };

function serialOf({ identity }: TestRole): string {
  return sameSerial(certificateFacts(identity.certificatePem).serial);
}

test("a machine is told once to shut down, and its silence is the answer", async () => {
  await using vault = await FakeVault.start();
  let aheadMs = 0;
  const clock = {
    unixMs: () => systemClock.unixMs() + aheadMs,
    monotonicMs: () => systemClock.monotonicMs() + aheadMs,
  };
  await using site = await new TestSite({ clock }).start();
  await site.register(vault);
  using agent = await site.enrol("mobility-service");
  await agent.report();
  const before = (await agent.settings())!;
  const id = uuidOfName("order", "shut down");
  vault.wish({ orders: [{ id, kind: "shut-down-machine", machineId: agent.id }] });
  const told = (await agent.settings(before.revision))!;
  assert.equal(told.shutDownOrder, id);
  const resultOf = (): string | undefined =>
    vault.statuses.at(-1)?.orderResults.find(({ orderId }) => orderId === id)?.state;
  while (resultOf() !== "running") await vault.changed.next(AbortSignal.timeout(10_000));
  aheadMs = 46_000;
  while (resultOf() !== "succeeded") await vault.changed.next(AbortSignal.timeout(10_000));
  const after = (await agent.settings(told.revision))!;
  assert.equal(after.shutDownOrder, undefined);
});

test("orders of a wish that was kept when the configuration server was killed are begun when it is back", async () => {
  await using vault = await FakeVault.start();
  await using site = await new TestSite().start();
  await site.register(vault);
  using agent = await site.enrol("mobility-service");
  await agent.report();
  const [shutDown, refresh] = ["shut down", "refresh"].map((name) => uuidOfName("order", name));
  const before = (await agent.settings())!;
  vault.wish({
    orders: [
      { id: shutDown!, kind: "shut-down-machine", machineId: agent.id },
      { id: refresh!, kind: "refresh" },
    ],
  });
  assert.equal((await agent.settings(before.revision))!.shutDownOrder, shutDown);
  await site.stop();
  {
    // As if it had been killed between keeping the wish and beginning its orders.
    using beside = await openSite(
      { secret: site.secret, stateFolder: join(site.folder, "state") },
      { clock: systemClock, randomness: systemRandomness },
    );
    beside.state.dropOrderResult(refresh!);
  }
  const told = vault.statuses.length;
  await site.start();
  assert.equal((await agent.settings())!.shutDownOrder, shutDown);
  const stateOf = (orderId: string): string | undefined =>
    vault.statuses
      .slice(told)
      .at(-1)
      ?.orderResults.find((result) => result.orderId === orderId)?.state;
  while (stateOf(refresh!) !== "succeeded") await vault.changed.next(AbortSignal.timeout(10_000));
  assert.equal(stateOf(shutDown!), "running");
});

test("a certificate is renewed after two thirds of its life, with a new key and the same names", async () => {
  await using site = await new TestSite().start();
  using gateway = await site.enrol("process-server");
  const { promise, resolve } = Promise.withResolvers<typeof gateway.identity>();
  const ended = new AbortController();
  const clock = { ...systemClock, unixMs: () => systemClock.unixMs() + 20.1 * 24 * HOUR_MS };
  let { identity } = gateway;
  const renewing = keepRenewed(
    {
      identity: () => identity,
      client: gateway.client,
      path: ENROLMENT_ROUTES.renew,
      onRenewed: (renewed) => {
        identity = renewed;
        ended.abort();
        resolve(renewed);
      },
      clock,
      scheduler: systemScheduler,
      log: silentLog,
    },
    ended.signal,
  );
  const renewed = await promise;
  await renewing;
  const [old, fresh] = [gateway.identity, renewed].map(({ certificatePem }) =>
    certificateFacts(certificatePem),
  );
  assert.notEqual(fresh?.serial, old?.serial);
  assert.equal(fresh?.names, old?.names);
  assert.notEqual(renewed.privateKeyPem, gateway.identity.privateKeyPem);
  using after = new TestRole(renewed);
  await after.reportGateway();
});
