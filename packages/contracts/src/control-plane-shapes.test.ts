import assert from "node:assert/strict";
import { test } from "node:test";

import { parseJson } from "@osr/base/json-shape";
import { type Uuid, uuidOfName } from "@osr/base/uuid";

import type { MachineDescription } from "./agent-protocol.ts";
import {
  CERTIFICATE_DAYS,
  CERTIFICATE_RENEWED_AT_SHARE,
  ENROLMENT_ROUTES,
  type EnrolmentReply,
  type EnrolmentRequest,
  type EnrolmentToken,
  enrolmentReplyShape,
  enrolmentRequestShape,
  enrolmentTokenShape,
  renewalRequestShape,
} from "./enrolment.ts";
import {
  type DesiredFabric,
  FABRIC_ROUTES,
  FABRIC_STATUS_MS,
  FABRIC_WAIT_MS,
  type FabricRegistration,
  type FabricStatus,
  type VaultCredentials,
  desiredFabricShape,
  fabricRegistrationReplyShape,
  fabricRegistrationShape,
  fabricStatusReplyShape,
  fabricStatusShape,
  vaultCredentialsShape,
} from "./fabric-protocol.ts";
import type { GatewayFacts, MachineReplicationFacts } from "./replication-facts.ts";
import {
  AGENT_STATUS_MS,
  type AgentSettings,
  type GatewayAssignment,
  type MachineGrant,
  SITE_ROUTES,
  SITE_WAIT_MS,
  type StorageGrant,
  agentSettingsShape,
  gatewayAssignmentShape,
} from "./site-protocol.ts";

const id = (name: string): Uuid => uuidOfName("test", name);
const HEX = "ab".repeat(32);

const machine: MachineDescription = {
  hostName: "web01",
  biosUuid: id("bios"),
  operatingSystem: "Debian GNU/Linux 12",
  kernel: "6.1.0",
  firmware: "bios",
  cpuCount: 2,
  memoryBytes: 2 ** 31,
};
const disk = { identity: "serial:a", name: "vda", sizeBytes: 2 ** 31, isBoot: true };
const storage: StorageGrant = {
  endpoint: "https://127.0.0.1:8444",
  container: "osr",
  token: HEX,
  authorityPem: "pem",
  expiresUnixMs: 1,
};
const grant: MachineGrant = {
  machineId: id("machine"),
  groupId: id("machine"),
  groupKey: HEX,
  disks: [{ identity: "serial:a", diskId: id("disk"), timeline: 1, dataKey: HEX }],
};
const facts: MachineReplicationFacts = {
  state: "protected",
  agentVersion: "0.1.0",
  processServerId: id("ps"),
  newestPoint: { slot: 7, cutId: id("cut"), class: "crash", unixMs: 8 },
  pointsMade: 3,
  pointsMissed: 1,
  frozenMs: 12,
  disks: [
    {
      identity: "serial:a",
      name: "vda",
      sizeBytes: 2 ** 31,
      stage: "delta",
      progressPermille: 1000,
      dirtyBytes: 0,
      readBytes: 1,
      sentBytes: 2,
    },
  ],
  health: [{ code: "CACHE_FULL", message: "full", hint: "wait", diskId: id("disk") }],
};
const gateway: GatewayFacts = {
  hostName: "cs01",
  version: "0.1.0",
  address: { host: "127.0.0.1", port: 9443 },
  certificateExpiresUnixMs: 5,
  cacheFreePermille: 900,
  cpuPermille: 10,
  memoryPermille: 20,
  pendingUploadBytes: 0,
  protectedMachines: 1,
  health: [],
};

test("what is sent between site and vault comes back as it was", () => {
  const settings: AgentSettings = {
    revision: 3,
    isProtected: true,
    processServer: { id: id("ps"), host: "127.0.0.1", port: 9443 },
    excludedDisks: ["serial:b"],
    pointIntervalSeconds: 300,
    appPointIntervalSeconds: 0,
    resyncRequest: 0,
  };
  const assignment: GatewayAssignment = {
    revision: 1,
    vaultId: id("vault"),
    storage,
    machines: [grant],
  };
  const desired: DesiredFabric = {
    revision: 9,
    vaultId: id("vault"),
    storage,
    items: [
      {
        grant,
        isProtected: false,
        stoppedReason: "FAILED_OVER",
        excludedDisks: [],
        pointIntervalSeconds: 15,
        appPointIntervalSeconds: 3600,
        resyncRequest: 2,
        processServerId: id("ps"),
      },
    ],
    orders: [{ id: id("order"), kind: "discover-machine", address: "192.0.2.7" }],
  };
  const registration = {
    agentVersion: "0.1.0",
    machine,
    addresses: "192.0.2.7",
    disks: [disk],
  };
  const status: FabricStatus = {
    appliedRevision: 9,
    hostName: "cs01",
    version: "0.1.0",
    unixMs: 1,
    certificateExpiresUnixMs: 2,
    isWhole: true,
    machines: [
      {
        machineId: id("machine"),
        friendlyName: "web01",
        address: "192.0.2.7",
        operatingSystem: "linux",
        registration,
        lastSeenUnixMs: 3,
        facts,
      },
    ],
    gateways: [{ id: id("ps"), role: "process-server", lastSeenUnixMs: 4, facts: gateway }],
    runAsAccounts: [{ accountId: "1", accountName: "root" }],
    orderResults: [{ orderId: id("order"), state: "succeeded" }],
    health: [],
  };
  assert.deepEqual(parseJson(JSON.stringify(settings), agentSettingsShape), settings);
  assert.deepEqual(parseJson(JSON.stringify(assignment), gatewayAssignmentShape), assignment);
  assert.deepEqual(parseJson(JSON.stringify(desired), desiredFabricShape), desired);
  assert.deepEqual(parseJson(JSON.stringify(status), fabricStatusShape), status);
  assert.throws(
    () => parseJson(JSON.stringify({ ...status, appliedRevision: -1 }), fabricStatusShape),
    /appliedRevision/,
  );
  assert.deepEqual(parseJson('{"wantsWhole":true}', fabricStatusReplyShape), { wantsWhole: true });
});

test("what enrols and registers comes back as it was", () => {
  const request: EnrolmentRequest = {
    role: "mobility-service",
    proofOf: "token",
    tokenId: id("token"),
    proof: HEX,
    csrPem: "csr",
    hostName: "web01",
    biosUuid: id("bios"),
  };
  const reply: EnrolmentReply = {
    id: id("machine"),
    certificatePem: "pem",
    authorityPem: "pem",
    renewAtUnixMs: 1,
  };
  const registration: FabricRegistration = {
    token: HEX,
    name: "site-a",
    takeoverKey: HEX,
    csrPem: "csr",
    hostName: "cs01",
    version: "0.1.0",
    siteAuthorityPem: "pem",
  };
  const credentials: VaultCredentials = {
    vaultUrl: "https://127.0.0.1:8443",
    vaultAuthorityPem: "pem",
    vaultArmId: "/subscriptions/s",
    token: HEX,
    expiresUnixMs: 1,
  };
  const answer = {
    fabricId: id("fabric"),
    vaultId: id("vault"),
    certificatePem: "pem",
    authorityPem: "pem",
    renewAtUnixMs: 1,
  };
  const token: EnrolmentToken = {
    tokenId: id("token"),
    token: HEX,
    role: "process-server",
    configurationServer: "127.0.0.1:4443",
    authorityFingerprint: HEX,
    id: id("ps"),
    expiresUnixMs: 1,
  };
  assert.deepEqual(parseJson(JSON.stringify(request), enrolmentRequestShape), request);
  assert.deepEqual(parseJson(JSON.stringify(token), enrolmentTokenShape), token);
  assert.deepEqual(parseJson(JSON.stringify(reply), enrolmentReplyShape), reply);
  assert.deepEqual(parseJson('{"csrPem":"csr"}', renewalRequestShape), { csrPem: "csr" });
  assert.deepEqual(parseJson(JSON.stringify(registration), fabricRegistrationShape), registration);
  assert.deepEqual(parseJson(JSON.stringify(answer), fabricRegistrationReplyShape), answer);
  assert.deepEqual(parseJson(JSON.stringify(credentials), vaultCredentialsShape), credentials);
});

test("waiting for a new revision ends before the next status is due twice", () => {
  assert.ok(SITE_WAIT_MS < 2 * AGENT_STATUS_MS);
  assert.ok(FABRIC_WAIT_MS < 2 * FABRIC_STATUS_MS);
  assert.ok(CERTIFICATE_RENEWED_AT_SHARE * CERTIFICATE_DAYS >= 20 - 1e-9);
  const paths = [SITE_ROUTES, FABRIC_ROUTES, ENROLMENT_ROUTES].flatMap((routes) =>
    Object.values(routes),
  );
  assert.equal(new Set(paths).size, paths.length);
});
