import { defineErrors } from "@osr/base/errors";

/** Why a point was missed, where that is no error of its own. */
export const MISSED_REASONS = defineErrors({
  LATE: {
    retryable: true,
    hint: "A point came after the next one was due. Nothing is to be done unless it happens often.",
  },
  CATCHING_UP: {
    retryable: true,
    hint: "So much has changed that it is copied first. If it happens often, the disks are written to faster than they can be read and sent.",
  },
  NOT_CONVERGING: {
    retryable: true,
    hint: "The disks are written to faster than they can be read and sent, or a sync takes long. Look for slow disks, a slow link, or programs that write very much.",
  },
  NOT_QUIET: {
    retryable: true,
    hint: "Something wrote to the disks while their file systems were frozen: programs that write past file systems, or file systems that cannot be frozen.",
  },
  FREEZE_FAILED: {
    retryable: true,
    hint: "A file system could not be frozen in time. Look at the message, the kernel's log and the load of the disks.",
  },
});

/** What stops recovery points or replication at the agent. The codes are also those of its health errors. */
export const MOBILITY_ERRORS = defineErrors({
  SESSION_LOST: {
    retryable: true,
    hint: "The mobility service opens a new session by itself; what was not vaulted is sent again.",
  },
  LOG_FENCED: {
    retryable: false,
    hint: "Another owner has this disk's log, as after a failover. This machine must not replicate it any more: power it off, or reprotect it.",
  },
  MACHINE_IS_REPLICA: {
    retryable: false,
    hint: "This machine is a copy of the one that was enrolled, such as a failed-over one: nothing of it is tracked, frozen or sent. To protect it as a machine of its own, enrol it again.",
  },
  LOG_REWOUND: {
    retryable: true,
    hint: "The storage account does not hold all that it had acknowledged: its newest objects were lost or damaged. The disk is compared with what it holds, then points go on by themselves. Run osr repository verify.",
  },
  PROCESS_SERVER_MOVED: {
    retryable: true,
    hint: "The machine uses another process server from now on; what was not vaulted is sent again.",
  },
  TRACKING_LOST: {
    retryable: true,
    hint: "The kernel dropped trace events, so changes may be unknown. The disks are compared with what the storage account holds, then points go on by themselves.",
  },
  TRACKING_MISMATCH: {
    retryable: true,
    hint: "The kernel counted other writes than were traced. The disk is compared with what the storage account holds, then points go on by themselves. If it happens again and again, look for programs that write past the block layer.",
  },
  AGENT_RESTARTED: {
    retryable: true,
    hint: "What changed while the mobility service did not run is found by comparing the disk; points go on by themselves.",
  },
  MACHINE_REBOOTED: {
    retryable: true,
    hint: "What changed since the machine went down is found by comparing the disk; points go on by themselves.",
  },
  DISK_RESIZED: {
    retryable: true,
    hint: "The disk is not as large as when it was enrolled. It is compared with what the storage account holds; points go on by themselves.",
  },
  DISK_CHANGED: {
    retryable: true,
    hint: "The disk was detached for a while, has another size, or other areas of swap. It is compared with what the storage account holds; points go on by themselves.",
  },
  DISK_VANISHED: {
    retryable: false,
    hint: "The machine has this disk no more, so there are no points of all its disks; the others are replicated. Attach it again; if it is gone for good, restart the mobility service: points are then made of the disks that are there.",
  },
  SWAP_CHANGED: {
    retryable: true,
    hint: "Areas of swap came into use or went out of it while the point was made. The next attempt is made by itself.",
  },
  RESYNC_REQUESTED: {
    retryable: true,
    hint: "Somebody asked for it. The disk is compared with what the storage account holds; points go on by themselves.",
  },
  COMPARISON_GONE: {
    retryable: true,
    hint: "The mobility service begins the comparison of the disk again by itself.",
  },
  COMPARISON_FAILED: {
    retryable: false,
    hint: "The log of the disk cannot be read; all of the disk is copied anew. Check the storage account (osr repository verify).",
  },
  TRACKING_UNTRUSTED: {
    retryable: false,
    hint: "Writes of this disk cannot be followed reliably on this kernel. Run osr doctor; points are not made meanwhile.",
  },
  DISK_UNREADABLE: {
    retryable: true,
    hint: "Check the disk's health and the kernel's log; points are made again once all of it can be read.",
  },
  PROCESS_SERVER_UNREACHABLE: {
    retryable: true,
    hint: "Check that the process server runs and that this machine reaches its port; changes are collected meanwhile.",
  },
  SESSION_REFUSED: {
    retryable: true,
    hint: "The process server does not take this machine. Look at the message; enrolment, certificate or versions do not fit.",
  },
  POINT_MISSED: {
    retryable: true,
    hint: "The next attempt is made by itself. If it happens often, the disks are written to faster than they can be read and sent, or a writer bypasses the file systems.",
  },
  FREEZE_LONG: {
    retryable: true,
    hint: "A thaw waits behind a freeze that is still syncing. Look for slow disks and for programs that write very much at once; the point itself is good.",
  },
  CLOCK_SKEWED: {
    retryable: true,
    hint: "Synchronise the clocks of both machines (such as with chrony). Replication does not depend on them, the times of recovery points and certificates do.",
  },
  CERTIFICATE_EXPIRING: {
    retryable: false,
    hint: "Enrol the machine again (osr mobility-service enrol) before its certificate ends.",
  },
  CERTIFICATE_EXPIRED: {
    retryable: false,
    hint: "Enrol the machine again (osr mobility-service enrol); changes are collected meanwhile. If it should still be valid, compare the clocks.",
  },
  APP_SCRIPT_FAILED: {
    retryable: true,
    hint: "The point is crash-consistent instead of app-consistent. Run the script by hand and look at its messages.",
  },
});
