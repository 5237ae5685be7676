import { createHash } from "node:crypto";

import { systemClock } from "@osr/base/platform/system-clock";
import type { Uuid } from "@osr/base/uuid";
import { createCertificateRequest } from "@osr/certificates/signing-request";
import type { Identity } from "@osr/certificates/site-authority";
import type {
  DesiredFabric,
  FabricMachine,
  FabricRegistration,
  FabricStatus,
} from "@osr/contracts/fabric-protocol";

import { type TestReply, type TestVault, VAULT_PATH, VERSION, request } from "./test-vault.ts";

/** A configuration server as the vault sees it, played by the test. */
export type TestFabric = {
  readonly fabricId: Uuid;
  readonly vaultId: Uuid;
  readonly identity: Identity;
  send(method: string, path: string, body?: unknown): Promise<TestReply>;
  desired(after?: number): Promise<DesiredFabric>;
  report(status: Partial<FabricStatus>): Promise<TestReply>;
};

/** Creates the test's vault resource. */
export async function createVault(vault: TestVault): Promise<void> {
  const body = { location: "local", properties: {} };
  await vault.request("PUT", `${VAULT_PATH}?${VERSION}`, { body });
}

export async function credentialToken(vault: TestVault): Promise<string> {
  const path = `${VAULT_PATH}/OpenSiteRecovery/vaultCredentials?${VERSION}`;
  const { body } = await vault.request("POST", path);
  return body.token;
}

export function registrationOf(
  token: string,
  csrPem: string,
  more: Partial<FabricRegistration> = {},
): FabricRegistration {
  return {
    token,
    name: "fabric",
    takeoverKey: createHash("sha256").update("site secret").digest("hex"),
    csrPem,
    hostName: "cs01",
    version: "1.0",
    siteAuthorityPem: "pem",
    ...more,
  };
}

export async function register(
  vault: TestVault,
  more: Partial<FabricRegistration> = {},
): Promise<TestFabric> {
  const { csrPem, privateKeyPem } = createCertificateRequest();
  const token = await credentialToken(vault);
  const { status, body } = await vault.request("POST", "/fabric/v1/registration", {
    body: registrationOf(token, csrPem, more),
    token: undefined,
  });
  if (status !== 200) throw new Error(JSON.stringify(body));
  const identity = { certificatePem: body.certificatePem, privateKeyPem };
  return testFabric(vault, body, identity);
}

export function testFabric(
  vault: TestVault,
  ids: { readonly fabricId: Uuid; readonly vaultId: Uuid },
  identity: Identity,
): TestFabric {
  const send: TestFabric["send"] = (method, path, body) =>
    request({ url: vault.url + path, ca: vault.authorityPem, method, identity, body });
  return {
    ...ids,
    identity,
    send,
    desired: async (after = 0) => (await send("GET", `/fabric/v1/desired?after=${after}`)).body,
    report: (status) => send("POST", "/fabric/v1/status", { ...emptyStatus(), ...status }),
  };
}

function emptyStatus(): FabricStatus {
  return {
    appliedRevision: 1,
    hostName: "cs01",
    version: "1.0",
    unixMs: systemClock.unixMs(),
    certificateExpiresUnixMs: systemClock.unixMs() + 1_000_000,
    isWhole: true,
    machines: [],
    gateways: [],
    runAsAccounts: [{ accountId: "1", accountName: "root" }],
    orderResults: [],
    health: [],
  };
}

export function testMachine(machineId: Uuid, friendlyName = "web01"): FabricMachine {
  return {
    machineId,
    friendlyName,
    address: "10.0.0.5",
    operatingSystem: "linux",
    lastSeenUnixMs: systemClock.unixMs(),
    registration: {
      agentVersion: "1.0",
      machine: {
        hostName: friendlyName,
        biosUuid: "b",
        operatingSystem: "Debian 12",
        kernel: "6.1",
        firmware: "uefi",
        cpuCount: 2,
        memoryBytes: 2 ** 31,
      },
      addresses: "10.0.0.5",
      disks: [{ identity: "serial:a", name: "vda", sizeBytes: 2 ** 30, isBoot: true }],
    },
  };
}
