import assert from "node:assert/strict";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { messageOf } from "@osr/base/errors";
import { silentLog } from "@osr/base/log";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { MIB } from "@osr/base/units";
import { LoopDisks, loopSkipReason, runTool } from "@osr/block-device/testing/loop-disk";
import { mountedTracefs } from "@osr/block-device/tracefs";
import type { OpenedDisk } from "@osr/mobility-service/disk-watch";

import { ProtectedDisks } from "./protected-disks.ts";

const UUIDS = ["01234567-89ab-cdef-0123-456789abcde1", "01234567-89ab-cdef-0123-456789abcde2"];

function skipReason(): string | undefined {
  try {
    mountedTracefs();
    return loopSkipReason("mkfs.ext4");
  } catch (error) {
    return messageOf(error);
  }
}

test(
  "disks of this machine are attached, grow, vanish and come back, and each change is told once",
  { skip: skipReason() ?? false },
  async (t) => {
    const loops = new LoopDisks(t);
    const identities = UUIDS.map((uuid) => `fsuuid:${uuid}`);
    const disks = new ProtectedDisks(identities, { log: silentLog, randomness: systemRandomness });
    const format = (file: string, uuid = ""): string =>
      runTool("mkfs.ext4", "-q", "-F", "-U", uuid, file);
    const close = (opened: readonly OpenedDisk[]): Promise<unknown> =>
      Promise.all(opened.map(({ reader }) => reader[Symbol.asyncDispose]()));

    const first = loops.create(16 * MIB);
    format(first.path, UUIDS[0]);
    const opened = await disks.open(await disks.inventory());
    t.after(() => close(opened));
    const known = opened.map(({ disk }) => disk);
    assert.deepEqual(
      known.map(({ name, identity }) => [name, identity]),
      [[first.name, identities[0]]],
    );
    assert.deepEqual(await disks.look(known), { appeared: [], vanished: [] });
    assert.equal(disks.isSwapCurrent(), true);

    const file = join(loops.folder(), "second");
    writeFileSync(file, "");
    truncateSync(file, 16 * MIB);
    format(file, UUIDS[1]);
    const attach = (): string => runTool("losetup", "--find", "--show", file).trim();
    let device = attach();
    let isAttached = true;
    loops.defer(() => void (isAttached && runTool("losetup", "--detach", device)));
    const second = (await disks.look(known)).appeared;
    await close(second);
    assert.deepEqual(
      second.map(({ disk, untrusted }) => [disk.identity, disk.path, untrusted]),
      [[identities[1], device, undefined]],
    );
    known.push(...second.map(({ disk }) => disk));
    assert.deepEqual(await disks.look(known), { appeared: [], vanished: [] });

    truncateSync(first.backingFile, 20 * MIB);
    runTool("losetup", "--set-capacity", first.path);
    const grown = (await disks.look(known)).appeared;
    await close(grown);
    assert.deepEqual(
      grown.map(({ disk }) => [disk.identity, disk.sizeBytes]),
      [[identities[0], 20 * MIB]],
    );

    // Detached and attached again between two looks: not the disk that was known.
    runTool("losetup", "--detach", device);
    device = attach();
    const returned = (await disks.look(known.slice(1))).appeared;
    await close(returned);
    assert.ok(returned.some(({ disk }) => disk.identity === identities[1]));

    runTool("losetup", "--detach", device);
    isAttached = false;
    const { vanished } = await disks.look(known);
    assert.deepEqual(
      vanished.map(({ identity }) => identity),
      [identities[1]],
    );
  },
);
