// Writes <out>/<folder>/package.json (by default build/) beside what tsc emitted: the same manifest with src/*.ts turned into src/*.js.
import { cpSync, existsSync, globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { shippedManifest } from "./shipped-manifest.ts";

const root = join(import.meta.dirname, "..");
const out = process.argv[2] ?? join(root, "build");
for (const path of globSync("{packages,services}/*/package.json", { cwd: root })) {
  const folder = path.slice(0, -"/package.json".length);
  const manifest = shippedManifest(JSON.parse(readFileSync(join(root, path), "utf8")) as object);
  writeFileSync(join(out, path), `${JSON.stringify(manifest, null, 2)}\n`);
  for (const extra of ["systemd"])
    if (existsSync(join(root, folder, extra)))
      cpSync(join(root, folder, extra), join(out, folder, extra), { recursive: true });
}
