import { startAgain } from "@osr/base/platform/start-again";
import { MIB } from "@osr/base/units";

/**
 * Of glibc: memory of batches and frames comes from the heap, and 64 MiB of it that are free stay. By itself glibc gives the
 * memory of each batch back and takes it anew, and every page costs a fault: 195,000 of them in a first copy of 2 GiB.
 * Measured, encoding 128 batches: 0.23 CPU seconds and hardly a fault instead of 0.27 and 5,000 to 17,000.
 */
const ENVIRONMENT = {
  MALLOC_MMAP_THRESHOLD_: String(8 * MIB),
  MALLOC_TRIM_THRESHOLD_: String(64 * MIB),
};

/** Returns at once where this process was started with such settings; else becomes one that was. */
export function keepFreedMemory(): void {
  const isLinux = process.platform === "linux";
  const isSet = Object.keys(ENVIRONMENT).every((name) => process.env[name] !== undefined);
  if (isLinux && !isSet) startAgain(process.execArgv, ENVIRONMENT);
}
