import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { type TestPostgres, startTestPostgres } from "./testing/test-database.ts";
import { createVault, register } from "./testing/test-fabric.ts";
import {
  GROUP,
  SUBSCRIPTION,
  type TestVault,
  VAULT_PATH,
  VERSION,
  startTestVault,
} from "./testing/test-vault.ts";

let postgres: TestPostgres;
let vault: TestVault;
let fabricId: string;
before(async () => {
  postgres = await startTestPostgres();
  vault = await startTestVault(await postgres.newDatabase(), {
    rateLimits: { requestsPerSecond: 1e6, burst: 1e6 },
  });
  await createVault(vault);
  ({ fabricId } = await register(vault));
});
after(async () => {
  await vault[Symbol.asyncDispose]();
  await postgres[Symbol.asyncDispose]();
});

const api = (path: string): string => `${VAULT_PATH}/${path}?${VERSION}`;
const policy = (input: object): object => ({
  properties: { providerSpecificInput: { instanceType: "InMageAzureV2", ...input } },
});
const container = (): string =>
  `replicationFabrics/fabric/replicationProtectionContainers/cloud_${fabricId}`;
const policyId = (name: string): string => `${VAULT_PATH}/replicationPolicies/${name}`;
const mapping = (target: string, id: string): object => ({
  properties: { targetProtectionContainerId: target, policyId: id },
});
const discover = (more: object): object => ({
  properties: { friendlyName: "a", ipAddress: "10.0.0.1", osType: "Linux", ...more },
});

type Case = [
  what: string,
  method: string,
  path: () => string,
  body: unknown,
  status: number,
  code: string,
];
const NOT_VAULT = `/subscriptions/${SUBSCRIPTION}/resourceGroups/${GROUP}/providers/Microsoft.RecoveryServices/vaults`;
const CASES: readonly Case[] = [
  ["no api-version", "GET", () => VAULT_PATH, undefined, 400, "MissingApiVersionParameter"],
  [
    "a vault without location",
    "PUT",
    () => `${NOT_VAULT}/new?${VERSION}`,
    {},
    400,
    "INPUT_INVALID",
  ],
  [
    "a vault's bad name",
    "PUT",
    () => `${NOT_VAULT}/a_b?${VERSION}`,
    { location: "x" },
    400,
    "InvalidParameter",
  ],
  [
    "tags that are no object",
    "PUT",
    () => `${NOT_VAULT}/new?${VERSION}`,
    { location: "x", tags: [1] },
    400,
    "InvalidParameter",
  ],
  [
    "an unknown vault",
    "GET",
    () => `${NOT_VAULT}/none?${VERSION}`,
    undefined,
    404,
    "ResourceNotFound",
  ],
  [
    "below an unknown vault",
    "PUT",
    () => `${NOT_VAULT}/none/replicationPolicies/p?${VERSION}`,
    policy({}),
    404,
    "ResourceNotFound",
  ],
  [
    "deleting an unknown vault",
    "DELETE",
    () => `${NOT_VAULT}/none?${VERSION}`,
    undefined,
    404,
    "ResourceNotFound",
  ],
  [
    "deleting a vault in use",
    "DELETE",
    () => `${VAULT_PATH}?${VERSION}`,
    undefined,
    409,
    "ResourceInUse",
  ],
  [
    "an unknown collection",
    "GET",
    () => api("replicationNonsense"),
    undefined,
    404,
    "InvalidResourceType",
  ],
  [
    "a method that is not there",
    "PATCH",
    () => api("replicationJobs"),
    {},
    405,
    "MethodNotAllowed",
  ],
  ["a policy of nothing", "PUT", () => api("replicationPolicies/p"), null, 400, "INPUT_INVALID"],
  [
    "a policy of another provider",
    "PUT",
    () => api("replicationPolicies/p"),
    policy({ instanceType: "A2A" }),
    400,
    "INPUT_INVALID",
  ],
  [
    "a policy without provider",
    "PUT",
    () => api("replicationPolicies/p"),
    policy({ instanceType: null }),
    400,
    "InvalidParameter",
  ],
  [
    "retention as text",
    "PUT",
    () => api("replicationPolicies/p"),
    policy({ recoveryPointHistory: "1440" }),
    400,
    "InvalidParameter",
  ],
  [
    "negative retention",
    "PUT",
    () => api("replicationPolicies/p"),
    policy({ recoveryPointHistory: -1 }),
    400,
    "InvalidParameter",
  ],
  [
    "points too often",
    "PUT",
    () => api("replicationPolicies/p"),
    policy({ crashConsistentFrequencyInMinutes: 0.1 }),
    400,
    "InvalidParameter",
  ],
  [
    "an unknown policy",
    "PATCH",
    () => api("replicationPolicies/none"),
    {},
    404,
    "ResourceNotFound",
  ],
  [
    "a fabric by hand",
    "PUT",
    () => api("replicationFabrics/x"),
    {},
    400,
    "FabricCreationNotSupported",
  ],
  [
    "an unknown fabric",
    "POST",
    () => api("replicationFabrics/none/checkConsistency"),
    undefined,
    404,
    "ResourceNotFound",
  ],
  [
    "an unknown container",
    "POST",
    () =>
      api("replicationFabrics/fabric/replicationProtectionContainers/x/discoverProtectableItem"),
    discover({}),
    404,
    "ResourceNotFound",
  ],
  [
    "a machine without address",
    "POST",
    () => api(`${container()}/discoverProtectableItem`),
    discover({ ipAddress: "" }),
    400,
    "InvalidParameter",
  ],
  [
    "a machine with a strange address",
    "POST",
    () => api(`${container()}/discoverProtectableItem`),
    discover({ ipAddress: "-x; reboot" }),
    400,
    "InvalidParameter",
  ],
  [
    "a machine of no kind",
    "POST",
    () => api(`${container()}/discoverProtectableItem`),
    discover({ osType: "VMS" }),
    400,
    "INPUT_INVALID",
  ],
  [
    "a mapping to elsewhere",
    "PUT",
    () => api(`${container()}/replicationProtectionContainerMappings/m`),
    mapping("x", policyId("gold")),
    400,
    "InvalidParameter",
  ],
  [
    "a mapping of an unknown policy",
    "PUT",
    () => api(`${container()}/replicationProtectionContainerMappings/m`),
    mapping("Microsoft Azure", policyId("none")),
    400,
    "InvalidParameter",
  ],
  [
    "a mapping of the other direction",
    "PUT",
    () => api(`${container()}/replicationProtectionContainerMappings/m`),
    mapping("Microsoft Azure", policyId("gold-failback")),
    400,
    "InvalidParameter",
  ],
  [
    "a vCenter as text",
    "PUT",
    () => api("replicationFabrics/fabric/replicationvCenters/v"),
    { properties: "x" },
    400,
    "InvalidParameter",
  ],
  [
    "a plan without groups",
    "PUT",
    () => api("replicationRecoveryPlans/r"),
    { properties: { primaryFabricId: "a", recoveryFabricId: "b" } },
    400,
    "InvalidParameter",
  ],
  [
    "changing an unknown plan",
    "PATCH",
    () => api("replicationRecoveryPlans/none"),
    { properties: {} },
    404,
    "ResourceNotFound",
  ],
  [
    "a plan that is run",
    "POST",
    () => api("replicationRecoveryPlans/r/testFailover"),
    {},
    409,
    "OperationNotSupported",
  ],
  [
    "mail to nobody",
    "PUT",
    () => api("replicationAlertSettings/defaultAlertSetting"),
    { properties: { customEmailAddresses: ["x"] } },
    400,
    "InvalidParameter",
  ],
  [
    "an unknown job",
    "POST",
    () => api("replicationJobs/00000000-0000-4000-8000-000000000000/cancel"),
    undefined,
    404,
    "ResourceNotFound",
  ],
  [
    "a certificate that is none",
    "PUT",
    () => api("certificates/c"),
    { properties: { certificate: "AAAA" } },
    400,
    "InvalidParameter",
  ],
  [
    "an unknown filter",
    "GET",
    () => `${api("replicationJobs")}&$filter=a%20eq%201`,
    undefined,
    400,
    "InvalidParameter",
  ],
  [
    "a page token of somebody else",
    "GET",
    () => `${api("replicationJobs")}&$skipToken=abc`,
    undefined,
    400,
    "InvalidParameter",
  ],
  [
    "a page of no size",
    "GET",
    () => `${api("replicationJobs")}&$top=0`,
    undefined,
    400,
    "InvalidParameter",
  ],
  [
    "a path that is not UTF-8",
    "GET",
    () => api("replicationPolicies/%ff"),
    undefined,
    400,
    "InvalidParameter",
  ],
  [
    "a name with U+0000",
    "GET",
    () => api("replicationPolicies/a%00"),
    undefined,
    400,
    "InvalidParameter",
  ],
  [
    "a name that is too long",
    "PUT",
    () => api(`replicationPolicies/${"x".repeat(129)}`),
    policy({}),
    400,
    "InvalidParameter",
  ],
];

test("what is wrong is refused in ARM's form, with the field and a remedy", async () => {
  assert.equal(
    (await vault.request("PUT", api("replicationPolicies/gold"), { body: policy({}) })).status,
    202,
  );
  for (const [what, method, path, body, status, code] of CASES) {
    const reply = await vault.request(method, path(), { body });
    const said = `${what}: ${JSON.stringify(reply.body)}`;
    assert.deepEqual([reply.status, reply.body.error?.code], [status, code], said);
    assert.ok(reply.body.error.message.length > 0, said);
    assert.ok(reply.body.error.details[0].recommendedAction.length > 0, said);
    assert.ok(reply.body.error.details[0].possibleCauses.length > 0, said);
  }
});

test("bodies that are no JSON, too large, too deep or not Unicode are refused", async () => {
  const put = (raw: Buffer) => vault.request("PUT", api("replicationPolicies/p"), { raw });
  const code = async (raw: Buffer): Promise<unknown> => {
    const { status, body } = await put(raw);
    return [status, body.error.code];
  };
  assert.deepEqual(await code(Buffer.from("{")), [400, "InvalidRequestContent"]);
  assert.deepEqual(await code(Buffer.from('{"a":"\\u0000"}')), [400, "InvalidRequestContent"]);
  assert.deepEqual(await code(Buffer.from("[".repeat(99) + "]".repeat(99))), [
    400,
    "InvalidRequestContent",
  ]);
  assert.deepEqual(await code(Buffer.alloc(513 * 1024, " ")), [413, "BODY_TOO_LARGE"]);
});

test("tokens: none, unknown, expired, revoked, of another scope, of a lesser role", async () => {
  const status = async (
    token: string | undefined,
    method = "GET",
    path = "replicationPolicies/gold",
  ) =>
    (
      await vault.request(method, api(path), {
        token,
        ...(method === "GET" ? {} : { body: policy({}) }),
      })
    ).status;
  const none = await vault.request("GET", api("replicationPolicies"), { token: undefined });
  assert.deepEqual([none.status, none.body.error.code], [401, "AuthenticationFailed"]);
  assert.match(none.headers["www-authenticate"] ?? "", /^Bearer/);
  assert.equal(await status("osr_wrong"), 401);
  const expired = await vault.newToken("Owner", { hours: -1 });
  const answer = await vault.request("GET", api("replicationPolicies"), { token: expired });
  assert.equal(answer.body.error.code, "ExpiredAuthenticationToken");
  const reader = await vault.newToken("Site Recovery Reader");
  assert.deepEqual([await status(reader), await status(reader, "PUT")], [200, 403]);
  const operator = await vault.newToken("Site Recovery Operator");
  const check = "replicationFabrics/fabric/checkConsistency";
  assert.deepEqual(
    [await status(operator, "PUT"), await status(operator, "POST", check)],
    [403, 202],
  );
  const item = `${container()}/replicationProtectedItems/none`;
  // Fails over what is there, but does not end its protection.
  assert.deepEqual(
    [
      await status(operator, "POST", `${item}/failoverCommit`),
      await status(operator, "POST", `${item}/remove`),
    ],
    [404, 403],
  );
  const elsewhere = await vault.newToken("Owner", { scope: `${VAULT_PATH}2` });
  assert.equal(await status(elsewhere), 403);
  const here = await vault.newToken("Site Recovery Contributor", {
    scope: VAULT_PATH.toUpperCase(),
  });
  assert.equal(await status(here, "PUT"), 202);
  await vault.open.database
    .updateTable("token")
    .set({ revoked_at: 1 })
    .where("name", "=", "Site Recovery Reader")
    .execute();
  assert.equal(await status(reader), 401);
});

test("every write is in the audit log, with who, what and how it ended", async () => {
  const { database } = vault.open;
  await vault.request("PUT", api("replicationPolicies/audited"), { body: policy({}) });
  await vault.request("PUT", api("replicationPolicies/audited"), {
    body: policy({ recoveryPointHistory: -1 }),
  });
  const rows = await database
    .selectFrom("audit")
    .select(["caller", "method", "action", "status", "code", "job_id"])
    .where("path", "like", "%/audited")
    .orderBy("id")
    .execute();
  const action = "Microsoft.RecoveryServices/vaults/replicationPolicies/write";
  assert.deepEqual(
    rows.map(({ job_id: job, ...rest }) => ({ ...rest, hasJob: job !== null })),
    [
      { caller: "Owner", method: "PUT", action, status: 202, code: null, hasJob: true },
      {
        caller: "Owner",
        method: "PUT",
        action,
        status: 400,
        code: "InvalidParameter",
        hasJob: false,
      },
    ],
  );
});

test("a caller that asks too much is told when to come back", async () => {
  await using slow = await startTestVault(await postgres.newDatabase(), {
    rateLimits: { requestsPerSecond: 1, burst: 3 },
  });
  const answers = [];
  for (let asked = 0; asked < 4; asked += 1)
    answers.push(await slow.request("GET", `${VAULT_PATH}?${VERSION}`));
  assert.deepEqual(
    answers.map(({ status }) => status),
    [404, 404, 404, 429],
  );
  assert.ok(Number(answers.at(-1)?.headers["retry-after"]) >= 1);
});
