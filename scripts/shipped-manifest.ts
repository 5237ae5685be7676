/** The manifest of a package as it is shipped: emitted files instead of sources, nothing for development. */
export function shippedManifest(manifest: object): object {
  const { devDependencies: _, private: __, ...rest } = manifest as Record<string, unknown>;
  const entries = Object.entries(rest).map(([key, value]) =>
    key === "exports" || key === "bin" ? [key, emitted(value)] : [key, value],
  );
  return { ...Object.fromEntries(entries), files: ["src", "systemd"] };
}

function emitted(value: unknown): unknown {
  if (typeof value === "string") return value.replace(/\.ts$/, ".js");
  return Object.fromEntries(
    Object.entries(value as Record<string, unknown>).map(([key, inner]) => [key, emitted(inner)]),
  );
}
