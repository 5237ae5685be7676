import { defineErrors } from "@osr/base/errors";

export const POSTGRES_ERRORS = defineErrors({
  POSTGRES_NOT_FOUND: {
    retryable: false,
    hint: "Install PostgreSQL (Debian: apt-get install postgresql), run npm ci on Linux x64, or give the address of a server (DATABASE_URL).",
  },
  POSTGRES_VERSION: {
    retryable: false,
    hint: "The data was made by another major version of PostgreSQL. Install that version, or carry the data over as HACKING.md says.",
  },
  POSTGRES_DIRECTORY: {
    retryable: false,
    hint: "PostgreSQL's folder must be on a local file system that its user can write.",
  },
  POSTGRES_START: {
    retryable: false,
    hint: "Look at PostgreSQL's own lines in the log above; disk space and file permissions are the usual reasons.",
  },
});
