import type { Scenario } from "../scenario.ts";
import { startControlPlane } from "./chaos/control-plane.ts";
import { crashRounds } from "./chaos/crash-rounds.ts";

/** Whatever of the control plane dies, whenever it does: what was begun ends once, nothing is replicated anew, and no point is lost. */
export const controlPlaneChaos: Scenario = {
  name: "control-plane-chaos",
  summary: "the vault is killed at each step of each job; each ends once, with the effects of one",
  async run(context) {
    await using plane = await startControlPlane(context);
    await crashRounds(plane);
  },
};
