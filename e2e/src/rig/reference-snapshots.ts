import { join } from "node:path";

import { OsrError } from "@osr/base/errors";

import { HookChannel } from "./hook-channel.ts";
import { type DiskLayer, layerSha256 } from "./layer-hash.ts";
import type { Machine } from "./machine.ts";
import type { Narrator } from "./narrator.ts";
import { RIG_ERRORS } from "./rig-errors.ts";

export type DiskReference = {
  /** Name of the machine's disk. */
  readonly disk: string;
  readonly sha256: string;
};

type FrozenCut = {
  readonly layers: readonly { readonly disk: string; readonly layer: DiskLayer }[];
  /** From the agent's word to the answer, in ms. */
  readonly heldMs: number;
  /** When the machine said that it is frozen, on the monotonic clock of the host. */
  readonly frozenMonotonicMs: number;
};

/**
 * What the disks of a machine held at each cut, independent of everything under test: while the agent holds the thaw,
 * QEMU puts a new layer on every protected disk, all in one transaction, and the layer below never changes again.
 */
export class ReferenceSnapshots implements Disposable {
  readonly #machine: Machine;
  readonly #active: { readonly disk: string; node: string; layer: DiskLayer }[];
  readonly #cuts = new Map<string, FrozenCut>();
  readonly #hashes = new Map<string, Promise<string>>();
  #hook: HookChannel | undefined;
  /** Called while the machine is frozen, after its disks were noted. */
  whileFrozen: ((cutId: string) => Promise<void>) | undefined;
  #layerNo = 0;

  private constructor(machine: Machine, disks: readonly string[]) {
    this.#machine = machine;
    this.#active = machine.disks
      .filter((disk) => disks.includes(disk.name))
      .map(({ name, path, format }) => ({ disk: name, node: name, layer: { path, format } }));
  }

  /** Serves the hook of `machine` for the disks of these names. */
  static async attach(
    machine: Machine,
    disks: readonly string[],
    narrator: Narrator,
  ): Promise<ReferenceSnapshots> {
    const snapshots = new ReferenceSnapshots(machine, disks);
    snapshots.#hook = await HookChannel.connect(
      join(machine.directory, "hook"),
      async (cutId) => {
        await snapshots.take(cutId);
        await snapshots.whileFrozen?.(cutId);
      },
      narrator,
    );
    return snapshots;
  }

  /** Ids of the cuts that were taken, in order. */
  get cutIds(): readonly string[] {
    return [...this.#cuts.keys()];
  }

  /** How long the agent was held for this cut, in ms; not part of what the product needs. */
  heldMs(cutId: string): number {
    return this.#cut(cutId).heldMs;
  }

  frozenMonotonicMs(cutId: string): number {
    return this.#cut(cutId).frozenMonotonicMs;
  }

  /** Freezes the present content of all disks under this id. */
  async take(cutId: string): Promise<void> {
    const begin = performance.now();
    this.#layerNo += 1;
    const next = this.#active.map(({ disk }) => ({
      node: `${disk}-${this.#layerNo}`,
      path: join(this.#machine.directory, `${disk}-${this.#layerNo}.qcow2`),
    }));
    await this.#machine.qmp.execute("transaction", {
      actions: this.#active.map(({ node }, index) => ({
        type: "blockdev-snapshot-sync",
        data: {
          "node-name": node,
          "snapshot-file": next[index]?.path,
          "snapshot-node-name": next[index]?.node,
          format: "qcow2",
        },
      })),
    });
    const layers = this.#active.map(({ disk, layer }) => ({ disk, layer }));
    this.#cuts.set(cutId, {
      layers,
      heldMs: performance.now() - begin,
      frozenMonotonicMs: begin,
    });
    for (const [index, active] of this.#active.entries()) {
      const { node, path } = next[index] ?? { node: active.node, path: active.layer.path };
      active.node = node;
      active.layer = { path, format: "qcow2" };
    }
  }

  /** SHA-256 of each disk as it was at the cut. */
  async of(cutId: string, signal?: AbortSignal): Promise<readonly DiskReference[]> {
    const references: DiskReference[] = [];
    for (const { disk, layer } of this.#cut(cutId).layers) {
      const hash = this.#hashes.get(layer.path) ?? layerSha256(layer, signal);
      this.#hashes.set(layer.path, hash);
      references.push({ disk, sha256: await hash });
    }
    return references;
  }

  /** The frozen layer of a disk, for a closer look at a difference. */
  layer(cutId: string, disk: string): DiskLayer | undefined {
    return this.#cut(cutId).layers.find((each) => each.disk === disk)?.layer;
  }

  [Symbol.dispose](): void {
    this.#hook?.[Symbol.dispose]();
  }

  #cut(cutId: string): FrozenCut {
    const cut = this.#cuts.get(cutId);
    if (cut === undefined)
      throw new OsrError(RIG_ERRORS.RIG_UNSUPPORTED, `no reference snapshot of cut ${cutId}`);
    return cut;
  }
}
