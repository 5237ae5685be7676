import { randomBytes } from "node:crypto";

import { SECOND_MS } from "@osr/base/units";
import { ip, namespaceOf } from "@osr/compute-qemu/network-namespace";

import { runCommand } from "./commands.ts";
import { HOST_ADDRESS, type MachineNetwork } from "./machine.ts";

const NEAR = "osr-near";
const FAR = "osr-far";
const TAP = "osr-tap";
const BRIDGE = "osr-bridge";
/** What a throttled link lets through at once, and what it holds back before it drops packets. */
const BURST_BYTES = 16 * 1024;
const QUEUE_BYTES = 64 * 1024;

/**
 * A cable between a machine of the rig and this process's network, which is HOST_ADDRESS to it: a virtual Ethernet pair whose
 * far end is bridged to the machine's tap in a network namespace. It can be cut, so that nothing arrives and nobody is told,
 * and throttled by the kernel. To be made in a network of our own: see own-network.ts. Needs root.
 */
export class NetworkLink implements AsyncDisposable {
  /** To start a machine with. */
  readonly machineNetwork: MachineNetwork;
  readonly #namespace: string;

  private constructor(network: string) {
    this.machineNetwork = { network, tap: TAP };
    this.#namespace = namespaceOf(network);
  }

  static async make(): Promise<NetworkLink> {
    const link = new NetworkLink(`e2e-${randomBytes(4).toString("hex")}`);
    await ip(["netns", "add", link.#namespace]);
    try {
      await link.#wire();
      return link;
    } catch (error) {
      await link[Symbol.asyncDispose]();
      throw error;
    }
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
    await tc(["qdisc", "replace", "dev", NEAR, ...bucket]);
    await tc(["-n", this.#namespace, "qdisc", "replace", "dev", FAR, ...bucket]);
  }

  async unthrottle(): Promise<void> {
    await tc(["qdisc", "delete", "dev", NEAR, "root"]);
    await tc(["-n", this.#namespace, "qdisc", "delete", "dev", FAR, "root"]);
  }

  /** What went through it, in both directions, with headers. */
  async bytes(): Promise<number> {
    const [link] = JSON.parse(await ip(["-json", "-statistics", "link", "show", NEAR])) as [
      { readonly stats64: Readonly<Record<"rx" | "tx", { readonly bytes: number }>> },
    ];
    return link.stats64.rx.bytes + link.stats64.tx.bytes;
  }

  /** The pair ends with the namespace of its far end. */
  async [Symbol.asyncDispose](): Promise<void> {
    await ip(["netns", "delete", this.#namespace]);
  }

  async #wire(): Promise<void> {
    const far = ["peer", "name", FAR, "netns", this.#namespace];
    await ip(["link", "add", NEAR, "type", "veth", ...far]);
    await ip(["address", "add", `${HOST_ADDRESS}/24`, "dev", NEAR]);
    await ip(["link", "set", NEAR, "up"]);
    await this.#far("link", "add", BRIDGE, "type", "bridge");
    await this.#far("tuntap", "add", TAP, "mode", "tap");
    for (const port of [FAR, TAP]) await this.#far("link", "set", port, "master", BRIDGE, "up");
    await this.#far("link", "set", BRIDGE, "up");
  }

  #far(...words: readonly string[]): Promise<string> {
    return ip(["-n", this.#namespace, ...words]);
  }
}

function tc(words: readonly string[]): Promise<string> {
  return runCommand("tc", words, { timeoutMs: 10 * SECOND_MS });
}
