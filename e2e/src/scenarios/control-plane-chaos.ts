import type { Scenario } from "../scenario.ts";
import { startControlPlane, withFakeCompute } from "./chaos/control-plane.ts";
import { crashRounds } from "./chaos/crash-rounds.ts";
import { configurationServerDeaths, postgresDeaths } from "./chaos/other-deaths.ts";
import { realFailover } from "./chaos/real-failover.ts";
import { RealMachine } from "./chaos/real-machine.ts";
import { vaultRebuilt } from "./chaos/rebuilt-vault.ts";
import { serverReplaced } from "./chaos/replaced-server.ts";
import { vaultOutage } from "./chaos/vault-outage.ts";

/** Whatever of the control plane dies, whenever it does: what was begun ends once, nothing is replicated anew, and no point is lost. */
export const controlPlaneChaos: Scenario = {
  name: "control-plane-chaos",
  summary:
    "vault, configuration server and PostgreSQL killed, away and replaced: jobs end once, points go on",
  async run(context) {
    await using plane = await startControlPlane(context);
    await using stack = new AsyncDisposableStack();
    const real = await RealMachine.protect(plane, stack);
    await withFakeCompute(plane, async () => {
      const points = await crashRounds(plane);
      await real.check("vault killed");
      await postgresDeaths(plane, points);
      await configurationServerDeaths(plane);
      await real.check("PostgreSQL and configuration server killed");
    });
    await vaultOutage(plane, real);
    await serverReplaced(plane, real);
    await vaultRebuilt(plane, real);
    await realFailover(plane, real);
  },
};
