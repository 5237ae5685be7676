import { readFileSync } from "node:fs";
import { join } from "node:path";

import { errorReport } from "@osr/cli/error-report";
import { runCommandLine } from "@osr/cli/command-line";
import { EXIT_CODES } from "@osr/cli/exit-codes";
import { type Output, type OutputFormat, formatOutput } from "@osr/cli/output";
import { createProgram } from "@osr/cli/program";
import { hasCode } from "@osr/base/errors";

import { actions } from "./actions.ts";
import { NOT_HELD } from "./not-held.ts";
import { interruption } from "@osr/base/platform/interruption";
import { vaultConnection } from "./vault-connection.ts";

/** Runs one command line and gives the exit code. Never throws. */
export async function runOsr(argv: readonly string[]): Promise<number> {
  const signal = interruption();
  // Whoever reads the output may stop reading (`osr … | head`); that is no failure of ours.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(EXIT_CODES.success);
    throw error;
  });
  try {
    return await runCommandLine(await program(signal, argv.slice(2)), argv);
  } catch (error) {
    if (signal.aborted) return EXIT_CODES.interrupted;
    process.stderr.write(errorReport(error));
    return hasCode(error, NOT_HELD) ? EXIT_CODES.notHeld : EXIT_CODES.failure;
  }
}

function program(signal: AbortSignal, words: readonly string[]): ReturnType<typeof createProgram> {
  return createProgram(actions(signal), version(), print, vaultConnection(signal), words);
}

function print(output: Output, format: OutputFormat): void {
  process.stdout.write(formatOutput(output, format));
}

function version(): string {
  const manifest: unknown = JSON.parse(
    readFileSync(join(import.meta.dirname, "../package.json"), "utf8"),
  );
  return typeof manifest === "object" && manifest !== null && "version" in manifest
    ? String(manifest.version)
    : "unknown";
}
