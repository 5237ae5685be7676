import { type Command, CommanderError } from "commander";

import { EXIT_CODES } from "./exit-codes.ts";

/**
 * Parses `argv` and runs the action that it names. Gives the exit code for help, version and a wrong command line;
 * rejects with what the action threw.
 */
export async function runCommandLine(program: Command, argv: readonly string[]): Promise<number> {
  overrideExits(program);
  try {
    await program.parseAsync(argv);
    return EXIT_CODES.success;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? EXIT_CODES.success : EXIT_CODES.usage;
  }
}

function overrideExits(command: Command): void {
  command.exitOverride();
  for (const inner of command.commands) overrideExits(inner);
}
