import { globSync, readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { join } from "node:path";

type LayerTable = { layers: { level: number; members: string[] }[] };

type Manifest = {
  name: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
};

type Member = {
  readonly folder: string;
  readonly name: string;
  readonly level: number;
  /** Packages, own and foreign, that package.json declares. */
  readonly declared: readonly string[];
  /** Specifiers that the sources import, with the file that does. */
  readonly imports: readonly { readonly file: string; readonly specifier: string }[];
};

// Every form of import that our sources may use; `import(` with a computed argument is refused by lint.
const IMPORT = /(?:\bfrom\s*|\bimport\s*\(?\s*)["']([^"'\s]+)["']/g;

/** The members of architecture.json under `root`. Throws where a workspace is missing from the table, or the reverse. */
export function readWorkspaces(root: string): Member[] {
  const table: LayerTable = JSON.parse(readFileSync(join(root, "architecture.json"), "utf8"));
  const onDisk = globSync(["{packages,services}/*/package.json", "{e2e,bench,fuzz}/package.json"], {
    cwd: root,
  }).map((path) => path.slice(0, -"/package.json".length));
  const levels = new Map(table.layers.flatMap((l) => l.members.map((m) => [m, l.level] as const)));
  for (const folder of onDisk)
    if (!levels.has(folder)) throw new Error(`${folder}: not in architecture.json`);
  for (const folder of levels.keys())
    if (!onDisk.includes(folder)) throw new Error(`${folder}: in architecture.json, not on disk`);
  if (onDisk.length === 0) throw new Error(`${root}: no workspaces, nothing was checked`);
  return onDisk.map((folder) => readMember(root, folder, levels.get(folder) ?? 0));
}

function readMember(root: string, folder: string, level: number): Member {
  const manifest: Manifest = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8"));
  const declared = Object.keys({
    ...manifest.dependencies,
    ...manifest.optionalDependencies,
    ...manifest.devDependencies,
  });
  const imports = globSync("src/**/*.{ts,tsx}", { cwd: join(root, folder) }).flatMap((file) =>
    [...readFileSync(join(root, folder, file), "utf8").matchAll(IMPORT)].map((match) => ({
      file: join(folder, file),
      specifier: match[1] ?? "",
    })),
  );
  return { folder, name: manifest.name, level, declared, imports };
}

/** One line for each import or dependency that breaks a rule of architecture.json. */
export function layerViolations(members: readonly Member[]): string[] {
  const byName = new Map(members.map((member) => [member.name, member]));
  return members.flatMap((member) => [
    ...member.declared.flatMap((name) =>
      upward(member, byName.get(name), `${member.folder}/package.json`),
    ),
    ...member.imports.flatMap(({ file, specifier }) =>
      specifier.startsWith(".")
        ? escapes(member, file, specifier)
        : [
            ...undeclared(member, file, specifier),
            ...upward(member, byName.get(packageOf(specifier)), file),
          ],
    ),
  ]);
}

function packageOf(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

function escapes(member: Member, file: string, specifier: string): string[] {
  const inside = join(file, "..", specifier).startsWith(`${member.folder}/src/`);
  return inside ? [] : [`${file}: ${specifier} leaves the package`];
}

function undeclared(member: Member, file: string, specifier: string): string[] {
  const name = packageOf(specifier);
  const known = isBuiltin(specifier) || name === member.name || member.declared.includes(name);
  return known ? [] : [`${file}: ${name} is not declared`];
}

function upward(from: Member, to: Member | undefined, where: string): string[] {
  if (to === undefined || to === from || to.level < from.level) return [];
  return [`${where}: ${from.name} (layer ${from.level}) uses ${to.name} (layer ${to.level})`];
}
