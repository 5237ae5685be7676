import { createHash } from "node:crypto";
import { existsSync, globSync, readFileSync } from "node:fs";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

import { MIB, MINUTE_MS } from "@osr/base/units";

import { cachedArtefact } from "./artefact-cache.ts";
import { runCommand } from "./commands.ts";
import { makeExt4 } from "./ext4.ts";
import type { Narrator } from "./narrator.ts";
import { PROJECT_DIRECTORY } from "./settings.ts";

const SERVICE_FOLDER = "services/mobility-service";
const OWN_SCOPE = "@osr/";
const AGENT_DISK_BYTES = 8 * MIB;

type Manifest = {
  readonly name: string;
  readonly dependencies?: Readonly<Record<string, string>>;
};

/**
 * The agent as it is shipped, in a folder: the service and, under node_modules, the packages that it needs, compiled and
 * with the manifests of a release. The same files as `npm install --omit=dev` of the packed packages gives.
 */
export async function agentProgram(narrator: Narrator, signal?: AbortSignal): Promise<string> {
  const folders = ["packages/base", ...packageFolders(SERVICE_FOLDER)];
  return cachedArtefact(
    {
      name: "agent-program",
      recipe: ["1", sourcesHash([SERVICE_FOLDER, ...folders])],
      build: (directory, abort) => buildProgram([...new Set(folders)], directory, abort),
    },
    narrator,
    signal,
  );
}

/** A read-only disk with the agent's program, for machines of the fast rig. */
export async function agentDisk(narrator: Narrator, signal?: AbortSignal): Promise<string> {
  const program = await agentProgram(narrator, signal);
  const directory = await cachedArtefact(
    {
      name: "agent-disk",
      recipe: ["1", basename(program)],
      build: (target, abort) =>
        makeExt4(join(target, "agent.img"), {
          sizeBytes: AGENT_DISK_BYTES,
          label: "agent",
          tree: program,
          signal: abort,
        }),
    },
    narrator,
    signal,
  );
  return join(directory, "agent.img");
}

async function buildProgram(
  folders: readonly string[],
  directory: string,
  signal: AbortSignal,
): Promise<void> {
  const build = join(directory, "build");
  await mkdir(build);
  const configuration = join(build, "tsconfig.json");
  const at = (path: string): string => join(PROJECT_DIRECTORY, path);
  // The settings of a release for these folders alone: what else is in the tree is none of the agent's business.
  await writeFile(
    configuration,
    JSON.stringify({
      extends: at("tsconfig.build.json"),
      compilerOptions: {
        rootDir: PROJECT_DIRECTORY,
        outDir: build,
        declaration: false,
        sourceMap: false,
        typeRoots: [at("node_modules/@types")],
      },
      include: [SERVICE_FOLDER, ...folders].map((folder) => at(`${folder}/src/**/*.ts`)),
      exclude: ["test", "contract", "fuzz"].map((kind) => at(`**/*.${kind}.ts`)),
    }),
  );
  await runCommand(at("node_modules/.bin/tsc"), ["-p", configuration], {
    timeoutMs: 3 * MINUTE_MS,
    directory: PROJECT_DIRECTORY,
    signal,
  });
  await copyPackage(build, SERVICE_FOLDER, directory);
  for (const folder of folders)
    await copyPackage(build, folder, join(directory, "node_modules", manifestOf(folder).name));
  await rm(build, { recursive: true });
}

/** Copies one compiled package and writes its manifest with the emitted files in the place of the sources. */
async function copyPackage(build: string, folder: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  await cp(join(build, folder, "src"), join(target, "src"), {
    recursive: true,
  });
  const systemd = join(PROJECT_DIRECTORY, folder, "systemd");
  if (existsSync(systemd)) await cp(systemd, join(target, "systemd"), { recursive: true });
  const manifest = await readFile(join(PROJECT_DIRECTORY, folder, "package.json"), "utf8");
  await writeFile(join(target, "package.json"), manifest.replaceAll('.ts"', '.js"'));
}

/** Folders of the project's own packages that `folder` needs, directly or not. */
function packageFolders(folder: string): string[] {
  const own = Object.keys(manifestOf(folder).dependencies ?? {})
    .filter((name) => name.startsWith(OWN_SCOPE))
    .map((name) => `packages/${name.slice(OWN_SCOPE.length)}`);
  return [...new Set(own.flatMap((each) => [each, ...packageFolders(each)]))];
}

function manifestOf(folder: string): Manifest {
  return JSON.parse(
    readFileSync(join(PROJECT_DIRECTORY, folder, "package.json"), "utf8"),
  ) as Manifest;
}

function sourcesHash(folders: readonly string[]): string {
  const hash = createHash("sha256");
  const files = [...new Set(folders)].flatMap((folder) =>
    globSync(["package.json", "src/**/*.ts", "systemd/*"], {
      cwd: join(PROJECT_DIRECTORY, folder),
    }).map((file) => join(folder, file)),
  );
  for (const file of files.toSorted())
    hash.update(file).update(readFileSync(join(PROJECT_DIRECTORY, file)));
  return hash.digest("hex");
}
