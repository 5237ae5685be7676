import { existsSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

import { must } from "@osr/base/assert";
import { OsrError, defineErrors } from "@osr/base/errors";
import { type Shape, object, parseJson } from "@osr/base/json-shape";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { SECOND_MS } from "@osr/base/units";
import {
  type ProcessIdentity,
  hasEnded,
  identityOf,
  isAlive,
  killProcess,
  processIdentityShape,
  signalProcess,
} from "@osr/compute-qemu/process-identity";

import { writeDurably } from "../site/durable-file.ts";

const ERRORS = defineErrors({
  SITE_RUNS: {
    retryable: false,
    hint: "Another `osr up` runs this site. End that one first, or use another folder.",
  },
});

const STOP_MS_MAX = 20 * SECOND_MS;
const KILL_MS_MAX = 10 * SECOND_MS;

/** A role, and the `osr up` that started it. */
type RoleRecord = { readonly role: ProcessIdentity; readonly up: ProcessIdentity };
const recordShape: Shape<RoleRecord> = object<RoleRecord>({
  role: processIdentityShape,
  up: processIdentityShape,
});

/** Which processes run the roles of a site: a file for each, so that an `osr up` that was killed leaves nothing unknown. */
export class LeftRoles {
  readonly #folder: string;

  constructor(siteRoot: string) {
    this.#folder = join(siteRoot, "run");
  }

  /** Writes down that `pid`, a child of this process, runs the role. */
  async note(name: string, pid: number): Promise<void> {
    const role = await identityOf(pid);
    // It has ended already.
    if (role === undefined) return;
    const up = must(await identityOf(process.pid), "this process runs");
    writeDurably(this.#file(name), JSON.stringify({ role, up } satisfies RoleRecord), 0o600);
  }

  /** The role has ended. */
  forget(name: string): void {
    rmSync(this.#file(name), { force: true });
  }

  /**
   * Ends the roles that an earlier `osr up` has left running, and no other process. Throws SITE_RUNS where that one lives, with
   * nothing done.
   */
  async end(say: (line: string) => void): Promise<void> {
    const records = this.#read();
    for (const [, { up }] of records)
      if (await isAlive(up))
        throw new OsrError(ERRORS.SITE_RUNS, `process ${up.pid} runs this site`);
    for (const [name, { role }] of records) {
      if (await isAlive(role)) {
        say(`ending the ${name} that an earlier osr up has left running (process ${role.pid})`);
        await signalProcess(role, "SIGTERM");
        if (!(await hasEnded(role, systemScheduler, STOP_MS_MAX)))
          await killProcess(role, systemScheduler, KILL_MS_MAX);
      }
      this.forget(name);
    }
  }

  #read(): readonly (readonly [name: string, RoleRecord])[] {
    if (!existsSync(this.#folder)) return [];
    const names = readdirSync(this.#folder).filter((name) => name.endsWith(".json"));
    const records = names.map((file) => {
      const record = parseJson(readFileSync(join(this.#folder, file), "utf8"), recordShape);
      return [file.slice(0, -".json".length), record] as const;
    });
    // Who asks others before who is asked.
    return records.toSorted(([, a], [, b]) => b.role.startTicks - a.role.startTicks);
  }

  #file(name: string): string {
    return join(this.#folder, `${name}.json`);
  }
}
