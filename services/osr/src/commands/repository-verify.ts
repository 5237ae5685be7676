import type { Output } from "@osr/cli/output";
import { progressLine } from "@osr/cli/progress-line";
import type { RepositoryOptions } from "@osr/cli/program";
import { OsrError } from "@osr/base/errors";
import { systemClock } from "@osr/base/platform/system-clock";
import { verifyRepository } from "@osr/repository/repository-check";

import { NOT_HELD } from "../not-held.ts";
import { openRepository } from "../repository/open-repository.ts";
import { progressWriter } from "../progress-writer.ts";

/** `osr repository verify`: every finding on a line of the standard error; CHECK_NOT_HELD where there is one. */
export async function repositoryVerify(
  options: RepositoryOptions,
  signal: AbortSignal,
): Promise<Output> {
  using repository = await openRepository(options);
  const { store, vaultId, vaultKey } = repository;
  const line = progressLine("checked", systemClock);
  const progress = progressWriter();
  let findings = 0;
  let objects = 0;
  let bytes = 0;
  const keys = vaultKey === undefined ? {} : { vaultKey };
  for await (const event of verifyRepository(store, { vaultId, ...keys, signal })) {
    if (event.kind === "finding") {
      findings += 1;
      progress.clear();
      process.stderr.write(`${event.code}: ${event.object}: ${event.message}\n`);
    } else {
      objects = event.objectsTotal;
      bytes = event.bytesTotal;
      progress.show(line.text(event.bytesDone, event.bytesTotal));
    }
  }
  progress.clear();
  if (findings > 0) throw new OsrError(NOT_HELD, `${findings} finding(s) in ${objects} objects`);
  return { objects, bytes, decrypted: vaultKey !== undefined, findings };
}
