import type { Contexts } from "./contexts.ts";
import type { Management } from "./management.ts";

/** What the commands that talk to a vault need from the program around them. */
export type ManagementPorts = {
  /** Of the user; no contexts where there is no file yet. */
  readonly readContexts: () => Contexts;
  readonly writeContexts: (contexts: Contexts) => void;
  /** Reaches the vault of a context, the current one where none is named. Throws CONTEXT_UNKNOWN. */
  readonly connect: (context: string | undefined) => Promise<Management>;
};
