import fs from "node:fs";

import { assert } from "@osr/base/assert";
import type { Clock } from "@osr/base/clock";
import { OsrError, messageOf } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";

import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";
import { ExpeditedRcu } from "./expedited-rcu.ts";
import { type StackedFileSystem, fileSystemsOnDisks } from "./file-system-stack.ts";
import { FreezeGuard } from "./freeze-guard.ts";
import type { FreezeReport, Freezer, MountedFileSystem, PreparedFreeze } from "./freezer.ts";
import { EBUSY, EINVAL, ENOTTY, EOPNOTSUPP, type LinuxCalls, linuxCalls } from "./linux-calls.ts";
import { systemRoots } from "./system-roots.ts";

/** How long after its last sync or preparation a freeze is ended by the guard, unless told otherwise. */
export const GUARD_LIMIT_MS = 10 * SECOND_MS;

export type SystemFreezerOptions = {
  /** Counts from the last `prepare` or `sync`, whole seconds. */
  readonly guardLimitMs: number;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly log: Log;
};

/** Freezes with FIFREEZE from this process. Throws FFI_UNAVAILABLE; `prepare` throws FREEZE_UNAVAILABLE too. */
export function createSystemFreezer(options: SystemFreezerOptions): Freezer {
  const calls = linuxCalls();
  return {
    async prepare(disks) {
      const opened: OpenFileSystem[] = [];
      const rcu = new ExpeditedRcu();
      try {
        const devices = new Set(disks.map(({ major, minor }) => `${major}:${minor}`));
        for (const fileSystem of fileSystemsOnDisks(devices, systemRoots)) {
          const fd = openFileSystem(fileSystem, options.log);
          if (fd !== undefined) opened.push({ fileSystem, fd });
        }
        const fds = opened.map(({ fd }) => fd);
        const limitMs = options.guardLimitMs;
        const guard = await FreezeGuard.start(fds, { ...options, rcu, limitMs });
        return new SystemPreparedFreeze({ opened, guard, rcu, calls, clock: options.clock });
      } catch (error) {
        rcu[Symbol.dispose]();
        for (const { fd } of opened) fs.closeSync(fd);
        throw error;
      }
    },
  };
}

type OpenFileSystem = { readonly fileSystem: StackedFileSystem; readonly fd: number };

class SystemPreparedFreeze implements PreparedFreeze {
  readonly fileSystems: readonly MountedFileSystem[];
  readonly #opened: readonly OpenFileSystem[];
  readonly #guard: FreezeGuard;
  readonly #rcu: ExpeditedRcu;
  readonly #calls: LinuxCalls;
  readonly #clock: Clock;
  /** In the order of freezing. */
  readonly #frozen: OpenFileSystem[] = [];
  #released = false;

  constructor(parts: {
    readonly opened: readonly OpenFileSystem[];
    readonly guard: FreezeGuard;
    readonly rcu: ExpeditedRcu;
    readonly calls: LinuxCalls;
    readonly clock: Clock;
  }) {
    this.#opened = parts.opened;
    this.#guard = parts.guard;
    this.#rcu = parts.rcu;
    this.#calls = parts.calls;
    this.#clock = parts.clock;
    this.fileSystems = parts.opened.map(({ fileSystem }) => fileSystem);
  }

  async sync(signal: AbortSignal): Promise<number> {
    assert(this.#frozen.length === 0, "a sync of frozen file systems would wait for the thaw");
    return await this.#guard.sync(signal);
  }

  freeze(deadlineMonotonicMs: number): FreezeReport {
    assert(!this.#released && this.#frozen.length === 0, "freezes once before each thaw");
    if (this.#clock.monotonicMs() >= this.#guard.armedUntilMs)
      throw new OsrError(BLOCK_DEVICE_ERRORS.FREEZE_GUARD_GONE, "the guard's time limit is over");
    const synced: MountedFileSystem[] = [];
    this.#rcu.begin();
    try {
      for (const open of this.#opened) {
        this.#checkDeadline(deadlineMonotonicMs);
        if (this.#freezeOne(open)) this.#frozen.push(open);
        else synced.push(open.fileSystem);
      }
      this.#checkDeadline(deadlineMonotonicMs);
    } catch (error) {
      this.thaw();
      throw error;
    } finally {
      this.#rcu.end();
    }
    return { frozen: this.#frozen.map(({ fileSystem }) => fileSystem), synced };
  }

  /** False where the file system cannot be frozen and was synced instead. */
  #freezeOne({ fileSystem, fd }: OpenFileSystem): boolean {
    const errno = this.#calls.freeze(fd);
    if (errno === 0) return true;
    if (errno === EBUSY)
      throw new OsrError(
        BLOCK_DEVICE_ERRORS.FREEZE_BUSY,
        `${fileSystem.mountPoint} is frozen already`,
      );
    if (errno !== EOPNOTSUPP && errno !== ENOTTY)
      throw new OsrError(
        BLOCK_DEVICE_ERRORS.FREEZE_REFUSED,
        `${fileSystem.mountPoint} cannot be frozen: errno ${errno}`,
        { details: { errno } },
      );
    const syncErrno = this.#calls.syncFileSystem(fd);
    if (syncErrno === 0) return false;
    throw new OsrError(
      BLOCK_DEVICE_ERRORS.SYNC_FAILED,
      `${fileSystem.mountPoint} cannot be synced: errno ${syncErrno}`,
      { details: { errno: syncErrno } },
    );
  }

  #checkDeadline(deadlineMonotonicMs: number): void {
    const overMs = this.#clock.monotonicMs() - deadlineMonotonicMs;
    if (overMs > 0)
      throw new OsrError(
        BLOCK_DEVICE_ERRORS.FREEZE_OVERSHOT,
        `freezing ended ${overMs.toFixed(1)} ms after its limit`,
        { details: { overMs } },
      );
  }

  thaw(): void {
    let failure: OsrError | undefined;
    for (let open = this.#frozen.pop(); open !== undefined; open = this.#frozen.pop()) {
      const errno = this.#calls.thaw(open.fd);
      if (errno === 0) continue;
      const { mountPoint } = open.fileSystem;
      failure =
        errno === EINVAL
          ? new OsrError(
              BLOCK_DEVICE_ERRORS.FREEZE_GUARD_THAWED,
              `${mountPoint} was thawed before its time`,
            )
          : new OsrError(
              BLOCK_DEVICE_ERRORS.FREEZE_THAW_FAILED,
              `${mountPoint} cannot be thawed: errno ${errno}`,
              { details: { errno } },
            );
    }
    if (failure !== undefined) throw failure;
  }

  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    try {
      this.thaw();
    } finally {
      await this.#guard[Symbol.asyncDispose]();
      this.#rcu[Symbol.dispose]();
      for (const { fd } of this.#opened) fs.closeSync(fd);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }
}

/**
 * Opens a folder of a file system by the first path that leads there: a mount point can be hidden beneath another mount,
 * which the mount id of the open file tells. Undefined where none does: then the quiet window alone decides.
 */
function openFileSystem(fileSystem: StackedFileSystem, log: Log): number | undefined {
  const { O_RDONLY, O_NONBLOCK } = fs.constants;
  const failures: string[] = [];
  for (const { openPath, mountId } of fileSystem.paths) {
    try {
      const fd = fs.openSync(openPath, O_RDONLY | O_NONBLOCK);
      if (mountIdOf(fd) === mountId) return fd;
      fs.closeSync(fd);
      failures.push(`${openPath} is hidden beneath another mount`);
    } catch (error) {
      failures.push(messageOf(error));
    }
  }
  const { mountPoint, type } = fileSystem;
  log.warn("a file system cannot be opened and will not be frozen", { mountPoint, type, failures });
  return undefined;
}

function mountIdOf(fd: number): number | undefined {
  const text = fs.readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
  const id = /^mnt_id:\s*(\d+)$/m.exec(text)?.[1];
  return id === undefined ? undefined : Number(id);
}
