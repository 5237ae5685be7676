import type { Command } from "commander";

import type { Output } from "../output.ts";
import type { Management } from "./management.ts";
import type { View } from "./view.ts";

/** What the commands of all nouns are made with. */
export type ManagementCommands = {
  readonly program: Command;
  /** An action with a vault: `work` gets the words and options of the command line after it. */
  readonly managed: <Args extends unknown[]>(
    work: (management: Management, ...args: Args) => Promise<View | Output | void>,
  ) => (...args: Args) => Promise<void>;
};

export type WaitOption = { readonly wait: boolean };

/** For verbs that start a job. */
export function withWait(command: Command): Command {
  return command.option("--no-wait", "return as soon as the job is started, with its name");
}
