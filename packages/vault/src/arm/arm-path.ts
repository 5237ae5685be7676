import { badRequest } from "./arm-error.ts";

/** Longest name of a resource: three of them in one key stay within a B-tree entry of PostgreSQL. */
const NAME_CHARS_MAX = 128;
const SEGMENTS_MAX = 32;

/** `V` of the templates. */
const VAULT_TEMPLATE =
  "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/providers/Microsoft.RecoveryServices/vaults/{vaultName}";

/** Segments of a request's path, decoded; a name may hold an encoded slash. Throws ArmError 400. */
export function pathSegments(path: string): readonly string[] {
  const parts = path.replace(/\/+$/, "").split("/").slice(1);
  if (parts.length > SEGMENTS_MAX) throw badRequest("path", `has more than ${SEGMENTS_MAX} parts`);
  return parts.map((part) => {
    const name = decoded(part);
    // oxlint-disable-next-line no-control-regex -- control characters are what is refused
    if (name.length > NAME_CHARS_MAX || /[\u0000-\u001f\u007f]/.test(name))
      throw badRequest(
        "path",
        `names have at most ${NAME_CHARS_MAX} characters, none of them a control character`,
      );
    return name;
  });
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw badRequest("path", "is not percent-encoded UTF-8");
  }
}

/** One segment of a template: a literal in lower case, or the name of a parameter. */
export type TemplatePart = { readonly literal: string } | { readonly parameter: string };

/** A route's template as a path from the root, with the letters' case as it is documented. */
export function wholeTemplate(template: string): string {
  return template === "V" || template.startsWith("V/")
    ? VAULT_TEMPLATE + template.slice(1)
    : template;
}

export function templateParts(template: string): readonly TemplatePart[] {
  return wholeTemplate(template)
    .split("/")
    .slice(1)
    .map((part) =>
      part.startsWith("{") ? { parameter: part.slice(1, -1) } : { literal: part.toLowerCase() },
    );
}

/** True where two names mean the same resource. */
export function sameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

/**
 * Segments of an ARM id below `vaultArmId`, or undefined where it lies elsewhere: `["replicationPolicies", "p"]`. Clients send ids back
 * in any case.
 */
export function segmentsBelow(vaultArmId: string, id: string): readonly string[] | undefined {
  const prefix = `${vaultArmId}/`;
  return sameName(id.slice(0, prefix.length), prefix)
    ? id.slice(prefix.length).split("/")
    : undefined;
}
