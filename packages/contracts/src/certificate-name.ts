import { type Uuid, isUuid } from "@osr/base/uuid";

/** Who a certificate is for. The URI in its subject alternative name is `osr://<role>/<id>`. */
export const CERTIFICATE_ROLES = [
  "mobility-service",
  "process-server",
  "master-target",
  "configuration-server",
  "vault",
  "storage-account",
  "operator",
] as const;
export type CertificateRole = (typeof CERTIFICATE_ROLES)[number];
export type CertificateName = { readonly role: CertificateRole; readonly id: Uuid };

export function certificateUri(name: CertificateName): string {
  return `osr://${name.role}/${name.id}`;
}

/** Reads Node's `subjectaltname` text (`URI:osr://…, DNS:…`). Undefined unless exactly one name of ours is in it. */
export function certificateNameOf(subjectAltName: string | undefined): CertificateName | undefined {
  const uris = (subjectAltName ?? "").split(", ").filter((part) => part.startsWith("URI:osr://"));
  const [role, id, ...rest] = (uris[0] ?? "").slice("URI:osr://".length).split("/");
  const known = CERTIFICATE_ROLES.find((candidate) => candidate === role);
  const single = uris.length === 1 && rest.length === 0;
  return single && known !== undefined && isUuid(id) ? { role: known, id } : undefined;
}
