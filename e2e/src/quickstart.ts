import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { OsrError, messageOf } from "@osr/base/errors";

import { interruption, sayCleaningUp } from "@osr/base/platform/interruption";
import { objections } from "./main-job/evidence.ts";
import { type RunningJob, evidenceLines, runMainJob } from "./main-job/main-job.ts";
import { newLeaks, ownedByMachine } from "./rig/leaks.ts";
import { narrator } from "./rig/narrator.ts";
import { rigMissing } from "./rig/requirements.ts";
import { makeRunFolder } from "./rig/run-folder.ts";

const HELP = `usage: npm run quickstart [-- [--exit] [--json FILE]]

Protects a running Debian machine (PostgreSQL, HTTP, two disks), replicates it while it is written to, boots it from
its recovery point in an isolated network and checks that nothing was lost. Everything runs on this machine: the first
time takes a few minutes more, since the Debian machine has to be built. Needs root.

  --exit       tear everything down at the end, instead of keeping it running until Ctrl-C
  --json FILE  write the evidence

Exit code: 0 nothing was lost, 1 something does not hold, 2 it could not be run.
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      exit: { type: "boolean", default: false },
      json: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const missing = process.getuid?.() === 0 ? rigMissing() : "it needs root";
  if (missing !== undefined) {
    process.stderr.write(`the quickstart cannot run here: ${missing}\n`);
    return 2;
  }
  const signal = interruption(sayCleaningUp);
  const voice = narrator((text) => process.stdout.write(text));
  const before = await ownedByMachine();
  let failures: readonly string[];
  let path: string;
  {
    await using folder = await makeRunFolder();
    path = folder.path;
    await using stack = new AsyncDisposableStack();
    const job = await runMainJob({ narrator: voice, folder, signal, stack });
    failures = objections(job.evidence);
    if (values.json !== undefined)
      writeFileSync(values.json, `${JSON.stringify(job.evidence, null, 2)}\n`);
    report(job, failures);
    if (!values.exit) await untilInterrupted(signal);
    voice.say("tearing everything down");
  }
  const leaks = await newLeaks(before, path);
  for (const leak of leaks) process.stderr.write(`left behind: ${leak}\n`);
  return failures.length + leaks.length === 0 ? 0 : 1;
}

function report(job: RunningJob, failures: readonly string[]): void {
  const { evidence, site, source, failover } = job;
  const lines = [
    "",
    ...evidenceLines(evidence).map((line) => `  ${line}`),
    "",
    failures.length === 0 ? "nothing was lost" : `DOES NOT HOLD: ${failures.join("; ")}`,
    "",
    "look at it:",
    `  the source           curl http://127.0.0.1:${source.httpPort}/cgi-bin/status`,
    `  the failed-over one  ${failover.pageCommand("/cgi-bin/status")}`,
    "next commands to try:",
    `  export OSR_CONTEXTS=${site.directory}/contexts.json`,
    "  npm run osr -- item list",
    "  npm run osr -- point list web01",
    "  npm run osr -- job list",
    `  npm run osr -- repository points --site ${site.directory}`,
    `  npm run osr -- repository verify --site ${site.directory}`,
    `  npm run osr -- repository materialise --site ${site.directory} --point latest --disk vdb --out data.raw`,
    "",
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

async function untilInterrupted(signal: AbortSignal): Promise<void> {
  process.stdout.write("running; Ctrl-C tears everything down\n");
  // A promise alone does not keep the process alive.
  const alive = setInterval(() => undefined, 60_000);
  await new Promise((resolve) => {
    signal.addEventListener("abort", resolve, { once: true });
    if (signal.aborted) resolve(undefined);
  });
  clearInterval(alive);
}

try {
  process.exitCode = await main();
} catch (error) {
  const remedy = error instanceof OsrError ? `\n  remedy: ${error.hint}` : "";
  process.stderr.write(`${messageOf(error)}${remedy}\n`);
  process.exitCode = 2;
}
