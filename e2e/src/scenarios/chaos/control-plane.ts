import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { MINUTE_MS } from "@osr/base/units";

import { CrashSwitch } from "../../rig/crash-switch.ts";
import { JournaledReplicaHost } from "../../rig/journaled-replica-host.ts";
import { RIG_ERRORS } from "../../rig/rig-errors.ts";
import { Site, type SiteRole } from "../../rig/site.ts";
import { VaultApi } from "../../rig/vault-api.ts";
import type { ScenarioContext } from "../../scenario.ts";

export const POLICY = "gold";
export const NETWORK = "recovery";
/** Between crash-consistent points. */
export const POINT_SECONDS = 30;
const POLL_MS = 10;
const UNTIL_MS_MAX = 2 * MINUTE_MS;

/** A whole site whose control plane is about to suffer, and what watches it from outside. */
export type ControlPlane = AsyncDisposable & {
  readonly context: ScenarioContext;
  readonly site: Site;
  readonly api: VaultApi;
  readonly crash: CrashSwitch;
  /** Fake compute: its vault starts machines there, and not with QEMU, from `useFakeCompute` on. */
  readonly host: JournaledReplicaHost;
  /** Path of the fabric's container below the vault. */
  readonly container: string;
};

/** Starts a site with a policy and a network, whose vault dies where the crash switch says. */
export async function startControlPlane(context: ScenarioContext): Promise<ControlPlane> {
  const { folder, narrator, signal } = context;
  await using stack = new AsyncDisposableStack();
  const crash = new CrashSwitch(await folder.folder("crash"));
  const site = stack.use(
    await narrator.step("starting the site with its vault", async () =>
      Site.start(await folder.folder("site"), signal, {
        withVault: true,
        environment: crash.environment,
      }),
    ),
  );
  const fake = await folder.folder("fake");
  const host = stack.use(
    await JournaledReplicaHost.open({
      journal: join(fake, "journal"),
      socketPath: join(fake, "host.sock"),
    }),
  );
  const api = new VaultApi(site, signal);
  const [fabric] = await api.list("/replicationFabrics");
  const [container] = await api.list(
    `/replicationFabrics/${fabric.name}/replicationProtectionContainers`,
  );
  await makePolicy(api);
  await site.manage(
    [
      ["network", "create", NETWORK, "--subnet", "10.0.2.0/24"],
      ["--gateway", "10.0.2.1", "--isolated"],
    ].flat(),
  );
  const moved = stack.move();
  return {
    context,
    site,
    api,
    crash,
    host,
    container: `/replicationFabrics/${fabric.name}/replicationProtectionContainers/${container.name}`,
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

async function makePolicy(api: VaultApi): Promise<void> {
  const provider = {
    instanceType: "InMageAzureV2",
    crashConsistentFrequencyInMinutes: POINT_SECONDS / 60,
    appConsistentFrequencyInMinutes: 0,
    recoveryPointHistory: 1440,
    multiVmSyncStatus: "Disable",
  };
  await api.ask({
    method: "PUT",
    path: `/replicationPolicies/${POLICY}`,
    body: { properties: { providerSpecificInput: provider } },
  });
  await until("the policy is there", async () => api.get(`/replicationPolicies/${POLICY}`));
}

/** Has the vault start machines with the fake, while `work` goes on. */
export async function withFakeCompute(
  plane: ControlPlane,
  work: () => Promise<void>,
): Promise<void> {
  const { site, host } = plane;
  const file = site.configurationOf("vault");
  const text = await readFile(file, "utf8");
  const configuration = JSON.parse(text) as Record<string, unknown>;
  await writeFile(file, JSON.stringify({ ...configuration, replicaHostSocket: host.socketPath }));
  await killRole(plane, "vault");
  await work();
  await writeFile(file, text);
  await killRole(plane, "vault");
}

/** Ends a role with SIGKILL and keeps it from being started again, while `work` goes on. Gives milliseconds from its end until its successor serves. */
export async function withoutRole(
  plane: ControlPlane,
  role: SiteRole,
  work: () => Promise<void>,
): Promise<number> {
  const { site } = plane;
  const file = site.configurationOf(role);
  await rename(file, `${file}.away`);
  const pid = must(await site.rolePid(role), `${role} runs`);
  process.kill(pid, "SIGKILL");
  await work();
  await rename(`${file}.away`, file);
  return await runsAgain(plane, role, pid);
}

/** Ends a role with SIGKILL; resolves when its successor runs, and with the vault when that answers. Gives milliseconds. */
export async function killRole(plane: ControlPlane, role: SiteRole): Promise<number> {
  const pid = must(await plane.site.rolePid(role), `${role} runs`);
  process.kill(pid, "SIGKILL");
  return await runsAgain(plane, role, pid);
}

async function runsAgain(
  { site, api }: ControlPlane,
  role: SiteRole,
  pid: number,
): Promise<number> {
  const begin = performance.now();
  await until(`${role} runs again`, async () => {
    const now = await site.rolePid(role);
    return now !== undefined && now !== pid;
  });
  if (role === "vault") await until("the vault is ready", () => isReady(api));
  return performance.now() - begin;
}

async function isReady(api: VaultApi): Promise<boolean> {
  return (await api.attempt({ method: "GET", path: "/replicationJobs?$top=1" }))?.status === 200;
}

/** Looks until there is something. Throws RIG_TIMEOUT. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined>,
  msMax: number = UNTIL_MS_MAX,
): Promise<T> {
  for (const end = performance.now() + msMax; performance.now() < end;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    await wait(POLL_MS);
  }
  throw new OsrError(RIG_ERRORS.RIG_TIMEOUT, `waited ${msMax} ms for: ${what}`);
}
