import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import { OsrError, defineErrors } from "@osr/base/errors";
import type { Uuid } from "@osr/base/uuid";
import type {
  ComputeProvider,
  MachineSpec,
  MachineState,
  MachineStatus,
  MoveProgress,
  NetworkSpec,
} from "@osr/compute/compute-provider";

const COPY_TIMEOUT_MS = 30_000;
const execute = promisify(execFile);

export const ERRORS = defineErrors({
  PLANTED: { retryable: false, hint: "A test wanted it." },
  NETWORK_IN_USE: { retryable: false, hint: "Destroy the machines first." },
  NO_ANSWER: { retryable: true, hint: "Ask again." },
});

type Machine = {
  readonly spec: MachineSpec;
  state: MachineState;
  /** SHA-256 of each disk as the machine read it when it started. */
  readonly read: Map<string, string>;
  readonly localDisks: string[];
};

/** Copies a whole export with nbdcopy and gives the SHA-256 of what came. */
export async function exportSha256(
  source: MachineSpec["disks"][number]["source"],
  directory: string,
): Promise<string> {
  const copy = join(directory, `copy-${source.exportName}.raw`);
  const uri = `nbd+unix:///${source.exportName}?socket=${source.unixSocketPath}`;
  try {
    await execute("nbdcopy", [uri, copy], { timeout: COPY_TIMEOUT_MS });
    return createHash("sha256")
      .update(await readFile(copy))
      .digest("hex");
  } finally {
    await rm(copy, { force: true });
  }
}

/**
 * Machines that, instead of booting, read all their disks with a real NBD client and remember what they read. It outlives
 * the process under test, as machines do, and any call of it can be made to fail.
 */
export class CopyingProvider implements ComputeProvider {
  readonly machines = new Map<Uuid, Machine>();
  readonly networks = new Map<string, NetworkSpec>();
  readonly #directory: string;
  /** Called before each call takes effect, and after it; throw to fail it. */
  before: (call: keyof ComputeProvider) => void = () => undefined;
  after: (call: keyof ComputeProvider) => void = () => undefined;
  /** Answers to probes, in turn; the last one is for ever. */
  answers: readonly (string | OsrError)[] = ["HTTP/1.1 200 OK\r\n\r\nhello"];
  #probes = 0;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async ensureNetwork(spec: NetworkSpec): Promise<void> {
    this.before("ensureNetwork");
    this.networks.set(spec.name, spec);
    this.after("ensureNetwork");
  }

  async removeNetwork(name: string): Promise<void> {
    for (const { spec } of this.machines.values())
      if (spec.nics.some(({ network }) => network === name))
        throw new OsrError(ERRORS.NETWORK_IN_USE, name);
    this.networks.delete(name);
  }

  async create(spec: MachineSpec): Promise<void> {
    this.before("create");
    this.machines.set(spec.machineId, { spec, state: "created", read: new Map(), localDisks: [] });
    this.after("create");
  }

  async start(machineId: Uuid): Promise<void> {
    this.before("start");
    const machine = this.#machine(machineId);
    machine.state = "running";
    for (const { name, source } of machine.spec.disks)
      machine.read.set(name, await exportSha256(source, this.#directory));
    this.after("start");
  }

  async stop(machineId: Uuid): Promise<void> {
    this.#machine(machineId).state = "stopped";
  }

  async destroy(machineId: Uuid): Promise<void> {
    this.before("destroy");
    this.machines.delete(machineId);
  }

  async status(machineId: Uuid): Promise<MachineStatus> {
    const { spec, state, localDisks } = this.#machine(machineId);
    return { machineId, name: spec.name, state, localDisks: [...localDisks] };
  }

  async list(): Promise<readonly MachineStatus[]> {
    return await Promise.all([...this.machines.keys()].map((id) => this.status(id)));
  }

  async console(machineId: Uuid, bytesMax: number): Promise<string> {
    return `console of ${this.#machine(machineId).spec.name}`.slice(-bytesMax);
  }

  async screenshot(machineId: Uuid): Promise<Buffer> {
    return Buffer.from(
      `\u0089PNG\r\n\u001a\nscreen of ${this.#machine(machineId).spec.name}`,
      "latin1",
    );
  }

  async moveToLocalStorage(
    machineId: Uuid,
    onProgress: (progress: MoveProgress) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    this.before("moveToLocalStorage");
    const machine = this.#machine(machineId);
    for (const { name, source, sizeBytes } of machine.spec.disks) {
      signal?.throwIfAborted();
      machine.read.set(name, await exportSha256(source, this.#directory));
      onProgress({ disk: name, doneBytes: sizeBytes, totalBytes: sizeBytes });
      machine.localDisks.push(name);
    }
  }

  async probe(): Promise<Buffer> {
    const answer = this.answers[Math.min(this.#probes, this.answers.length - 1)];
    this.#probes += 1;
    if (answer instanceof OsrError || answer === undefined)
      throw answer ?? new OsrError(ERRORS.NO_ANSWER, "nothing listens there");
    return Buffer.from(answer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Letting go changes nothing.
  }

  #machine(machineId: Uuid): Machine {
    const machine = this.machines.get(machineId);
    if (machine === undefined) throw new OsrError(ERRORS.PLANTED, `no machine ${machineId}`);
    return machine;
  }
}
