import { readFile, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";

/** The folder by which a vault of the rig is told at which point of a job to die: services/osr/src/vault/crash-points.ts. */
export class CrashSwitch {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  get environment(): Readonly<Record<string, string>> {
    return { OSR_CRASH_POINTS: this.#folder };
  }

  /** The next job at the point ends the vault. */
  async arm(point: string): Promise<void> {
    await writeFile(join(this.#folder, "kill"), point);
  }

  /** Whether the vault has died of it. */
  get hasStruck(): boolean {
    return !existsSync(join(this.#folder, "kill"));
  }

  async disarm(): Promise<void> {
    await rm(join(this.#folder, "kill"), { force: true });
  }

  /** Forgets what was passed. */
  async clear(): Promise<void> {
    await rm(join(this.#folder, "passed"), { force: true });
  }

  /** The points that jobs got to since `clear`, in order. */
  async passed(): Promise<readonly string[]> {
    const text = await readFile(join(this.#folder, "passed"), "utf8").catch(() => "");
    return text.split("\n").filter((line) => line !== "");
  }
}
