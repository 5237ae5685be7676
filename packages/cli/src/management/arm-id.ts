/** The name that follows `type` in an ARM id, whatever the case of `type`; undefined where there is none. */
export function nameIn(id: string | undefined, type: string): string | undefined {
  const parts = (id ?? "").split("/");
  const at = parts.findIndex((part) => part.toLowerCase() === type.toLowerCase());
  const name = at < 0 ? undefined : parts[at + 1];
  return name === undefined || name === "" ? undefined : decodeURIComponent(name);
}
