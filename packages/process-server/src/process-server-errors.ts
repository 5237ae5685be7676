import { defineErrors } from "@osr/base/errors";
import { AGENT_PROTOCOL_STATUS } from "@osr/contracts/agent-protocol";

/** What the process server answers or reports by itself; the codes of the protocol are in docs/formats/agent-protocol.md. */
export const PROCESS_SERVER_ERRORS = defineErrors({
  CERTIFICATE_REQUIRED: {
    retryable: false,
    hint: "Enrol the machine again, so that its certificate names it as mobility service.",
  },
  INPUT_INVALID: { retryable: false, hint: "Correct the named field and send the request again." },
  LENGTH_REQUIRED: { retryable: false, hint: "Send batches with a Content-Length." },
  DISK_FOREIGN: {
    retryable: false,
    hint: "A machine may write only the disks that its session was granted. Open a session that lists the disk.",
  },
  MACHINE_IS_REPLICA: {
    retryable: false,
    hint: "The machine is a copy of the one that was enrolled, such as a failed-over one. Enrol it again to protect it as a machine of its own.",
  },
  NOT_FOUND: { retryable: false, hint: "Check the address; see docs/formats/agent-protocol.md." },
  SESSION_REPLACED: {
    retryable: false,
    hint: "Open a new session with a higher epoch. If it happens again and again, two agents run with one identity.",
  },
  EPOCH_STALE: {
    retryable: false,
    hint: "Open a session with an epoch above `newestEpoch` of the details.",
  },
  RECORDS_OUT_OF_ORDER: {
    retryable: false,
    hint: "Send again from the record that the details name.",
  },
  COMPARISON_GONE: {
    retryable: false,
    hint: "Begin the comparison of the disk again; what was compared at the same head still counts.",
  },
  COMPARISON_FAILED: {
    retryable: false,
    hint: "The log of the disk cannot be read; the agent copies all of the disk anew. Check the storage account (osr repository verify).",
  },
  COMPARISON_NOT_READY: {
    retryable: true,
    hint: "What is spooled is uploaded first, and few disks are compared at once. Ask again.",
  },
  CACHE_FULL: {
    retryable: true,
    hint: "The cache drains as data is uploaded. If it stays full, check the link to the storage account or enlarge the cache.",
  },
  STOPPING: { retryable: true, hint: "The process server is stopping; try again when it is back." },
  SPOOL_FAILED: {
    retryable: true,
    hint: "The cache disk of the process server reports errors; look at its kernel log and replace it if they go on.",
  },
  SPOOL_DAMAGED: {
    retryable: false,
    hint: "A file of the cache is not what was written. The disk is replicated again from what the storage account holds.",
  },
  SPOOL_IN_USE: {
    retryable: false,
    hint: "Another process server uses this cache folder. Stop it or choose another folder.",
  },
  UPLOAD_STALLED: {
    retryable: true,
    hint: "The storage account took no data for a while; the upload is tried again. Check the network.",
  },
  ENCODER_FAILED: { retryable: true, hint: "The batch is refused and sent again by the agent." },
});

/** HTTP status of each code that a request can end with. */
export const PROCESS_SERVER_STATUS: Readonly<Record<string, number>> = {
  ...AGENT_PROTOCOL_STATUS,
  LENGTH_REQUIRED: 411,
  LOG_TAMPERED: 409,
  LOG_BROKEN: 409,
  KEY_UNAUTHENTIC: 409,
  KEY_INVALID: 409,
  FORMAT_NEWER: 409,
  GRANT_INVALID: 409,
  SPOOL_DAMAGED: 500,
  SPOOL_FAILED: 503,
  ENCODER_FAILED: 503,
  MACHINE_NOT_ASSIGNED: 503,
  DISK_NOT_ASSIGNED: 503,
  STORE_UNAVAILABLE: 503,
  STORE_FULL: 503,
  STORE_FORBIDDEN: 503,
};
