import type { Actions } from "@osr/cli/program";

import { configurationServerActions } from "./configuration-server/actions.ts";
import { vaultActions } from "./vault/actions.ts";

/**
 * What the words of the command line do. Each command is loaded when it is asked for, so that `--help` and small commands
 * don't wait for the roles.
 */
export function actions(signal: AbortSignal): Actions {
  return {
    up: async (options) => (await import("./commands/up.ts")).up(options, signal),
    down: async (options) => (await import("./commands/down.ts")).down(options),
    doctor: async (options) => (await import("./commands/doctor.ts")).doctor(options),
    storageAccountRun: async (options) =>
      (await import("./commands/storage-account-run.ts")).storageAccountRun(options, signal),
    replicaHostRun: async (options) =>
      (await import("./commands/replica-host-run.ts")).replicaHostRun(options, signal),
    configurationServer: configurationServerActions(signal),
    vault: vaultActions(signal),
    processServerRun: async (options) =>
      (await import("./commands/process-server-run.ts")).processServerRun(options, signal),
    mobilityServiceRun: async (options) =>
      (await import("./commands/mobility-service-run.ts")).mobilityServiceRun(options),
    mobilityServiceStatus: async (options) =>
      (await import("./commands/mobility-service-status.ts")).mobilityServiceStatus(options),
    mobilityServiceEnrol: async (name, options) =>
      (await import("./commands/mobility-service-enrol.ts")).mobilityServiceEnrol(name, options),
    repositoryPoints: async (options) =>
      (await import("./commands/repository-points.ts")).repositoryPoints(options),
    repositoryVerify: async (options) =>
      (await import("./commands/repository-verify.ts")).repositoryVerify(options, signal),
    repositoryMaterialise: async (options) =>
      (await import("./commands/repository-materialise.ts")).repositoryMaterialise(options, signal),
    repositoryServe: async (options) =>
      (await import("./commands/repository-serve.ts")).repositoryServe(options, signal),
    failoverTest: async (options) =>
      (await import("./commands/failover-test.ts")).failoverTest(options, signal),
  };
}
