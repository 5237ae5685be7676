import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import type { SystemRoots } from "../system-roots.ts";
import type { TestContext } from "./loop-disk.ts";

/** A disk as sysfs shows it; paths are relative to its folder. */
export type TreeDisk = {
  readonly device: string;
  readonly sectors: number;
  /** Further files, such as `device/wwid`. */
  readonly files?: Readonly<Record<string, string | Buffer>>;
  readonly partitions?: Readonly<
    Record<string, { device: string; start: number; sectors: number }>
  >;
  /** Names of the devices below. */
  readonly slaves?: readonly string[];
  /** What its device file holds. */
  readonly content?: Buffer;
};

/** A made-up /sys, /proc and /dev for tests of machines that are not at hand. */
export class KernelTree {
  readonly roots: SystemRoots;
  readonly #folder: string;

  constructor(context: TestContext) {
    this.#folder = fs.mkdtempSync(path.join(os.tmpdir(), "osr-kernel-"));
    context.after(() => fs.promises.rm(this.#folder, { recursive: true }));
    this.roots = {
      sysfs: path.join(this.#folder, "sys"),
      procfs: path.join(this.#folder, "proc"),
      dev: path.join(this.#folder, "dev"),
    };
    for (const root of Object.values(this.roots)) fs.mkdirSync(root);
  }

  disk(name: string, disk: TreeDisk): this {
    const folder = `sys/block/${name}`;
    this.#device(folder, name, disk.device);
    this.file(`${folder}/size`, `${disk.sectors}\n`);
    for (const [file, content] of Object.entries(disk.files ?? {}))
      this.file(`${folder}/${file}`, content);
    for (const [part, { device, start, sectors }] of Object.entries(disk.partitions ?? {})) {
      this.#device(`${folder}/${part}`, part, device);
      this.file(`${folder}/${part}/partition`, "1\n");
      this.file(`${folder}/${part}/start`, `${start}\n`);
      this.file(`${folder}/${part}/size`, `${sectors}\n`);
    }
    for (const slave of disk.slaves ?? [])
      this.link(`${folder}/slaves/${slave}`, `${this.roots.sysfs}/class/block/${slave}`);
    if (disk.content !== undefined) this.file(`dev/${name}`, disk.content);
    return this;
  }

  /** A process with a mount namespace and its mountinfo. */
  process(pid: string, namespace: number, mountInfo: string): this {
    this.link(`proc/${pid}/ns/mnt`, `mnt:[${namespace}]`);
    return this.file(`proc/${pid}/mountinfo`, mountInfo);
  }

  file(file: string, content: string | Buffer): this {
    const target = path.join(this.#folder, file);
    fs.mkdirSync(path.dirname(target), { recursive: true });
    fs.writeFileSync(target, content);
    return this;
  }

  link(file: string, target: string): this {
    const source = path.join(this.#folder, file);
    fs.mkdirSync(path.dirname(source), { recursive: true });
    fs.symlinkSync(target, source);
    return this;
  }

  #device(folder: string, name: string, device: string): void {
    this.file(`${folder}/dev`, `${device}\n`);
    this.link(`sys/dev/block/${device}`, path.join(this.#folder, folder));
    this.link(`sys/class/block/${name}`, path.join(this.#folder, folder));
  }
}
