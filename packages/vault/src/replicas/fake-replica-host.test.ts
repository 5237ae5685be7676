import { uuidOfName } from "@osr/base/uuid";

import { FakeReplicaHost } from "../testing/fake-replica-host.ts";
import { replicaHostContract } from "./replica-host.contract.ts";

replicaHostContract("fake", () => {
  const host = new FakeReplicaHost();
  const machineId = uuidOfName("test", "machine");
  return Promise.resolve({
    host,
    restarted: () => Promise.resolve(new FakeReplicaHost(host.site)),
    spec: {
      vaultId: uuidOfName("test", "vault"),
      machineId,
      groupId: machineId,
      point: { kind: "latest-processed" },
      name: "web01",
    },
  });
});
