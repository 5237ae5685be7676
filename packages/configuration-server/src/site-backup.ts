import { OsrError } from "@osr/base/errors";
import {
  type Shape,
  integer,
  list,
  object,
  oneOf,
  optional,
  parseJson,
  text,
  uuidText,
} from "@osr/base/json-shape";
import { KIB, MIB } from "@osr/base/units";
import { ENROLLED_ROLES } from "@osr/contracts/enrolment";
import { MACHINES_PER_FABRIC_MAX } from "@osr/contracts/site-protocol";

import { CONFIGURATION_SERVER_ERRORS } from "./configuration-server-errors.ts";
import { FABRIC_IDENTITY, type FabricIdentity, fabricIdentityShape } from "./fabric-identity.ts";
import { PASSPHRASE_VERIFIER, verifierShape } from "./enrolment-desk.ts";
import type { KnownCertificate, Member, SiteState } from "./site-state.ts";

const ROLES_MAX = 4 * MACHINES_PER_FABRIC_MAX;
const CERTIFICATES_MAX = 100_000;
const BACKUP_CHARS_MAX = 64 * MIB;

type BackupAccount = { readonly id: string; readonly name: string; readonly secret: string };

/** What another configuration server needs to be the one of this site. A secret as a whole. */
export type SiteBackup = {
  readonly format: 1;
  readonly siteSecret: string;
  readonly passphraseVerifier?: string | undefined;
  readonly fabric?: FabricIdentity | undefined;
  readonly members: readonly Member[];
  readonly certificates: readonly KnownCertificate[];
  readonly accounts: readonly BackupAccount[];
};

const shape: Shape<SiteBackup> = object<SiteBackup>({
  format: (value, path) => {
    integer(1, 1)(value, path);
    return 1;
  },
  siteSecret: text(64),
  passphraseVerifier: optional(verifierShape),
  fabric: optional(fabricIdentityShape),
  members: list(
    object<Member>({
      id: uuidText,
      role: oneOf(...ENROLLED_ROLES),
      hostName: text(255),
      enrolledUnixMs: integer(0),
      revokedUnixMs: optional(integer(0)),
    }),
    ROLES_MAX,
  ),
  certificates: list(
    object<KnownCertificate>({
      serial: text(64),
      memberId: uuidText,
      expiresUnixMs: integer(0),
      revokedUnixMs: optional(integer(0)),
    }),
    CERTIFICATES_MAX,
  ),
  accounts: list(
    object<BackupAccount>({ id: text(64), name: text(255), secret: text(64 * KIB) }),
    MACHINES_PER_FABRIC_MAX,
  ),
});

export function siteBackup(state: SiteState, siteSecret: Buffer): SiteBackup {
  const passphraseVerifier = state.kept(PASSPHRASE_VERIFIER, verifierShape);
  const fabric = state.kept(FABRIC_IDENTITY, fabricIdentityShape);
  return {
    format: 1,
    siteSecret: siteSecret.toString("hex"),
    ...(passphraseVerifier === undefined ? {} : { passphraseVerifier }),
    ...(fabric === undefined ? {} : { fabric }),
    members: state.members(),
    certificates: state.certificates(),
    accounts: state
      .accounts()
      .map((account) => ({ ...account, secret: state.accountSecret(account.id) ?? "" })),
  };
}

/** Throws BACKUP_INVALID. */
export function parseSiteBackup(json: string): SiteBackup {
  try {
    if (json.length > BACKUP_CHARS_MAX) throw new RangeError("it is too long");
    const backup = parseJson(json, shape);
    if (/^[0-9a-f]{64}$/.test(backup.siteSecret)) return backup;
    throw new RangeError("its secret is not 64 hexadecimal digits");
  } catch (cause) {
    throw new OsrError(CONFIGURATION_SERVER_ERRORS.BACKUP_INVALID, "the backup cannot be read", {
      cause,
    });
  }
}

/** Puts a backup into a new state. */
export function restoreSite(state: SiteState, backup: SiteBackup): void {
  state.transaction(() => {
    if (backup.passphraseVerifier !== undefined)
      state.keep(PASSPHRASE_VERIFIER, backup.passphraseVerifier);
    if (backup.fabric !== undefined) state.keep(FABRIC_IDENTITY, backup.fabric);
    for (const member of backup.members) {
      state.addMember(member);
      if (member.revokedUnixMs !== undefined) state.revokeMember(member.id, member.revokedUnixMs);
    }
    for (const certificate of backup.certificates) state.addCertificate(certificate);
    for (const { id, name, secret } of backup.accounts) state.putAccount({ id, name }, secret);
  });
}
