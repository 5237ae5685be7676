import { dirname } from "node:path";

import type { Uuid } from "@osr/base/uuid";
import type { DesiredItem } from "@osr/contracts/fabric-protocol";
import { indexRootOf } from "@osr/repository/key-schedule";
import { readLogTip } from "@osr/repository/log-end";
import {
  diskPrefix,
  parseObjectName,
  recoveryPointPrefix,
  wrappedKeyName,
} from "@osr/repository/object-names";
import { type ObjectStore, listAll } from "@osr/repository/object-store";
import { diskIdOf } from "@osr/repository/disk-id";

import type { PaperMachine } from "../../rig/paper-machine.ts";
import { SiteState, withStore } from "../../rig/site-state.ts";
import type { ControlPlane } from "./control-plane.ts";

/** What a vault's jobs have done to the world, counted where it was done and never by the vault itself. */
export type SideEffects = {
  /** Fake compute's journal: machines started and destroyed in all, and those that there are. */
  readonly started: number;
  readonly destroyed: number;
  readonly machines: number;
  /** Storage account: data keys, objects of logs, logs that a failover has closed, recovery points. */
  readonly keys: number;
  readonly segments: number;
  readonly fenced: number;
  readonly points: number;
  /** Configuration server: how often what is wished of it has changed, and what is wished of the machine. */
  readonly revision: number;
  readonly isProtected: boolean;
  readonly grants: number;
  readonly resyncRequest: number;
  readonly discovered: number;
  /** What clients of the vault see. */
  readonly jobs: number;
};

export async function countSideEffects(
  plane: ControlPlane,
  machine: PaperMachine,
): Promise<SideEffects> {
  const { host, site, api } = plane;
  const { effects } = host;
  const state = await SiteState.read(site);
  const wish = state.wish(machine.id);
  return {
    started: effects.filter(({ effect }) => effect === "start").length,
    destroyed: effects.filter(({ effect }) => effect === "destroy").length,
    machines: host.site.replicas.size,
    ...(await withStore(site, "reader", (store, vaultId) =>
      countObjects(store, vaultId, machine, wish),
    )),
    revision: state.revision,
    isProtected: wish?.isProtected === true,
    grants: wish?.grant.disks.filter(({ claimGrant }) => claimGrant !== undefined).length ?? 0,
    resyncRequest: wish?.resyncRequest ?? 0,
    discovered: state.machines.filter(({ registration }) => registration === undefined).length,
    jobs: (await api.jobs()).length,
  };
}

type Objects = Pick<SideEffects, "keys" | "segments" | "fenced" | "points">;

async function countObjects(
  store: ObjectStore,
  vaultId: Uuid,
  { id, disks }: PaperMachine,
  wish: DesiredItem | undefined,
): Promise<Objects> {
  const count = async (prefix: string, isCounted: (name: string) => boolean): Promise<number> => {
    const names = await Array.fromAsync(listAll(store, prefix), ({ name }) => name);
    return names.filter(isCounted).length;
  };
  let [keys, segments, fenced] = [0, 0, 0];
  for (const { identity } of disks) {
    const diskId = diskIdOf(id, identity);
    keys += await count(dirname(wrappedKeyName(vaultId, diskId, 1)), () => true);
    const own = await count(
      diskPrefix(vaultId, diskId),
      (name) => parseObjectName(vaultId, name)?.kind === "segment",
    );
    segments += own;
    const grant = wish?.grant.disks.find((disk) => disk.diskId === diskId);
    if (own === 0 || grant === undefined) continue;
    const key = { diskId, version: 1, bytes: Buffer.from(grant.dataKey, "hex") };
    const log = { vaultId, diskId, timeline: grant.timeline };
    const tip = await readLogTip(store, log, indexRootOf(key));
    if (tip?.meta.fence?.kind === "failover") fenced += 1;
  }
  const points = await count(recoveryPointPrefix(vaultId, id), () => true);
  return { keys, segments, fenced, points };
}
