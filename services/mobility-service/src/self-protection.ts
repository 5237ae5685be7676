import { defineErrors } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import type { Service } from "@osr/base/service";
import { SECOND_MS } from "@osr/base/units";
import { disksWithReplicatedData } from "@osr/block-device/disk-inventory";
import type { DiskInventory } from "@osr/block-device/protected-disk";
import type { HealthError } from "@osr/contracts/agent-protocol";

import type { OpenedDisk } from "@osr/mobility-service/disk-watch";

const { HOLDS_REPLICATED_DATA } = defineErrors({
  HOLDS_REPLICATED_DATA: {
    retryable: false,
    hint: "The disk would replicate what it receives, without end. Keep the storage account or the spool on a disk that is not protected.",
  },
});

/** A role of this machine may be started after the agent, with its folder on a disk that is protected by then. */
const CHECK_MS = 10 * SECOND_MS;

/** What the status says all the time of disks that are not protected because they hold replicated data. */
export function refusedDisks({ excluded }: DiskInventory): readonly HealthError[] {
  return excluded
    .filter(({ code }) => code === HOLDS_REPLICATED_DATA.code)
    .map(({ name, reason }) => ({
      code: HOLDS_REPLICATED_DATA.code,
      message: `${name} is not protected: ${reason}`,
      hint: HOLDS_REPLICATED_DATA.hint,
    }));
}

/** Ends the service as soon as one of its disks holds replicated data; started again, it leaves that disk out. */
export function watchForReplicatedData(
  disks: readonly Pick<OpenedDisk, "disk">[],
  service: Service,
  { log, scheduler }: { readonly log: Log; readonly scheduler: Scheduler },
): Disposable {
  let timer: Disposable;
  const check = (): void => {
    const holders = disksWithReplicatedData(disks.map(({ disk }) => disk));
    if (holders.length === 0) {
      timer = scheduler.after(CHECK_MS, check);
      return;
    }
    const { code, hint } = HOLDS_REPLICATED_DATA;
    log.error("a disk holds replicated data and cannot be protected any more", {
      code,
      hint,
      disks: holders,
    });
    void service.stop();
  };
  timer = scheduler.after(CHECK_MS, check);
  return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
}
