import type { Suite } from "./suite.ts";
import { api } from "./suites/api.ts";
import { boot } from "./suites/boot.ts";
import { delta } from "./suites/delta.ts";
import { firstCopy } from "./suites/first-copy.ts";
import { freeze } from "./suites/freeze.ts";
import { memory } from "./suites/memory.ts";
import { restore } from "./suites/restore.ts";
import { tracking } from "./suites/tracking.ts";

/** In the order of a run of all: memory last, since it tells of all others. */
export const SUITES: readonly Suite[] = [
  firstCopy,
  delta,
  restore,
  boot,
  tracking,
  freeze,
  api,
  memory,
];
