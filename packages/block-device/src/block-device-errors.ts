import { defineErrors } from "@osr/base/errors";

/** Everything that can go wrong with the disks of a machine. */
export const BLOCK_DEVICE_ERRORS = defineErrors({
  DISK_UNREADABLE: {
    retryable: false,
    hint: "The disk cannot read this block. Check the disk's health; recovery points of the machine are not made until it reads again.",
  },
  TRACEFS_UNAVAILABLE: {
    retryable: false,
    hint: "Change tracking needs root and a kernel with CONFIG_BLK_DEV_IO_TRACE or CONFIG_EVENT_TRACING (tracefs at /sys/kernel/tracing).",
  },
  TRACE_FORMAT_UNKNOWN: {
    retryable: false,
    hint: "This kernel describes its block trace events in an unknown way. Please report the kernel version.",
  },
  KERNEL_TYPES_UNKNOWN: {
    retryable: false,
    hint: "Tracking by a program in the kernel needs one with CONFIG_DEBUG_INFO_BTF. Changes are tracked by trace events instead, which costs those who write more.",
  },
  BPF_UNAVAILABLE: {
    retryable: false,
    hint: "Tracking by a program in the kernel needs root, Linux 5.17 or newer and a kernel that is not locked down. Changes are tracked by trace events instead, which costs those who write more.",
  },
  BPF_PROGRAM_REFUSED: {
    retryable: false,
    hint: "This kernel does not accept our program. Please report the kernel version and the message. Changes are tracked by trace events instead.",
  },
  TRACKER_BUSY: {
    retryable: true,
    hint: "Another process tracks changes under the same name. Stop the other mobility service first.",
  },
  FFI_UNAVAILABLE: {
    retryable: false,
    hint: "Start Node with --experimental-ffi (Node 26.10 has it on unless told otherwise): freezing file systems needs system calls that Node has no function for.",
  },
  MEMORY_UNAVAILABLE: {
    retryable: false,
    hint: "Put the status file into a tmpfs, such as /run/osr: without one, each restart of the mobility service compares the disks.",
  },
  FREEZE_UNAVAILABLE: {
    retryable: false,
    hint: "Install util-linux and coreutils: freezing needs sh, fsfreeze, timeout and sync.",
  },
  FREEZE_BUSY: {
    retryable: true,
    hint: "Somebody else froze this file system. Thaw it (fsfreeze --unfreeze), or wait for the other backup to end.",
  },
  FREEZE_REFUSED: {
    retryable: true,
    hint: "The kernel refused to freeze the file system. See the errno and the kernel's log.",
  },
  FREEZE_OVERSHOT: {
    retryable: true,
    hint: "Freezing took longer than its limit; everything was thawed. Less dirty data or a longer limit helps.",
  },
  FREEZE_GUARD_GONE: {
    retryable: true,
    hint: "The guard that would thaw after a crash is not armed any more. Sync again, then freeze.",
  },
  FREEZE_GUARD_THAWED: {
    retryable: true,
    hint: "The guard thawed first, since the freeze lasted longer than its limit. The recovery point is void; make another.",
  },
  FREEZE_THAW_FAILED: {
    retryable: false,
    hint: "The kernel refused to thaw a file system. Run fsfreeze --unfreeze on its mount point.",
  },
  SYNC_FAILED: {
    retryable: true,
    hint: "A file system could not be synced. See the kernel's log for its disk.",
  },
});
