import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { createAuthority, issueCertificate } from "@osr/certificates/site-authority";
import { encodeTokens, newToken } from "@osr/storage-account/access-token";
import { createStorageAccount } from "@osr/storage-account/storage-account";

import type { StorageAccess } from "../site/role-configurations.ts";

/** A storage account on loopback, and how its maintainer reaches it. */
export type TestAccount = AsyncDisposable & {
  /** What it holds lies here. */
  readonly directory: string;
  readonly access: StorageAccess;
};

/** Starts it in this process, with its data, token and authority in `folder`. */
export async function startTestAccount(folder: string): Promise<TestAccount> {
  const file = (name: string, content: string): string => {
    writeFileSync(join(folder, name), content, { mode: 0o600 });
    return join(folder, name);
  };
  const common = { days: 1, clock: systemClock };
  const authority = await createAuthority({ commonName: "account", ...common });
  const tls = await issueCertificate(authority, {
    commonName: "storage-account",
    ipAddresses: ["127.0.0.1"],
    usage: "server",
    ...common,
  });
  const token = newToken(systemRandomness);
  const directory = join(folder, "account");
  const account = await createStorageAccount({
    directory,
    host: "127.0.0.1",
    port: 0,
    tls,
    tokensFile: file("tokens.json", encodeTokens([{ role: "maintainer", token }])),
    log: silentLog,
    scheduler: systemScheduler,
    randomness: systemRandomness,
  });
  const running = account.run();
  return {
    directory,
    access: {
      endpoint: `https://127.0.0.1:${account.port}`,
      container: "osr",
      tokenFile: file("account.token", token),
      authority: file("account.pem", authority.certificatePem),
    },
    [Symbol.asyncDispose]: async () => {
      await account.stop();
      await running;
    },
  };
}
