import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { createVault, register } from "./testing/test-fabric.ts";
import { type TestPostgres, startTestPostgres } from "./testing/test-database.ts";
import { SUBSCRIPTION, VAULT_PATH, VERSION, startTestVault } from "./testing/test-vault.ts";

const GOLDEN = join(import.meta.dirname, "../../../interop/arm-requests/v1/requests.json");
type Golden = { label: string; method: string; url: string; body?: unknown };

/** What is not plainly done, and why. */
const EXPECTED: Readonly<Record<string, number>> = {
  "vault create": 200, // made by the rig before
  "vault patch": 200,
  "vault certificate": 400, // the golden one is no certificate
  "extended info put": 200,
  "vault setting create": 200,
  "fabric create (Azure)": 400, // a fabric comes by registration
  "fabric reassociateGateway = switch process server": 400, // no such process server
  "fabric renewCertificate": 409,
  "provider create": 400,
  "recovery plan test failover": 409, // plans are kept, not run
  "recovery plan tfo cleanup": 409,
  "recovery plan unplanned failover": 409,
  "recovery plan commit": 409,
  "recovery plan reprotect": 409,
  "job get": 404, // no such job
  "job cancel": 404,
  "job restart": 404,
  "job resume": 404,
  "event get": 404,
  "alert put": 200,
  "policy delete": 409, // the reverse mapping is still there
  "provider remove": 409,
  "fabric remove": 409,
  "fabric purge": 409,
  "vault delete": 409,
};

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

test("every request of Microsoft's clients is answered", async () => {
  await using vault = await startTestVault(await postgres.newDatabase());
  await createVault(vault);
  const fabric = await register(vault);
  const text = readFileSync(GOLDEN, "utf8")
    .replaceAll("SUB", SUBSCRIPTION)
    .replaceAll("cloud_x", `cloud_${fabric.fabricId}`)
    .replaceAll("RecoveryServicesProviders/prov", `RecoveryServicesProviders/${fabric.fabricId}`);
  for (const { label, method, url, body } of JSON.parse(text) as Golden[]) {
    const reply = await vault.request(method, url, { body });
    const said = `${label}: ${JSON.stringify(reply.body)}`;
    // Protected items have their own tests: here there is none, so that most of these requests find nothing.
    if (url.includes("/replicationProtectedItems")) assert.ok(reply.status < 500, said);
    else assert.equal(reply.status, EXPECTED[label] ?? (method === "GET" ? 200 : 202), said);
    if (reply.status === 202) {
      const name = reply.headers.location?.split("?")[0]?.split("/").at(-1);
      const job = await vault.request("GET", `${VAULT_PATH}/replicationJobs/${name}?${VERSION}`);
      assert.equal(job.status, 200, `${label}: the last segment of Location is the job's name`);
      assert.match(
        reply.headers["azure-asyncoperation"] as string,
        /\/replicationOperationStatus\//,
      );
      assert.equal(reply.headers["retry-after"], "0");
      assert.equal(reply.body, "");
    }
  }
});
