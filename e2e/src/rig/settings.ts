import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/** Root of the checkout. */
export const PROJECT_DIRECTORY = resolve(import.meta.dirname, "..", "..", "..");

export type RigSettings = {
  /** Where built images are kept between runs: OSR_CACHE_DIRECTORY, or `.cache` in the checkout. */
  readonly cacheDirectory: string;
  /** Parent of each run's own folder. Short, since unix sockets live in it. */
  readonly temporaryDirectory: string;
  /** True: print what the programs of the rig print, too (OSR_RIG_VERBOSE=1). */
  readonly verbose: boolean;
};

/** The one place that reads the environment for the rig. */
export function rigSettings(): RigSettings {
  return {
    cacheDirectory: process.env["OSR_CACHE_DIRECTORY"] ?? join(PROJECT_DIRECTORY, ".cache"),
    temporaryDirectory: tmpdir(),
    verbose: process.env["OSR_RIG_VERBOSE"] === "1",
  };
}

/** What the distribution calls itself: `id` (debian), `codename` (bookworm) and the point release. */
export function distribution(): { id: string; codename: string; release: string } {
  const fields = new Map(
    readFileSync("/etc/os-release", "utf8")
      .split("\n")
      .map((line) => line.split("=", 2))
      .map(([key, value]) => [key, value?.replaceAll('"', "")] as const),
  );
  return {
    id: fields.get("ID") ?? "unknown",
    codename: fields.get("VERSION_CODENAME") ?? "unknown",
    release: readFileSync("/etc/debian_version", "utf8").trim(),
  };
}

/** First 16 hex digits of the SHA-256 of the parts. */
export function shortHash(...parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
}
