import { defineErrors } from "@osr/base/errors";

/** What can be wrong with objects in the storage account. Damage is always an error, never zeros or old data. */
export const REPOSITORY_ERRORS = defineErrors({
  FORMAT_UNKNOWN: {
    retryable: false,
    hint: "The object was not written by Open Site Recovery or its first bytes are lost; run `osr repository verify`.",
  },
  FORMAT_NEWER: {
    retryable: false,
    hint: "The object was written by a newer release; use that release or a later one.",
  },
  OBJECT_DAMAGED: {
    retryable: false,
    hint: "The bytes differ from what was written; run `osr repository verify` and use another recovery point or a replica of the storage account.",
  },
  OBJECT_MISPLACED: {
    retryable: false,
    hint: "The object belongs to another disk, timeline or position; somebody has moved or swapped it. Run `osr repository verify`.",
  },
  FRAME_DAMAGED: {
    retryable: false,
    hint: "A data frame differs from what was written; run `osr repository verify` and use another recovery point or a replica of the storage account.",
  },
  FRAME_UNAUTHENTIC: {
    retryable: false,
    hint: "The frame is whole but does not open with this data key: check that the vault key belongs to this vault, then run `osr repository verify`.",
  },
  INDEX_DAMAGED: {
    retryable: false,
    hint: "The index of a segment is not valid; run `osr repository verify`.",
  },
  INDEX_UNAUTHENTIC: {
    retryable: false,
    hint: "The index does not open with this data key: check that the vault key belongs to this vault, then run `osr repository verify`.",
  },
  KEY_UNAUTHENTIC: {
    retryable: false,
    hint: "The wrapped key does not open: check that the vault key file belongs to this vault and that the object was not changed.",
  },
  KEY_INVALID: {
    retryable: false,
    hint: "The wrapped key object is not valid; restore it from a replica of the storage account.",
  },
  KEY_VERSION_UNKNOWN: {
    retryable: false,
    hint: "Read the data key of that version from the storage account.",
  },
  LOG_BROKEN: {
    retryable: false,
    hint: "Segments of the log are missing or do not follow one another; run `osr repository verify`.",
  },
  LOG_FENCED: {
    retryable: false,
    hint: "Another owner has the log of this disk; stop replicating it from here or claim it again.",
  },
  LOG_TAMPERED: {
    retryable: false,
    hint: "Somebody without the keys wrote into the log. Replication goes on in a child timeline by itself. Check who has credentials for the storage account and run `osr repository verify`.",
  },
  GRANT_INVALID: {
    retryable: false,
    hint: "The machine has failed over, and this grant does not permit a claim of its log: it is for another log or generation, or was not signed by this vault. Ask the vault for a new one.",
  },
  POINT_INVALID: {
    retryable: false,
    hint: "The recovery point is not what was signed; use another one and run `osr repository verify`.",
  },
  POINT_DISK_UNKNOWN: {
    retryable: false,
    hint: "List the recovery points to see which disks each of them holds.",
  },
  SLOT_TAKEN: {
    retryable: false,
    hint: "Another cut has this slot; the next cut takes the next slot.",
  },
  DESCRIPTOR_INVALID: {
    retryable: false,
    hint: "The disk descriptor is not what was written; run `osr repository verify`.",
  },
  OBJECT_UNKNOWN: {
    retryable: false,
    hint: "No part of Open Site Recovery writes such a name. Find out who did; readers pass it over.",
  },
  SEALED_STATE_INVALID: {
    retryable: false,
    hint: "The sealed state does not open under this vault key, or was changed. Check that it is the key of this vault.",
  },
  SEALED_STATE_BROKEN: {
    retryable: false,
    hint: "An object of the sealed state is missing or out of place. Find out who has deleted in the storage account; restore its folder from a copy.",
  },
  OUTPUT_EXISTS: {
    retryable: false,
    hint: "Name another file, or remove the one that is there.",
  },
  OUTPUT_TOO_SMALL: {
    retryable: false,
    hint: "Choose a device that is at least as large as the disk.",
  },
});
