import { after, before, suite } from "node:test";

import { type VaultUnderTest, fabricVaultContract } from "@osr/control-link/fabric-vault.contract";
import { type TestPostgres, startTestPostgres } from "@osr/vault/testing/test-database";
import { createVault } from "@osr/vault/testing/test-fabric";
import { VAULT_PATH, VERSION, startTestVault } from "@osr/vault/testing/test-vault";

suite("the real vault", () => {
  let postgres: TestPostgres;
  before(async () => {
    postgres = await startTestPostgres();
  });
  after(() => postgres[Symbol.asyncDispose]());

  fabricVaultContract("vault", async (): Promise<VaultUnderTest> => {
    const vault = await startTestVault(await postgres.newDatabase());
    await createVault(vault);
    return {
      credentials: async () => {
        const path = `${VAULT_PATH}/OpenSiteRecovery/vaultCredentials?${VERSION}`;
        return (await vault.request("POST", path)).body;
      },
      [Symbol.asyncDispose]: () => vault[Symbol.asyncDispose](),
    };
  });
});
