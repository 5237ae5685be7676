import { fabricVaultContract } from "@osr/control-link/fabric-vault.contract";

import { FakeVault } from "./testing/fake-vault.ts";

fabricVaultContract("fake vault", () => FakeVault.start());
