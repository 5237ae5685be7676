import { X509Certificate } from "node:crypto";
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";

import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError, defineErrors, messageOf, systemErrorCode } from "@osr/base/errors";
import { parseJson } from "@osr/base/json-shape";
import type { Uuid } from "@osr/base/uuid";
import { certificateNameOf } from "@osr/contracts/certificate-name";
import type { CertificateLife } from "@osr/mobility-service/machine-health";
import {
  type MachineIdentity,
  identityMismatch,
  machineIdentityShape,
} from "@osr/mobility-service/machine-identity";

const ERRORS = defineErrors({
  IDENTITY_UNREADABLE: {
    retryable: false,
    hint: "The file says which machine this enrolment belongs to. Restore it, or enrol the machine again.",
  },
  CERTIFICATE_INVALID: {
    retryable: false,
    hint: "The certificate names no machine. Enrol the machine again.",
  },
});

/**
 * Binds this enrolment to this machine at its first run: `file` says which one it is. Later runs are held against it; the
 * answer is why this machine is another one, such as a copy, or undefined. A new enrolment (another machine id) binds anew;
 * disks that come and go are taken over. Throws IDENTITY_UNREADABLE: a file that is damaged must not bind a copy.
 */
export function bindMachine(file: string, found: MachineIdentity): string | undefined {
  const bound = readBinding(file);
  if (bound?.machineId === found.machineId) {
    const mismatch = identityMismatch(bound, found);
    if (mismatch !== undefined) return mismatch;
  }
  // A machine whose disks are not there yet is known by those it had.
  const isKnown = bound?.machineId === found.machineId && found.disks.length === 0;
  if (!isKnown && canonicalJson(bound ?? null) !== canonicalJson(found))
    replaceFile(file, canonicalJson(found));
  return undefined;
}

/** The machine that a certificate of a mobility service names. Throws CERTIFICATE_INVALID. */
export function machineIdOf(certificatePem: string): Uuid {
  const name = certificateNameOf(new X509Certificate(certificatePem).subjectAltName);
  if (name?.role === "mobility-service") return name.id;
  throw new OsrError(
    ERRORS.CERTIFICATE_INVALID,
    "the certificate is not one of a mobility service",
  );
}

export function certificateLifeOf(certificatePem: string): CertificateLife {
  const { validFromDate, validToDate } = new X509Certificate(certificatePem);
  return { fromUnixMs: validFromDate.getTime(), untilUnixMs: validToDate.getTime() };
}

function readBinding(file: string): MachineIdentity | undefined {
  try {
    return parseJson(readFileSync(file, "utf8"), machineIdentityShape);
  } catch (cause) {
    if (systemErrorCode(cause) === "ENOENT") return undefined;
    throw new OsrError(ERRORS.IDENTITY_UNREADABLE, `${file}: ${messageOf(cause)}`, { cause });
  }
}

function replaceFile(file: string, text: string): void {
  const fresh = `${file}.new`;
  writeFileSync(fresh, text, { mode: 0o600, flush: true });
  renameSync(fresh, file);
  const folder = openSync(file.slice(0, file.lastIndexOf("/")) || "/", "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
