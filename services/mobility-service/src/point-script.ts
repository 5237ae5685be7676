import { execFile } from "node:child_process";

import { SECOND_MS } from "@osr/base/units";
import type { PointScripts } from "@osr/mobility-service/cut";

import type { Scripts } from "./configuration.ts";

const OUTPUT_BYTES_MAX = 64 * 1024;

/** Scripts around a cut: run as they are, without a shell of ours, killed at their time limit. */
export function pointScripts(scripts: Scripts): PointScripts {
  const timeoutMs = scripts.seconds * SECOND_MS;
  return {
    pre: (signal) => run(scripts.preScript, timeoutMs, signal),
    post: () => run(scripts.postScript, timeoutMs),
  };
}

function run(file: string, timeoutMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const options = {
      timeout: timeoutMs,
      killSignal: "SIGKILL" as const,
      maxBuffer: OUTPUT_BYTES_MAX,
      ...(signal === undefined ? {} : { signal }),
    };
    execFile(file, [], options, (error, _output, errors) => {
      if (error === null) return resolve();
      const said = errors.trim().slice(-1000);
      reject(new Error(`${file}: ${error.message}${said === "" ? "" : `: ${said}`}`));
    });
  });
}
