import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { SECOND_MS } from "@osr/base/units";

import type { GuestShell } from "./guest-shell.ts";
import { RIG_ERRORS } from "./rig-errors.ts";

const CONFIGURATION = "mobility-service.json";
const INSTALLED = "/etc/osr";
const POLL_MS = 500;
const PRIVATE = /private-key/;

/**
 * Copies the files of an enrolment to a machine, as an administrator would, with `more` added to the configuration: what only
 * a rig sets, such as the before-thaw hook.
 */
export async function installEnrolment(
  shell: GuestShell,
  folder: string,
  more: Readonly<Record<string, unknown>>,
): Promise<void> {
  await shell.must(`mkdir -p ${INSTALLED}`);
  for (const name of await readdir(folder)) {
    const bytes = await readFile(join(folder, name));
    const content = name === CONFIGURATION ? withMore(bytes, more) : bytes;
    await shell.writeFile(`${INSTALLED}/${name}`, content, PRIVATE.test(name) ? "600" : "644");
  }
}

/** Waits until `done` says so of the agent's status. Throws RIG_TIMEOUT with the last status and the end of the log. */
export async function untilAgent(
  shell: GuestShell,
  options: {
    readonly statusFile: string;
    readonly logCommand: string;
    readonly what: string;
    readonly timeoutMs: number;
    readonly done: (status: Readonly<Record<string, unknown>>) => boolean;
    readonly signal?: AbortSignal;
  },
): Promise<Readonly<Record<string, unknown>>> {
  const end = performance.now() + options.timeoutMs;
  let last = "";
  while (performance.now() < end) {
    const { code, output } = await shell.run(
      `cat ${options.statusFile}`,
      10 * SECOND_MS,
      options.signal,
    );
    last = output;
    if (code === 0 && output.startsWith("{")) {
      const status = JSON.parse(output) as Record<string, unknown>;
      if (options.done(status)) return status;
    }
    await wait(POLL_MS, undefined, options.signal === undefined ? {} : { signal: options.signal });
  }
  const log = await shell.run(options.logCommand);
  throw new OsrError(
    RIG_ERRORS.RIG_TIMEOUT,
    `waited ${options.timeoutMs} ms for ${options.what}\nstatus: ${last.slice(-2000)}\nlog: ${log.output.slice(-3000)}`,
  );
}

function withMore(configuration: Buffer, more: Readonly<Record<string, unknown>>): Buffer {
  const fields = JSON.parse(configuration.toString("utf8")) as Record<string, unknown>;
  return Buffer.from(`${JSON.stringify({ ...fields, ...more }, null, 2)}\n`);
}
