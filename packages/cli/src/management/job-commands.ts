import type { Command } from "commander";

import { followJob, readJob } from "./job-run.ts";
import { type ManagementCommands, type WaitOption, withWait } from "./management-command.ts";
import { jobRow, time, viewOf, viewOfList } from "./view.ts";
import { listed } from "./requests.ts";
import { vaultJob } from "./vault-job.ts";

type ListOptions = { readonly state?: string; readonly since?: string };

/** `osr job …`. */
export function addJobCommands(commands: ManagementCommands): void {
  const { program } = commands;
  const job = program.command("job").description("what the vault does and has done");
  addReading(job, commands);
  addChanging(job, commands);
}

function addReading(job: Command, { managed }: ManagementCommands): void {
  job
    .command("list")
    .description("jobs, newest first")
    .option("--state <state>", "NotStarted, InProgress, Succeeded, Failed, Cancelled, Suspended")
    .option("--since <time>", "started after this moment (ISO 8601)")
    .action(
      managed(async (management, options: ListOptions) => {
        const { siteRecovery, vault, resourceGroup } = management;
        const filters = [
          options.state === undefined ? [] : [`JobStatus eq '${options.state}'`],
          options.since === undefined ? [] : [`StartTime eq '${options.since}'`],
        ].flat();
        const filter = filters.length === 0 ? {} : { filter: filters.join(" and ") };
        return viewOfList(
          await listed(siteRecovery.replicationJobs.list(vault, resourceGroup, filter)),
          jobRow,
        );
      }),
    );
  job
    .command("show <name>")
    .description("one job with its tasks")
    .action(
      managed(async (management, name: string) => {
        const found = await readJob(management, name);
        return viewOf(found, () => ({
          ...jobRow(found),
          allowed: found.properties?.allowedActions?.join(","),
          tasks: (found.properties?.tasks ?? [])
            .map((task) => `${task.friendlyName ?? task.name ?? ""}: ${task.state ?? ""}`)
            .join("; "),
          errors: (found.properties?.errors ?? [])
            .map(
              ({ serviceErrorDetails: error }) => `${error?.code ?? ""}: ${error?.message ?? ""}`,
            )
            .join("; "),
          ended: time(found.properties?.endTime),
        }));
      }),
    );
  job
    .command("watch <name>")
    .description("follow a job to its end")
    .action(
      managed(async (management, name: string) =>
        viewOf(await followJob(management, name), jobRow),
      ),
    );
}

function addChanging(job: Command, { managed }: ManagementCommands): void {
  withWait(job.command("cancel <name>"))
    .description("cancel a job, where its work allows it")
    .action(
      managed((management, name: string, options: WaitOption) =>
        vaultJob(management, options, (client, at, begun) =>
          client.replicationJobs.beginCancel(...at, name, begun),
        ),
      ),
    );
  withWait(job.command("restart <name>"))
    .description("try a failed job again")
    .action(
      managed((management, name: string, options: WaitOption) =>
        vaultJob(management, options, (client, at, begun) =>
          client.replicationJobs.beginRestart(...at, name, begun),
        ),
      ),
    );
  withWait(job.command("resume <name>"))
    .description("let a job that waits for a person go on")
    .option("--comments <text>", "kept with the job", "")
    .action(
      managed(async (management, name: string, options: WaitOption & { comments: string }) => {
        const properties = { comments: options.comments };
        return await vaultJob(management, options, (client, at, begun) =>
          client.replicationJobs.beginResume(...at, name, { properties }, begun),
        );
      }),
    );
}
