import { defineErrors } from "@osr/base/errors";

/** What the configuration server answers or reports by itself: docs/formats/site-protocol.md. */
export const CONFIGURATION_SERVER_ERRORS = defineErrors({
  CERTIFICATE_REQUIRED: {
    retryable: false,
    hint: "Enrol with the configuration server, so that a certificate of its site names the role.",
  },
  CERTIFICATE_REVOKED: {
    retryable: false,
    hint: "An administrator has revoked this role. Enrol it again with a new token, if it is to come back.",
  },
  ROLE_FORBIDDEN: { retryable: false, hint: "The certificate's role has no such request." },
  NOT_FOUND: { retryable: false, hint: "Check the address; see docs/formats/site-protocol.md." },
  ENROLMENT_REFUSED: {
    retryable: false,
    hint: "Check the token or the passphrase; make a new token with `osr configuration-server token create`.",
  },
  ENROLMENT_ADDRESS_INVALID: {
    retryable: false,
    hint: "Name the addresses under which the role is reached: DNS names or IP addresses, at most 32.",
  },
  ENROLMENT_THROTTLED: {
    retryable: true,
    hint: "Too many wrong proofs came. Wait, then enrol with the right token or passphrase.",
  },
  TOKEN_EXPIRED: {
    retryable: false,
    hint: "Make a new token with `osr configuration-server token create`.",
  },
  TOKEN_USED: {
    retryable: false,
    hint: "A token is for one role, once. Make a new one with `osr configuration-server token create`.",
  },
  MACHINE_UNREGISTERED: {
    retryable: false,
    hint: "The agent registers its machine and reports again, by itself: this configuration server has taken over.",
  },
  MACHINES_TOO_MANY: {
    retryable: false,
    hint: "A fabric has at most 1000 machines; register another configuration server for further ones.",
  },
  SITE_SECRET_INVALID: {
    retryable: false,
    hint: "The file must hold the 64 hexadecimal digits that were made for this site. Restore it from its copy.",
  },
  STATE_FOREIGN: {
    retryable: false,
    hint: "The state was sealed with another site secret. Restore the secret, or move the state folder away: it is built anew from what the roles and the vault tell.",
  },
  STATE_TOO_NEW: {
    retryable: false,
    hint: "The state was written by a newer version; install that one, or move the state folder away.",
  },
  BACKUP_INVALID: {
    retryable: false,
    hint: "Take the file that `osr configuration-server backup` wrote.",
  },
  CREDENTIALS_EXPIRED: {
    retryable: false,
    hint: "Make new vault credentials at the vault and register again.",
  },
  FABRIC_UNREGISTERED: {
    retryable: false,
    hint: "Register with `osr configuration-server register --credentials FILE`.",
  },
  VAULT_UNREACHABLE: {
    retryable: true,
    hint: "Replication and recovery points go on. Check the network and the proxy between this configuration server and the vault.",
  },
  GATEWAY_SILENT: {
    retryable: true,
    hint: "Check that it runs and reaches the configuration server. Its machines are moved to another process server where there is one.",
  },
  CPU_WARNING: { retryable: true, hint: "Add a process server, or give this one more CPU." },
  CPU_CRITICAL: { retryable: true, hint: "Add a process server, or give this one more CPU." },
  MEMORY_WARNING: { retryable: true, hint: "Add a process server, or give this one more memory." },
  MEMORY_CRITICAL: { retryable: true, hint: "Add a process server, or give this one more memory." },
  CACHE_WARNING: {
    retryable: true,
    hint: "Check the link to the storage account, or enlarge the cache.",
  },
  CACHE_CRITICAL: {
    retryable: true,
    hint: "Check the link to the storage account, or enlarge the cache.",
  },
  CERTIFICATE_EXPIRES: {
    retryable: true,
    hint: "Certificates are renewed ten days before they expire; look at the log of the role for the reason that this one was not.",
  },
  NO_PROCESS_SERVER: {
    retryable: true,
    hint: "Start a process server, or repair one: a critical one takes no new machines.",
  },
  SHUT_DOWN_UNCONFIRMED: {
    retryable: true,
    hint: "Look whether the machine is off, and power it off by hand; its log is fenced in any case.",
  },
  ORDER_INVALID: {
    retryable: false,
    hint: "Compare the versions of vault and configuration server.",
  },
});

/** HTTP status of each code that a request can end with. */
export const CONFIGURATION_SERVER_STATUS: Readonly<Record<string, number>> = {
  REQUEST_INVALID: 400,
  ENROLMENT_ADDRESS_INVALID: 400,
  CERTIFICATE_REQUIRED: 401,
  ENROLMENT_REFUSED: 401,
  CERTIFICATE_REVOKED: 403,
  ROLE_FORBIDDEN: 403,
  TOKEN_EXPIRED: 403,
  TOKEN_USED: 403,
  NOT_FOUND: 404,
  MACHINE_UNREGISTERED: 409,
  MACHINES_TOO_MANY: 409,
  ENROLMENT_THROTTLED: 429,
};
