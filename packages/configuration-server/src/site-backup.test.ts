import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";

import * as fc from "fast-check";

import { OsrError } from "@osr/base/errors";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { uuidOfName } from "@osr/base/uuid";

import { PASSPHRASE_VERIFIER, setPassphrase, verifierShape } from "./enrolment-desk.ts";
import { openSite } from "./site.ts";
import { parseSiteBackup, restoreSite, siteBackup } from "./site-backup.ts";

test("a backup makes the same site again: passphrase, accounts, roles and who was revoked", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "osr-backup-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const ports = { clock: systemClock, randomness: systemRandomness };
  const secret = systemRandomness.bytes(32);
  using site = await openSite({ secret, stateFolder: join(folder, "a") }, ports);
  setPassphrase(site.state, "a passphrase");
  site.state.putAccount({ id: "1", name: "root" }, "p4ssw0rd");
  const id = uuidOfName("agent");
  const member = { id, role: "mobility-service", hostName: "web", enrolledUnixMs: 5 } as const;
  site.state.addMember(member);
  const expiresUnixMs = Math.ceil(systemClock.unixMs() + 1000);
  site.state.addCertificate({ serial: "ab", memberId: id, expiresUnixMs });
  site.state.revokeMember(id, 6);
  // Enrolled again, and revoked again with its second certificate.
  site.state.addMember(member);
  site.state.addCertificate({ serial: "cd", memberId: id, expiresUnixMs });
  assert.deepEqual(site.state.revokedCertificates(0), [{ serial: "ab", revokedUnixMs: 6 }]);
  site.state.revokeMember(id, 7);
  const json = JSON.stringify(siteBackup(site.state, secret));

  using next = await openSite({ secret, stateFolder: join(folder, "b") }, ports);
  restoreSite(next.state, parseSiteBackup(json));
  assert.equal(
    next.state.kept(PASSPHRASE_VERIFIER, verifierShape),
    site.state.kept(PASSPHRASE_VERIFIER, verifierShape),
  );
  assert.equal(next.state.accountSecret("1"), "p4ssw0rd");
  assert.deepEqual(next.state.members(), [{ ...member, revokedUnixMs: 7 }]);
  assert.deepEqual(next.state.revokedCertificates(0), [
    { serial: "ab", revokedUnixMs: 6 },
    { serial: "cd", revokedUnixMs: 7 },
  ]);
  assert.equal(JSON.stringify(siteBackup(next.state, secret)), json);
  assert.equal(next.fingerprint, site.fingerprint);

  const invalid = (error: unknown): boolean =>
    error instanceof OsrError && error.code === "BACKUP_INVALID";
  fc.assert(
    fc.property(fc.nat(json.length - 1), (length) =>
      assert.throws(() => parseSiteBackup(json.slice(0, length)), invalid),
    ),
  );
  fc.assert(fc.property(fc.json(), (text) => assert.throws(() => parseSiteBackup(text), invalid)));
  // A state of another site's secret says so, and does not open.
  using foreign = await openSite(
    { secret: Buffer.alloc(32), stateFolder: join(folder, "a") },
    ports,
  );
  assert.throws(
    () => foreign.state.kept(PASSPHRASE_VERIFIER, verifierShape),
    (error) => error instanceof OsrError && error.code === "STATE_FOREIGN",
  );
});

test("the state of an earlier version is taken over", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "osr-state-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const id = uuidOfName("agent");
  const member = { id, role: "mobility-service", hostName: "web", enrolledUnixMs: 5 } as const;
  const ports = { clock: systemClock, randomness: systemRandomness };
  const secret = systemRandomness.bytes(32);
  {
    using site = await openSite({ secret, stateFolder: folder }, ports);
    site.state.addMember(member);
    site.state.addCertificate({ serial: "ab", memberId: id, expiresUnixMs: 9 });
  }
  using old = new DatabaseSync(join(folder, "state.sqlite"));
  old.exec("ALTER TABLE certificate DROP COLUMN revoked_unix_ms; PRAGMA user_version = 1;");
  using site = await openSite({ secret, stateFolder: folder }, ports);
  site.state.revokeMember(id, 6);
  site.state.addMember(member);
  assert.deepEqual(site.state.revokedCertificates(0), [{ serial: "ab", revokedUnixMs: 6 }]);
});
