import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { OsrError } from "@osr/base/errors";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { ENROLMENT_ROUTES } from "@osr/contracts/enrolment";
import { SITE_ROUTES } from "@osr/contracts/site-protocol";
import { HttpsClient } from "@osr/https/https-client";

import { TestSite } from "./testing/test-site.ts";

const METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD"];
const PATHS = [...Object.values(SITE_ROUTES), ...Object.values(ENROLMENT_ROUTES), "/", "/v1"];
const QUERIES = ["", "?after=1", "?after=-1", "?after=x", "?after=1e99", "?after="];

test("whatever anybody sends, nothing is answered as a defect", async () => {
  await using site = await new TestSite({ waitMs: 1 }).start();
  using agent = await site.enrol("mobility-service");
  using gateway = await site.enrol("process-server");
  using nobody = new HttpsClient({
    baseUrl: `https://${site.address}`,
    authorityPem: site.site.authority.certificatePem,
    socketsMax: 4,
    timeoutMs: 30_000,
    scheduler: systemScheduler,
  });
  const clients = [agent.client, gateway.client, nobody];
  const bodies = fc.oneof(
    fc.json().map((json) => Buffer.from(json)),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    fc
      .record({
        role: fc.constantFrom("mobility-service", "process-server", 7),
        proofOf: fc.constantFrom("token", "passphrase"),
        proof: fc.string({ maxLength: 70 }),
        csrPem: fc.string({ maxLength: 70 }),
        hostName: fc.string(),
        biosUuid: fc.string(),
        addresses: fc.string(),
      })
      .map((request) => Buffer.from(JSON.stringify(request))),
  );
  const requests = fc.record({
    client: fc.constantFrom(...clients),
    method: fc.constantFrom(...METHODS),
    path: fc.constantFrom(...PATHS),
    query: fc.constantFrom(...QUERIES),
    body: bodies,
  });
  await fc.assert(
    fc.asyncProperty(requests, async ({ client, method, path, query, body }) => {
      const isBodied = method === "POST" || method === "PUT";
      try {
        await client.request({ method, path: path + query, ...(isBodied ? { body } : {}) });
      } catch (error) {
        assert.ok(error instanceof OsrError, String(error));
        const { status }: { status?: unknown } = error.details;
        assert.ok(typeof status === "number" && status < 500, `${error.code} ${error.message}`);
      }
    }),
    { numRuns: 400 },
  );
});
