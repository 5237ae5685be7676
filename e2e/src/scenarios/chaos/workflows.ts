import type { Uuid } from "@osr/base/uuid";

import { PAPER_DISKS } from "../../rig/paper-machine.ts";
import { type ControlPlane, NETWORK, POLICY } from "./control-plane.ts";
import type { SideEffects } from "./side-effects.ts";

const PROVIDER = { instanceType: "InMageAzureV2" };

type Asked = { readonly method: string; readonly path: string; readonly body?: object };

type Machine = { readonly id: Uuid; readonly name: string };

/** One kind of job, how it is asked for, and all that it is to do to the world, once, given how that was before. */
export type Workflow = {
  /** ARM's scenarioName. */
  readonly kind: string;
  ask(plane: ControlPlane, machine: Machine): Promise<Asked> | Asked;
  effects(before: SideEffects): Partial<SideEffects>;
};

export function itemPath({ container }: ControlPlane, name: string): string {
  return `${container}/replicationProtectedItems/${name}`;
}

export const ENABLE: Workflow = {
  kind: "EnableDr",
  ask: ({ api, container }, { id, name }) => ({
    method: "PUT",
    path: `${container}/replicationProtectedItems/${name}`,
    body: {
      properties: {
        policyId: `${api.root}/replicationPolicies/${POLICY}`,
        protectableItemId: `${api.root}${container}/replicationProtectableItems/${id}`,
        providerSpecificDetails: { ...PROVIDER, targetAzureNetworkId: NETWORK },
      },
    },
  }),
  effects: ({ revision }) => ({
    keys: PAPER_DISKS,
    isProtected: true,
    revision: revision + 1,
    grants: 0,
    resyncRequest: 0,
  }),
};

export const TEST_FAILOVER = action("TestFailover", "testFailover", {
  body: () => ({
    failoverDirection: "PrimaryToRecovery",
    networkType: "NoNetworkAttachAsInput",
    providerSpecificDetails: PROVIDER,
  }),
  effects: ({ started, machines }) => ({ started: started + 1, machines: machines + 1 }),
});

export const TEST_FAILOVER_CLEANUP = action("TestFailoverCleanup", "testFailoverCleanup", {
  body: () => ({ comments: "seen" }),
  effects: ({ destroyed, machines }) => ({ destroyed: destroyed + 1, machines: machines - 1 }),
});

export const FAILOVER = action("UnplannedFailover", "unplannedFailover", {
  body: () => ({
    failoverDirection: "PrimaryToRecovery",
    sourceSiteOperations: "NotRequired",
    providerSpecificDetails: PROVIDER,
  }),
  effects: ({ started, machines, segments, revision }) => ({
    started: started + 1,
    machines: machines + 1,
    segments: segments + PAPER_DISKS,
    fenced: PAPER_DISKS,
    isProtected: false,
    revision: revision + 1,
  }),
});

export const CHANGE_POINT = action("ApplyRecoveryPoint", "applyRecoveryPoint", {
  body: async (plane, { name }) => {
    const points = await plane.api.list(`${itemPath(plane, name)}/recoveryPoints`);
    return { recoveryPointId: points.at(-1)?.id, providerSpecificDetails: PROVIDER };
  },
  effects: ({ started, destroyed }) => ({ started: started + 1, destroyed: destroyed + 1 }),
});

export const COMMIT = action("CommitFailover", "failoverCommit", { effects: () => ({}) });

export const CANCEL_FAILOVER = action("CancelFailover", "failoverCancel", {
  effects: ({ destroyed, machines, revision, resyncRequest }) => ({
    destroyed: destroyed + 1,
    machines: machines - 1,
    grants: PAPER_DISKS,
    isProtected: true,
    resyncRequest: resyncRequest + 1,
    revision: revision + 1,
  }),
});

export const DISABLE = action("DisableDr", "remove", {
  body: () => ({
    replicationProviderInput: { ...PROVIDER, replicaVmDeletionStatus: "Delete" },
  }),
  effects: ({ revision }) => ({
    segments: 0,
    fenced: 0,
    points: 0,
    isProtected: false,
    grants: 0,
    resyncRequest: 0,
    revision: revision + 1,
  }),
});

/** Of a machine whose item is gone. */
export const DELETE_REPLICA: Workflow = {
  kind: "DeleteReplica",
  ask: ({ host }) => ({
    method: "DELETE",
    path: `/OpenSiteRecovery/replicas/${[...host.site.replicas.keys()][0]}`,
  }),
  effects: ({ destroyed, machines }) => ({ destroyed: destroyed + 1, machines: machines - 1 }),
};

let discovered = 0;
export const DISCOVER: Workflow = {
  kind: "DiscoverPhysicalMachine",
  ask: ({ container }) => {
    discovered += 1;
    return {
      method: "POST",
      path: `${container}/discoverProtectableItem`,
      body: {
        properties: {
          friendlyName: `pc${discovered}`,
          ipAddress: `192.0.2.${discovered}`,
          osType: "Linux",
        },
      },
    };
  },
  // The order, and that it is taken back.
  effects: (before) => ({ discovered: before.discovered + 1, revision: before.revision + 2 }),
};

export const REFRESH: Workflow = {
  kind: "RefreshServer",
  ask: async ({ api, container }) => {
    const fabric = container.split("/").slice(0, 3).join("/");
    const [provider] = await api.list(`${fabric}/replicationRecoveryServicesProviders`);
    return {
      method: "POST",
      path: `${fabric}/replicationRecoveryServicesProviders/${provider.name}/refreshProvider`,
    };
  },
  effects: ({ revision }) => ({ revision: revision + 2 }),
};

export const CHECK_CONSISTENCY: Workflow = {
  kind: "FabricConsistencyCheck",
  ask: ({ container }) => ({
    method: "POST",
    path: `${container.split("/").slice(0, 3).join("/")}/checkConsistency`,
  }),
  effects: ({ revision }) => ({ revision: revision + 2 }),
};

function action(
  kind: string,
  verb: string,
  options: {
    readonly body?: (plane: ControlPlane, machine: Machine) => object | Promise<object>;
    readonly effects: Workflow["effects"];
  },
): Workflow {
  return {
    kind,
    ask: async (plane, machine) => ({
      method: "POST",
      path: `${itemPath(plane, machine.name)}/${verb}`,
      body: { properties: (await options.body?.(plane, machine)) ?? {} },
    }),
    effects: options.effects,
  };
}
