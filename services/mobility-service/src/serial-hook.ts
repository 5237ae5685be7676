import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";

import { systemErrorCode } from "@osr/base/errors";
import type { Uuid } from "@osr/base/uuid";

export interface SerialHook extends Disposable {
  readonly beforeThaw: (cutId: Uuid) => void;
}

/**
 * The before-thaw hook of tests: while the machine is frozen it writes the line `{"frozen": "<cutId>"}` to a serial device
 * and waits, blocking, for one byte. Whoever is at the other end compares disks meanwhile.
 */
export function openSerialHook(device: string): SerialHook {
  const fd = openSync(device, constants.O_RDWR | constants.O_NOCTTY);
  const pending = openSync(device, constants.O_RDONLY | constants.O_NOCTTY | constants.O_NONBLOCK);
  const byte = Buffer.alloc(1);
  return {
    beforeThaw(cutId) {
      // An answer to an agent that was killed is none to this one.
      discard(pending);
      writeSync(fd, `{"frozen": "${cutId}"}\n`);
      if (readSync(fd, byte, 0, 1, null) === 0)
        throw new Error(`nobody is at the other end of ${device}`);
    },
    [Symbol.dispose]: () => {
      closeSync(pending);
      closeSync(fd);
    },
  };
}

function discard(fd: number): void {
  const bytes = Buffer.alloc(64);
  try {
    while (readSync(fd, bytes, 0, bytes.length, null) > 0);
  } catch (error) {
    if (systemErrorCode(error) !== "EAGAIN") throw error;
  }
}
