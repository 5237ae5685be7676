import { setTimeout as wait } from "node:timers/promises";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { enableReplication } from "../main-job/protection.ts";
import { firstPage, startTestFailover } from "../main-job/test-failover.ts";
import { DEBIAN_AGENT_LOG } from "../rig/debian-agent.ts";
import { DEBIAN_DISKS, type DebianMachine, startDebianMachine } from "../rig/debian-rig.ts";
import { enrolDebian } from "../rig/enrolled-debian.ts";
import { untilAgent } from "../rig/guest-agent.ts";
import { ReferenceSnapshots } from "../rig/reference-snapshots.ts";
import { type ListedPoint, comparePoint, listedPoints } from "../rig/repository-points.ts";
import { RIG_ERRORS } from "../rig/rig-errors.ts";
import { Site } from "../rig/site.ts";
import type { Scenario, ScenarioContext } from "../scenario.ts";

const ITEM = "uefi01";
const POINT_INTERVAL_SECONDS = 15;
const REPLICATED_MS_MAX = 9 * MINUTE_MS;
const POINT_MS_MAX = 3 * MINUTE_MS;
const ANSWER_MS_MAX = 5 * MINUTE_MS;
const KERNEL_NAMES: Readonly<Record<string, string>> = { root: "vda", data: "vdb" };
const BEAT = "/boot/efi/beat";
const PAGE = "/cgi-bin/firmware";

/** Says by what the machine was started, and what its EFI system partition holds. */
const PAGE_SCRIPT = `#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
[ -d /sys/firmware/efi ] && echo "firmware uefi" || echo "firmware bios"
echo "beat $(cat ${BEAT})"
echo "swap areas $(tail -n +2 /proc/swaps | wc -l)"
`;

/** The machine has memory enough: nothing is swapped, so the file has the same content in every copy. */
const SWAPPING = [
  "echo 0 >/proc/sys/vm/swappiness",
  "dd if=/dev/zero of=/swapfile bs=1M count=64 status=none",
  "chmod 600 /swapfile",
  "mkswap -q /swapfile",
  "swapon /swapfile",
  "echo '/swapfile none swap sw 0 0' >>/etc/fstab",
].join(" && ");

/** Keeps the vfat file system, which cannot be frozen, in use. */
const BEATING = `(n=0; while :; do n=$((n + 1)); echo $n >${BEAT}; sync ${BEAT}; sleep 1; done) >/dev/null 2>&1 </dev/null &`;

/** A machine with GPT and EFI system partition is protected, and its replica is started by UEFI. */
export const uefi: Scenario = {
  name: "uefi",
  summary:
    "a Debian machine with GPT and a vfat EFI system partition in use: its replica boots by UEFI",
  async run(context) {
    const { folder, narrator, signal, check } = context;
    await using site = await narrator.step("starting the site with its vault", async () =>
      Site.start(await folder.folder("site"), signal, { withVault: true }),
    );
    const directory = await folder.folder("source");
    await using source = await startDebianMachine({
      directory,
      firmware: "uefi",
      narrator,
      signal,
    });
    const { shell } = source.machine;
    await shell.writeFile(`/srv/www${PAGE}`, Buffer.from(PAGE_SCRIPT), "755");
    await shell.must(SWAPPING);
    await shell.must(BEATING);
    using references = await ReferenceSnapshots.attach(source.machine, DEBIAN_DISKS, narrator);
    const point = await protectedPoint(context, { site, source, references });
    await using failover = await startTestFailover({ site, item: ITEM, point: point.cut, signal });
    const begin = performance.now();
    const page = await firstPage(failover, PAGE, ANSWER_MS_MAX, signal);
    context.figure("secondsToFirstAnswer", Math.round((performance.now() - begin) / 100) / 10);
    check("the replica was started by UEFI", /^firmware uefi$/m.test(page), page.trim());
    const beat = beatOf(page);
    const now = beatOf(await source.page(PAGE, signal));
    check(
      "its EFI system partition is that of the point",
      beat > 0 && beat < now,
      `the source had written ${now} times by now, the replica has number ${beat}`,
    );
    check("its swap file is in use", /^swap areas 1$/m.test(page), page.trim());
    await exactDisks(context, site, { point, references });
  },
};

/** Protects the machine and waits for a point of which the rig knows what was frozen. */
async function protectedPoint(
  context: ScenarioContext,
  parts: {
    readonly site: Site;
    readonly source: DebianMachine;
    readonly references: ReferenceSnapshots;
  },
): Promise<ListedPoint> {
  const { narrator, signal } = context;
  const { site, source, references } = parts;
  await enrolDebian(source.machine, site, { name: ITEM, hasHook: true });
  const machineId = await enableReplication(site, {
    item: ITEM,
    pointIntervalSeconds: POINT_INTERVAL_SECONDS,
    narrator,
    signal,
  });
  await narrator.step("initial replication", () =>
    untilAgent(source.machine.shell, {
      statusFile: "/run/osr/status.json",
      logCommand: DEBIAN_AGENT_LOG,
      what: "the initial replication",
      timeoutMs: REPLICATED_MS_MAX,
      signal,
      done: ({ state }) => state === "protected",
    }),
  );
  return narrator.step("waiting for a recovery point", async () => {
    for (const end = performance.now() + POINT_MS_MAX; performance.now() < end;) {
      const points = await listedPoints(site, machineId, signal);
      const point = points.findLast(
        ({ cut, offered }) => offered === "yes" && references.cutIds.includes(cut),
      );
      if (point !== undefined) return point;
      await wait(SECOND_MS, undefined, { signal });
    }
    const status = await source.machine.shell.run("cat /run/osr/status.json");
    throw new OsrError(RIG_ERRORS.RIG_TIMEOUT, `no recovery point came\n${status.output}`);
  });
}

async function exactDisks(
  { folder, signal, check }: ScenarioContext,
  site: Site,
  { point, references }: { readonly point: ListedPoint; readonly references: ReferenceSnapshots },
): Promise<void> {
  const comparisons = await comparePoint(site, point, await references.of(point.cut, signal), {
    kernelNameOf: (disk) => must(KERNEL_NAMES[disk], `disk ${disk} has a kernel name`),
    directory: await folder.folder("points"),
    signal,
  });
  const equal = comparisons.filter((each) => each.frozenSha256 === each.materialisedSha256);
  check(
    "every disk of the point is byte-exact",
    comparisons.length === DEBIAN_DISKS.length && equal.length === comparisons.length,
    `${equal.length} of ${comparisons.length} equal`,
  );
}

function beatOf(page: string): number {
  return Number(/^beat (\d+)$/m.exec(page)?.[1] ?? 0);
}
