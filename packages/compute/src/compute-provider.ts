import type { Uuid } from "@osr/base/uuid";

/**
 * A virtual network that failed-over machines are attached to. Only `reservations` may differ between two calls with
 * one name; the newer ones replace the older ones.
 */
export type NetworkSpec = {
  /** Unique within the provider; at most 8 characters of [a-z0-9]. */
  readonly name: string;
  /** IPv4 network in CIDR form, such as `10.0.2.0/24`. */
  readonly subnet: string;
  /** Address of the gateway and DHCP server within it. */
  readonly gateway: string;
  /** True: a test network. No way out, and nothing outside can see it, so it may have the source's addresses. */
  readonly isolated: boolean;
  /** Fixed addresses: the DHCP server gives `address` to `mac`, and nothing to a MAC that is not listed. */
  readonly reservations: readonly {
    readonly mac: string;
    readonly address: string;
    readonly hostName: string;
  }[];
};

/** Where a machine's disk comes from: an NBD export that is read-only, never written by the machine. */
export type NbdLocation = { readonly unixSocketPath: string; readonly exportName: string };

/**
 * What a machine is made of. Two calls with one `machineId` must agree in everything but the disks' `source`, which may
 * move while the machine is not running.
 */
export type MachineSpec = {
  readonly machineId: Uuid;
  readonly name: string;
  /** New for every replica, so that a replica never takes itself for its source. */
  readonly biosUuid: Uuid;
  readonly firmware: "bios" | "uefi";
  readonly cpuCount: number;
  readonly memoryBytes: number;
  readonly disks: readonly {
    readonly name: string;
    /** A multiple of 512. */
    readonly sizeBytes: number;
    /** What the guest sees as the disk's serial; providers may cut it (virtio: 20 characters). */
    readonly serial?: string;
    readonly isBoot: boolean;
    readonly source: NbdLocation;
  }[];
  readonly nics: readonly { readonly network: string; readonly mac: string }[];
};

export type MachineState = "created" | "running" | "stopped" | "failed";

export type MachineStatus = {
  readonly machineId: Uuid;
  readonly name: string;
  readonly state: MachineState;
  /** Disks whose content is on local storage, so that the machine no longer needs the NBD exports. */
  readonly localDisks: readonly string[];
  /** Why it failed, or why it is stopped though nobody asked for it. */
  readonly reason?: string;
};

export type MoveProgress = {
  readonly disk: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
};

/**
 * Runs failed-over machines. The law for every provider:
 * - every call is idempotent: repeated with the same arguments it succeeds and changes nothing more;
 * - what it makes carries the id of the machine or network, so that a successor process finds and adopts it (`list`);
 * - `destroy` and `removeNetwork` leave nothing behind: processes, files, links, namespaces;
 * - a machine writes only to its own local overlay, never to its source;
 * - a machine that cannot reach its source waits; it is never told that a read failed because of an outage;
 * - disposing lets go: machines and networks stay as they are, and a successor adopts them.
 *
 * A call about a machine or network that does not exist is refused, except `destroy` and `removeNetwork`, which succeed.
 */
export interface ComputeProvider extends AsyncDisposable {
  /** Makes the network, or repairs what is missing of it. */
  ensureNetwork(spec: NetworkSpec, signal?: AbortSignal): Promise<void>;
  /** Refused while a machine is attached. */
  removeNetwork(name: string): Promise<void>;
  create(spec: MachineSpec, signal?: AbortSignal): Promise<void>;
  /** Starts a machine that is created or stopped, or lets one go on that waits after an error. */
  start(machineId: Uuid, signal?: AbortSignal): Promise<void>;
  /** Asks the guest to shut down, and cuts the power after `graceMs`. */
  stop(machineId: Uuid, graceMs: number): Promise<void>;
  /** Cuts the power and removes the machine with everything that it has written. */
  destroy(machineId: Uuid): Promise<void>;
  status(machineId: Uuid): Promise<MachineStatus>;
  list(): Promise<readonly MachineStatus[]>;
  /** The last `bytesMax` bytes of what the machine printed on its serial console. */
  console(machineId: Uuid, bytesMax: number): Promise<string>;
  /** What is on the screen of a machine that runs: a PNG. */
  screenshot(machineId: Uuid): Promise<Buffer>;
  /**
   * Moves every disk to local storage behind the running machine; afterwards the NBD exports may go away. Disks already
   * moved are skipped; a successor may repeat the call and takes over where its predecessor was. Aborting stops the
   * disk that is under way and leaves the machine running as before.
   */
  moveToLocalStorage(
    machineId: Uuid,
    onProgress: (progress: MoveProgress) => void,
    signal?: AbortSignal,
  ): Promise<void>;
  /**
   * Opens a TCP connection from within a network, as a machine there would, sends `request` and resolves with what is
   * answered until the peer ends, or until `replyBytesMax` bytes or `timeoutMs` are reached, if there is any answer by then.
   * For probes and drills.
   */
  probe(
    network: string,
    address: string,
    port: number,
    request: Buffer,
    options: ProbeOptions,
  ): Promise<Buffer>;
}

export type ProbeOptions = { readonly timeoutMs: number; readonly replyBytesMax: number };
