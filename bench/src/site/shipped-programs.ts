import { globSync, realpathSync } from "node:fs";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";

import { MINUTE_MS } from "@osr/base/units";

import { type CommandOptions, runCommand } from "../machine/command.ts";

/** Root of the checkout. */
export const PROJECT_DIRECTORY = resolve(import.meta.dirname, "..", "..", "..");

/** Programs of the project as they are shipped: compiled. Sources that Node strips itself start slower and take more memory. */
export type ShippedPrograms = {
  readonly osr: string;
  readonly mobilityService: string;
  /** The mobility service with points every few seconds. */
  readonly frequentPoints: string;
};

type Manifest = { readonly name: string; readonly dependencies?: Readonly<Record<string, string>> };

const OWN_SCOPE = "@osr/";
const BENCH = "bench";

/** Compiles the project's packages and services into `directory`, a folder of its own. */
export async function shippedPrograms(
  directory: string,
  signal: AbortSignal,
): Promise<ShippedPrograms> {
  const common: CommandOptions = {
    timeoutMs: 5 * MINUTE_MS,
    signal,
    directory: PROJECT_DIRECTORY,
  };
  const at = (path: string): string => join(PROJECT_DIRECTORY, path);
  const configuration = join(directory, "tsconfig.json");
  const kinds = ["test", "contract", "fuzz"];
  const settings = {
    extends: at("tsconfig.build.json"),
    compilerOptions: {
      rootDir: PROJECT_DIRECTORY,
      outDir: directory,
      declaration: false,
      sourceMap: false,
      typeRoots: [at("node_modules/@types")],
    },
    include: ["packages/*", "services/*", `${BENCH}/src/freeze`].map((path) =>
      at(`${path}/**/*.ts`),
    ),
    exclude: [...kinds.map((kind) => at(`**/*.${kind}.ts`)), at("**/node_modules")],
  };
  await writeFile(configuration, JSON.stringify(settings));
  await runCommand(at("node_modules/.bin/tsc"), ["-p", configuration], common);
  await runCommand(process.execPath, [at("scripts/write-manifests.ts"), directory], common);
  await writeFile(join(directory, BENCH, "package.json"), `{"type":"module"}`);
  for (const path of globSync("{{packages,services}/*,bench}/package.json", {
    cwd: PROJECT_DIRECTORY,
  }))
    await linkDependencies(directory, dirname(path));
  const main = (path: string): string => join(directory, path);
  return {
    osr: main("services/osr/src/main.js"),
    mobilityService: main("services/mobility-service/src/main.js"),
    frequentPoints: main("bench/src/freeze/frequent-points.js"),
  };
}

/** The project's own packages lead to the compiled ones, all others to where they are installed. */
async function linkDependencies(directory: string, folder: string): Promise<void> {
  const text = await readFile(join(PROJECT_DIRECTORY, folder, "package.json"), "utf8");
  const { dependencies = {} } = JSON.parse(text) as Manifest;
  for (const name of Object.keys(dependencies)) {
    const installed = realpathSync(join(PROJECT_DIRECTORY, folder, "node_modules", name));
    const target = name.startsWith(OWN_SCOPE)
      ? installed.replace(PROJECT_DIRECTORY, directory)
      : installed;
    const link = join(directory, folder, "node_modules", name);
    await mkdir(dirname(link), { recursive: true });
    await symlink(target, link);
  }
}
