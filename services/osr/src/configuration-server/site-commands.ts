import { hostname } from "node:os";

import type { AccountOptions, RegisterOptions } from "@osr/cli/configuration-server-commands";
import type { Output } from "@osr/cli/output";
import { OsrError, defineErrors } from "@osr/base/errors";
import { parseJson } from "@osr/base/json-shape";
import { isoTime } from "@osr/base/platform/iso-time";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { type Uuid, isUuid, randomUuid } from "@osr/base/uuid";
import { certificateFacts } from "@osr/certificates/certificate-facts";
import { FABRIC_IDENTITY, fabricIdentityShape } from "@osr/configuration-server/fabric-identity";
import { registerFabric } from "@osr/configuration-server/fabric-registration";
import { vaultCredentialsShape } from "@osr/contracts/fabric-protocol";
import { readGivenFile } from "@osr/control-link/secret-file";

import { openConfiguredSite, reachedAt } from "./open-configured-site.ts";

const ERRORS = defineErrors({
  ID_INVALID: { retryable: false, hint: "Copy the id as it is listed." },
  ACCOUNT_UNKNOWN: {
    retryable: false,
    hint: "See `osr configuration-server account list` for those there are.",
  },
});

type Configured = { readonly config: string };

/** `osr configuration-server show`. */
export async function showSite({ config }: Configured): Promise<Output> {
  using open = await openConfiguredSite(config);
  const { site, configuration } = open;
  const fabric = site.state.kept(FABRIC_IDENTITY, fabricIdentityShape);
  return {
    configurationServer: reachedAt(configuration),
    authorityFingerprint: site.fingerprint,
    fabric: fabric?.name ?? "not registered",
    fabricId: fabric?.fabricId ?? "",
    vault: fabric?.vaultUrl ?? "",
    certificateExpires:
      fabric === undefined ? "" : isoTime(certificateFacts(fabric.certificatePem).untilUnixMs),
  };
}

/** `osr configuration-server register`: where the role runs, it takes the registration up by itself. */
export async function registerSite(options: RegisterOptions): Promise<Output> {
  using open = await openConfiguredSite(options.config);
  const { site, configuration } = open;
  const credentials = parseJson(readGivenFile(options.credentials), vaultCredentialsShape);
  const known = site.state.kept(FABRIC_IDENTITY, fabricIdentityShape);
  const isSame = known?.vaultUrl === credentials.vaultUrl && known.name === options.name;
  const identity = await registerFabric(
    {
      credentials,
      name: options.name,
      fabricId:
        options.fabricId === undefined
          ? isSame
            ? known.fabricId
            : undefined
          : idOf(options.fabricId),
      takeoverKey: site.keys.takeoverKey,
      siteAuthorityPem: site.authority.certificatePem,
      hostName: hostname(),
      version: "0.1.0",
      proxyUrl: configuration.proxyUrl,
    },
    { clock: systemClock, scheduler: systemScheduler },
  );
  site.state.keep(FABRIC_IDENTITY, identity);
  const { name, fabricId, vaultUrl } = identity;
  return { fabric: name, fabricId, vault: vaultUrl };
}

/** `osr configuration-server account add`. */
export async function addAccount(name: string, options: AccountOptions): Promise<Output> {
  const secret = readGivenFile(options.secretFile).replace(/\r?\n$/, "");
  using open = await openConfiguredSite(options.config);
  const { state } = open.site;
  const known = state.accounts().find((account) => account.name === name);
  const account = { id: known?.id ?? randomUuid(systemRandomness), name };
  state.putAccount(account, secret);
  return { ...account, state: known === undefined ? "added" : "replaced" };
}

/** `osr configuration-server account list`. */
export async function listAccounts({ config }: Configured): Promise<Output> {
  using open = await openConfiguredSite(config);
  return open.site.state.accounts().map(({ id, name }) => ({ id, name }));
}

/** `osr configuration-server account remove`. */
export async function removeAccount(id: string, { config }: Configured): Promise<Output> {
  using open = await openConfiguredSite(config);
  if (!open.site.state.dropAccount(id))
    throw new OsrError(ERRORS.ACCOUNT_UNKNOWN, `there is no account ${id}`);
  return { id, state: "removed" };
}

/** Throws ID_INVALID. */
export function idOf(text: string): Uuid {
  const lower = text.toLowerCase();
  if (isUuid(lower)) return lower;
  throw new OsrError(ERRORS.ID_INVALID, `${text.slice(0, 100)} is not a UUID`);
}
