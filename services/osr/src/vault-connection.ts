import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

import { OsrError, defineErrors, messageOf } from "@osr/base/errors";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { type Contexts, contextNamed, parseContexts } from "@osr/cli/management/contexts";
import type { ManagementPorts } from "@osr/cli/management/management-ports";

import { writeDurably } from "./site/durable-file.ts";

const ERRORS = defineErrors({
  CONTEXT_FILE_INVALID: {
    retryable: false,
    hint: "Correct the named file or make the context again with `osr context set`.",
  },
});

/** How the commands of this user reach vaults: the contexts file, and the secrets that it names. */
export function vaultConnection(signal: AbortSignal): ManagementPorts {
  const file = contextsFile();
  const readContexts = (): Contexts =>
    existsSync(file) ? read(file, (text) => parseContexts(text)) : { contexts: [] };
  return {
    readContexts,
    writeContexts: (contexts) =>
      writeDurably(file, `${JSON.stringify(contexts, null, 2)}\n`, 0o600),
    connect: async (name) => {
      // Microsoft's clients take a while to load; commands that need no vault don't wait for them.
      const { createManagement } = await import("@osr/cli/management/management");
      const { vaultUrl, authorityFile, tokenFile, ...where } = contextNamed(readContexts(), name);
      return createManagement(
        {
          vaultUrl,
          authorityPem: authorityFile === undefined ? undefined : fileText(authorityFile),
          token: () => fileText(tokenFile).trim(),
        },
        {
          ...where,
          clock: systemClock,
          scheduler: systemScheduler,
          signal,
          narrate: (line) => process.stderr.write(`${line}\n`),
        },
      );
    },
  };
}

/** `OSR_CONTEXTS` where it is set, so that several users of one account can have their own. */
function contextsFile(): string {
  return process.env["OSR_CONTEXTS"] ?? join(homedir(), ".config/osr/contexts.json");
}

/** The content of a file that a person named. Throws CONTEXT_FILE_INVALID. */
export function fileText(file: string): string {
  return read(file, (text) => text);
}

function read<T>(file: string, parse: (text: string) => T): T {
  try {
    return parse(readFileSync(file, "utf8"));
  } catch (cause) {
    const message = `${file}: ${messageOf(cause)}`;
    throw new OsrError(ERRORS.CONTEXT_FILE_INVALID, message, { cause });
  }
}
