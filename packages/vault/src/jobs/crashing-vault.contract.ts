import type { Uuid } from "@osr/base/uuid";

import { startTestJobs } from "../testing/test-jobs.ts";

/**
 * A process with a job engine that dies at a named point: `URL POINT`. Runs all jobs to their end, answers those that wait for a person, and
 * prints the lease with which it did so.
 */
const [url = "", point = ""] = process.argv.slice(2);

await using jobs = await startTestJobs(url, (name) => {
  if (name === point) process.kill(process.pid, "SIGKILL");
});
for (;;) {
  const open = await jobs.database
    .selectFrom("job")
    .select(["id", "state"])
    .where("ended_at", "is", null)
    .execute();
  if (open.length === 0) break;
  const waiting: { id: Uuid } | undefined = open.find(({ state }) => state === "Suspended");
  if (waiting !== undefined)
    await jobs.database.transaction().execute((tx) => jobs.runner.resume(tx, waiting.id, "seen"));
}
process.stdout.write(`${jobs.node.leaseToken}\n`);
