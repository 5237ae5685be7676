/** What a compute provider takes at most as the name of a machine. */
const REPLICA_CHARS_MAX = 63;
/** Room for a number where two machines have the same name. */
const HOST_CHARS_MAX = 48;

/** The name of a replica: machines may be called anything by their people, and compute providers take less. */
export function replicaNameOf(name: string): string {
  return fitting(name, /[^A-Za-z0-9._-]/g, REPLICA_CHARS_MAX);
}

/** A name that DHCP servers hand out. */
export function hostNameOf(name: string): string {
  return fitting(name, /[^A-Za-z0-9-]/g, HOST_CHARS_MAX);
}

function fitting(name: string, unfit: RegExp, charsMax: number): string {
  const fit = name.replaceAll(unfit, "-").slice(0, charsMax);
  return fit.replaceAll(/^[.-]+|[.-]+$/g, "") || "machine";
}
