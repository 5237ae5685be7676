import { GIB, MIB } from "@osr/base/units";

/** How much data a run uses. Goals are meant for the full scale. */
export type Scale = {
  readonly isSmall: boolean;
  /** The disk of most suites: an ext4 file system with real files and random data; the rest is zeros. */
  readonly diskBytes: number;
  readonly fileBytes: number;
  readonly randomBytes: number;
  /** A disk with the same content at its start, and nothing behind it. */
  readonly largeDiskBytes: number;
  /** Of the change sets' writes. */
  readonly changeScale: number;
  /** Runs of what is repeated. */
  readonly runs: number;
  /** At the most: there are fewer where the interval is narrow before. */
  readonly trackingPairs: number;
  readonly freezePoints: number;
  readonly randomReads: number;
  /** Of the vault. */
  readonly protectedItems: number;
  readonly settleMs: number;
  readonly statusWindowMs: number;
  readonly apiRequests: number;
};

export const FULL_SCALE: Scale = {
  isSmall: false,
  diskBytes: 2 * GIB,
  fileBytes: 0.94 * GIB,
  randomBytes: 128 * MIB,
  largeDiskBytes: 64 * GIB,
  changeScale: 1,
  runs: 3,
  trackingPairs: 400,
  freezePoints: 50,
  randomReads: 1000,
  protectedItems: 1000,
  settleMs: 20_000,
  statusWindowMs: 90_000,
  apiRequests: 2000,
};

/** For a quick look and for development: minutes become seconds, and goals about speed mean little. */
export const SMALL_SCALE: Scale = {
  isSmall: true,
  diskBytes: 128 * MIB,
  fileBytes: 56 * MIB,
  randomBytes: 8 * MIB,
  largeDiskBytes: 4 * GIB,
  changeScale: 1 / 16,
  runs: 1,
  trackingPairs: 40,
  freezePoints: 8,
  randomReads: 300,
  protectedItems: 100,
  settleMs: 5000,
  statusWindowMs: 30_000,
  apiRequests: 400,
};
