import type { Clock } from "@osr/base/clock";
import type { Randomness } from "@osr/base/randomness";
import { authorityFingerprint } from "@osr/certificates/authority-key";
import { type Identity, authorityOfKey } from "@osr/certificates/site-authority";

import { Sealing } from "./sealing.ts";
import { type SiteKeys, siteKeysOf } from "./site-keys.ts";
import { SiteState } from "./site-state.ts";
import { openStateDatabase } from "./state-database.ts";

const AUTHORITY_DAYS = 3650;

/** A site as whoever has its secret and its state folder opens it: the role itself, and the commands beside it. */
export type Site = Disposable & {
  readonly keys: SiteKeys;
  readonly state: SiteState;
  readonly authority: Identity;
  /** Of the authority: pinned by roles that enrol. */
  readonly fingerprint: string;
};

/** Throws STATE_FOREIGN where the state belongs to another secret. */
export async function openSite(
  options: { readonly secret: Buffer; readonly stateFolder: string },
  ports: { readonly clock: Clock; readonly randomness: Randomness },
): Promise<Site> {
  const keys = siteKeysOf(options.secret);
  const authority = await authorityOfKey(keys.authorityKeyPem, {
    commonName: "Open Site Recovery site authority",
    days: AUTHORITY_DAYS,
    clock: ports.clock,
  });
  const sealing = new Sealing(keys.stateKey, ports.randomness);
  const state = new SiteState(openStateDatabase(options.stateFolder), sealing);
  return {
    keys,
    state,
    authority,
    fingerprint: authorityFingerprint(authority.certificatePem),
    [Symbol.dispose]: () => state[Symbol.dispose](),
  };
}
