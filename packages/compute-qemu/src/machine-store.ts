import { mkdir, readdir } from "node:fs/promises";

import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError, systemErrorCode } from "@osr/base/errors";
import { type Uuid, isUuid } from "@osr/base/uuid";
import type { MachineSpec } from "@osr/compute/compute-provider";

import { COMPUTE_ERRORS } from "./compute-errors.ts";
import { type MachinePaths, machinePaths } from "./machine-paths.ts";
import { type MachineRecord, machineRecordShape } from "./machine-record.ts";
import { readStateFile, writeStateFile } from "./state-file.ts";

/** The records of all machines of a directory. Nothing is kept in memory: a successor sees the same. */
export class MachineStore {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  pathsOf(machineId: Uuid): MachinePaths {
    return machinePaths(this.#directory, machineId);
  }

  async read(machineId: Uuid): Promise<MachineRecord | undefined> {
    return readStateFile(this.pathsOf(machineId).record, machineRecordShape);
  }

  /** Throws MACHINE_UNKNOWN. */
  async demand(machineId: Uuid): Promise<MachineRecord> {
    const record = await this.read(machineId);
    if (record !== undefined) return record;
    throw new OsrError(COMPUTE_ERRORS.MACHINE_UNKNOWN, `there is no machine ${machineId}`);
  }

  async write(record: MachineRecord): Promise<void> {
    const paths = this.pathsOf(record.spec.machineId);
    await mkdir(paths.directory, { recursive: true, mode: 0o700 });
    await writeStateFile(paths.record, record);
  }

  async list(): Promise<readonly MachineRecord[]> {
    const records = [];
    for (const machineId of await this.#machineIds()) {
      const record = await this.read(machineId);
      if (record !== undefined) records.push(record);
    }
    return records;
  }

  async #machineIds(): Promise<readonly Uuid[]> {
    try {
      return (await readdir(this.#directory)).filter(isUuid);
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") return [];
      throw error;
    }
  }
}

/** True where two specifications are of the same machine, wherever its sources are. */
export function isSameMachine(a: MachineSpec, b: MachineSpec): boolean {
  const shape = (spec: MachineSpec): string =>
    canonicalJson({ ...spec, disks: spec.disks.map((disk) => ({ ...disk, source: undefined })) });
  return shape(a) === shape(b);
}
