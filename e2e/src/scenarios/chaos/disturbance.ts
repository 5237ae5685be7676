import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { SECOND_MS } from "@osr/base/units";

import { type ControlPlane, until } from "./control-plane.ts";

const STRUCK_MS_MAX = 30 * SECOND_MS;

/** What happens to the control plane while one job runs. */
export type Disturbance = {
  readonly name: string;
  /** Just before the job is asked for. */
  before?(): Promise<void>;
  /** As soon as it was asked for; gives how far the job was. Throws where it could not happen. */
  after?(): Promise<string | undefined>;
};

export function vaultDiesAt({ crash }: ControlPlane, point: string): Disturbance {
  return {
    name: `vault killed at ${point}`,
    before: () => crash.arm(point),
    async after() {
      try {
        await until(`the vault's death at ${point}`, async () => crash.hasStruck, STRUCK_MS_MAX);
        return point;
      } finally {
        await crash.disarm();
      }
    },
  };
}

/** PostgreSQL dies as soon as the job has got to a point. */
export function postgresDies({ site, crash }: ControlPlane, point: string): Disturbance {
  return {
    name: `PostgreSQL killed after ${point}`,
    async after() {
      const hasPassed = async (): Promise<boolean> => (await crash.passed()).includes(point);
      await until(point, hasPassed, STRUCK_MS_MAX);
      process.kill(await postmasterPid(site.directory), "SIGKILL");
      return (await crash.passed()).at(-1);
    },
  };
}

/** Whether the vault's wish changes while the configuration server is dead, or it dies with the wish on its way. */
export function configurationServerDies(
  { site }: ControlPlane,
  when: "before" | "after",
): Disturbance {
  const kill = async (): Promise<undefined> => {
    // It may yet be on its way back from the death before.
    const pid = await until("the configuration server", () => site.rolePid("configuration-server"));
    process.kill(pid, "SIGKILL");
  };
  return { name: `configuration server killed ${when} it is told`, [when]: kill };
}

/** Of the embedded PostgreSQL of a site's vault. */
export async function postmasterPid(directory: string): Promise<number> {
  const file = join(directory, "vault", "postgres", "server", "data", "postmaster.pid");
  return Number((await readFile(file, "utf8")).split("\n")[0]);
}
