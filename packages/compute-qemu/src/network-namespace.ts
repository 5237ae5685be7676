import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";

import { systemErrorCode } from "@osr/base/errors";
import { SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";

import { runCommand } from "./command.ts";

const COMMAND_TIMEOUT_MS = 10 * SECOND_MS;
const NAMESPACES = "/run/netns";

/** The bridge of every network; each is alone in its namespace. */
export const BRIDGE = "br0";

/** What the taps of machines are called, and nothing else is. */
export const TAP_NAME = /^t[0-9a-f]{12}$/;

/** The tap of a machine's NIC. Interface names have at most 15 characters. */
export function tapOf(machineId: Uuid, nicIndex: number): string {
  return `t${createHash("sha256").update(`${machineId}/${nicIndex}`).digest("hex").slice(0, 12)}`;
}

export function namespaceOf(network: string): string {
  return `osr-${network}`;
}

/** A command line that runs `command` with the network of a namespace, and everything else unchanged. */
export function withinNamespace(network: string, command: readonly string[]): readonly string[] {
  return ["nsenter", `--net=${join(NAMESPACES, namespaceOf(network))}`, ...command];
}

export async function ip(args: readonly string[], signal?: AbortSignal): Promise<string> {
  const output = await runCommand("ip", args, { timeoutMs: COMMAND_TIMEOUT_MS, signal });
  return output.toString("utf8");
}

export async function hasNamespace(network: string): Promise<boolean> {
  try {
    return (await readdir(NAMESPACES)).includes(namespaceOf(network));
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return false;
    throw error;
  }
}

/** Names of the links within a network's namespace. */
export async function linksOf(network: string): Promise<readonly string[]> {
  const links = JSON.parse(await ip(["-n", namespaceOf(network), "-json", "link", "show"])) as {
    ifname: string;
  }[];
  return links.map((link) => link.ifname);
}
