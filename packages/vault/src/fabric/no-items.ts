import type { FabricItems } from "./desired-items.ts";

/** A vault whose machines are not protected. */
export const noItems: FabricItems = {
  desiredItems: () => Promise.resolve([]),
  protectedMachines: () => Promise.resolve([]),
  statusArrived: () => Promise.resolve(),
};
