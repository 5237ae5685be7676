import { randomBytes } from "node:crypto";

import { SECOND_MS } from "@osr/base/units";
import { ip, namespaceOf } from "@osr/compute-qemu/network-namespace";

import { runCommand } from "./commands.ts";
import { HOST_ADDRESS, type MachineNetwork } from "./machine.ts";

const FAR = "osr-far";
const TAP = "osr-tap";
const BRIDGE = "osr-bridge";
/** Of a link between processes: what the near ones and the far ones have. */
const NEAR_ADDRESS = "10.0.3.1";
const FAR_ADDRESS = "10.0.3.2";
/** What a throttled link lets through at once, and what it holds back before it drops packets. */
const BURST_BYTES = 16 * 1024;
const QUEUE_BYTES = 64 * 1024;

/** Where processes stand that are reached through a link: a network of theirs, see withinNamespace, and their address. */
export type FarPlace = { readonly network: string; readonly address: string };

/**
 * A cable from this process's network: a virtual Ethernet pair whose far end is bridged, in a network namespace, to a machine's
 * tap or to processes there. It can be cut, so that nothing arrives and nobody is told, and throttled by the kernel. To be made
 * in a network of our own: see own-network.ts. Needs root.
 */
export class NetworkLink implements AsyncDisposable {
  readonly #network = `e2e-${randomBytes(4).toString("hex")}`;
  readonly #near = `osr-${randomBytes(4).toString("hex")}`;

  private constructor() {}

  /** To a machine of the rig, which sees this process's network as HOST_ADDRESS. */
  static toMachine(): Promise<NetworkLink> {
    return NetworkLink.#make(HOST_ADDRESS, (link) => link.#addTap());
  }

  /** To processes that are to be started at its `farPlace`. */
  static toProcesses(): Promise<NetworkLink> {
    return NetworkLink.#make(NEAR_ADDRESS, (link) => link.#addAddress());
  }

  /** To start a machine with. */
  get machineNetwork(): MachineNetwork {
    return { network: this.#network, tap: TAP };
  }

  get farPlace(): FarPlace {
    return { network: this.#network, address: FAR_ADDRESS };
  }

  async cut(): Promise<void> {
    await this.#far("link", "set", FAR, "down");
  }

  async mend(): Promise<void> {
    await this.#far("link", "set", FAR, "up");
  }

  /** In each direction. */
  async throttle(bytesPerSecond: number): Promise<void> {
    // In the notation of tc, `bps` are bytes a second.
    const rate = ["rate", `${bytesPerSecond}bps`, "burst", `${BURST_BYTES}b`];
    const bucket = ["root", "tbf", ...rate, "limit", `${QUEUE_BYTES}b`];
    await tc(["qdisc", "replace", "dev", this.#near, ...bucket]);
    await tc(["-n", namespaceOf(this.#network), "qdisc", "replace", "dev", FAR, ...bucket]);
  }

  async unthrottle(): Promise<void> {
    await tc(["qdisc", "delete", "dev", this.#near, "root"]);
    await tc(["-n", namespaceOf(this.#network), "qdisc", "delete", "dev", FAR, "root"]);
  }

  /** What went through it, in both directions, with headers. */
  async bytes(): Promise<number> {
    const [link] = JSON.parse(await ip(["-json", "-statistics", "link", "show", this.#near])) as [
      { readonly stats64: Readonly<Record<"rx" | "tx", { readonly bytes: number }>> },
    ];
    return link.stats64.rx.bytes + link.stats64.tx.bytes;
  }

  /** The pair ends with the namespace of its far end. */
  async [Symbol.asyncDispose](): Promise<void> {
    await ip(["netns", "delete", namespaceOf(this.#network)]);
  }

  static async #make(
    nearAddress: string,
    furnish: (link: NetworkLink) => Promise<void>,
  ): Promise<NetworkLink> {
    const link = new NetworkLink();
    await ip(["netns", "add", namespaceOf(link.#network)]);
    try {
      await link.#wire(nearAddress);
      await furnish(link);
      return link;
    } catch (error) {
      await link[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #wire(nearAddress: string): Promise<void> {
    const far = ["peer", "name", FAR, "netns", namespaceOf(this.#network)];
    await ip(["link", "add", this.#near, "type", "veth", ...far]);
    await ip(["address", "add", `${nearAddress}/24`, "dev", this.#near]);
    await ip(["link", "set", this.#near, "up"]);
    await this.#far("link", "add", BRIDGE, "type", "bridge");
    await this.#far("link", "set", FAR, "master", BRIDGE, "up");
    await this.#far("link", "set", BRIDGE, "up");
  }

  async #addTap(): Promise<void> {
    await this.#far("tuntap", "add", TAP, "mode", "tap");
    await this.#far("link", "set", TAP, "master", BRIDGE, "up");
  }

  /** The bridge's own address: those who stand there reach it also while the link is cut. */
  async #addAddress(): Promise<void> {
    await this.#far("address", "add", `${FAR_ADDRESS}/24`, "dev", BRIDGE);
    await this.#far("link", "set", "lo", "up");
  }

  #far(...words: readonly string[]): Promise<string> {
    return ip(["-n", namespaceOf(this.#network), ...words]);
  }
}

function tc(words: readonly string[]): Promise<string> {
  return runCommand("tc", words, { timeoutMs: 10 * SECOND_MS });
}
