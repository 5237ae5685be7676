import { migration0001 } from "./migrations/0001-core.ts";
import { migration0002 } from "./migrations/0002-fabrics.ts";
import { migration0003 } from "./migrations/0003-jobs.ts";
import { migration0004 } from "./migrations/0004-access.ts";
import { migration0005 } from "./migrations/0005-sealing.ts";
import { migration0006 } from "./migrations/0006-items.ts";
import { migration0007 } from "./migrations/0007-failover-checks.ts";
import { migration0008 } from "./migrations/0008-silences.ts";
import { migration0009 } from "./migrations/0009-point-listings.ts";
import { migration0010 } from "./migrations/0010-replica-machines.ts";
import { migration0011 } from "./migrations/0011-rpo-samples.ts";

export type Migration = { readonly number: number; readonly sql: string };

/** In the order in which they run. What has been released never changes; a database refuses one that did. */
export const MIGRATIONS: readonly Migration[] = [
  { number: 1, sql: migration0001 },
  { number: 2, sql: migration0002 },
  { number: 3, sql: migration0003 },
  { number: 4, sql: migration0004 },
  { number: 5, sql: migration0005 },
  { number: 6, sql: migration0006 },
  { number: 7, sql: migration0007 },
  { number: 8, sql: migration0008 },
  { number: 9, sql: migration0009 },
  { number: 10, sql: migration0010 },
  { number: 11, sql: migration0011 },
];
