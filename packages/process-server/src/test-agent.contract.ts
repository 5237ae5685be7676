import { crc32 } from "node:zlib";

import type { Identity } from "@osr/certificates/site-authority";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { SECOND_MS } from "@osr/base/units";
import { type Uuid, uuidOfName } from "@osr/base/uuid";
import {
  type BatchReply,
  type GrantedDisk,
  type HeartbeatReply,
  type HeartbeatRequest,
  type SessionReply,
  batchReplyShape,
  heartbeatReplyShape,
  routes,
  sessionReplyShape,
} from "@osr/contracts/agent-protocol";
import {
  HRL_HEADER_BYTES,
  HRL_TYPES,
  type HrlType,
  encodeHrlHeader,
} from "@osr/contracts/hrl-record";
import { type Tag, type TagClass, encodeTag } from "@osr/contracts/tag";
import { parseJson } from "@osr/base/json-shape";
import { HttpsClient } from "@osr/https/https-client";
import { diskIdOf } from "@osr/repository/disk-id";

/** A record before it has a number. */
export type Change =
  | { readonly type: "data"; readonly block: number; readonly content: Buffer }
  | { readonly type: "zero"; readonly block: number; readonly count: number }
  | { readonly type: "mark"; readonly tag: Tag }
  | { readonly type: "end" };

/** Speaks the agent protocol as a well-behaved mobility service would; tests make it misbehave. */
export class TestAgent implements Disposable {
  readonly machineId: Uuid;
  readonly client: HttpsClient;
  /** That of the machine; a copy of it has another one. */
  biosUuid: string;
  epoch = 0;
  reply: SessionReply | undefined;

  constructor(options: {
    readonly machineId: Uuid;
    readonly port: number;
    readonly identity: Identity;
    readonly authorityPem: string;
  }) {
    this.machineId = options.machineId;
    this.biosUuid = options.machineId;
    this.client = new HttpsClient({
      baseUrl: `https://127.0.0.1:${options.port}`,
      authorityPem: options.authorityPem,
      identity: options.identity,
      socketsMax: 16,
      timeoutMs: 60 * SECOND_MS,
      scheduler: systemScheduler,
    });
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
  }

  async openSession(
    disks: readonly { readonly identity: string; readonly sizeBytes: number }[],
    epoch: number = this.epoch + 1,
  ): Promise<SessionReply> {
    this.epoch = epoch;
    const body = {
      protocol: 1,
      epoch,
      agentVersion: "test",
      machine: {
        hostName: "machine",
        biosUuid: this.biosUuid,
        operatingSystem: "Debian",
        kernel: "6.12",
        firmware: "bios",
        cpuCount: 2,
        memoryBytes: 2 ** 30,
      },
      disks: disks.map((disk, index) => ({ ...disk, name: `vd${index}`, isBoot: index === 0 })),
    };
    this.reply = parseJson(await this.#post(routes.session, body), sessionReplyShape);
    return this.reply;
  }

  granted(identity: string): GrantedDisk {
    const disk = this.reply?.disks.find((candidate) => candidate.identity === identity);
    if (disk === undefined) throw new Error(`${identity} was not granted`);
    return disk;
  }

  async send(diskId: Uuid, batch: Buffer): Promise<BatchReply> {
    const { body } = await this.client.request({
      method: "POST",
      path: routes.batches(diskId),
      body: batch,
    });
    return parseJson(body.toString(), batchReplyShape);
  }

  async heartbeat(
    epoch: number = this.epoch,
    report: Partial<HeartbeatRequest> = {},
  ): Promise<HeartbeatReply> {
    const body = { epoch, pointsMissed: 0, health: [], ...report };
    return parseJson(await this.#post(routes.heartbeat, body), heartbeatReplyShape);
  }

  tag(slot: number, identities: readonly string[], tagClass: TagClass = "crash"): Tag {
    return {
      groupId: this.machineId,
      slot,
      cutId: uuidOfName("cut", this.machineId, String(slot), String(this.epoch)),
      class: tagClass,
      unixMs: 1_700_000_000_000 + slot,
      disks: identities.map((identity) => diskIdOf(this.machineId, identity)).toSorted(),
    };
  }

  async #post(path: string, body: object): Promise<string> {
    const reply = await this.client.request({
      method: "POST",
      path,
      headers: { "content-type": "application/json" },
      body: Buffer.from(JSON.stringify(body)),
    });
    return reply.body.toString();
  }
}

const TYPES: Readonly<Record<Change["type"], HrlType>> = {
  data: HRL_TYPES.DATA,
  zero: HRL_TYPES.ZERO,
  mark: HRL_TYPES.MARK,
  end: HRL_TYPES.END,
};

/** HRL records of some changes, numbered from `recordNo`. */
export function encodeChanges(
  changes: readonly Change[],
  place: { readonly session: number; readonly interval: number; readonly recordNo: number },
): Buffer {
  return Buffer.concat(
    changes.flatMap((change, index) => {
      const recordNo = place.recordNo + index;
      const payload = payloadOf(change);
      const header = Buffer.alloc(HRL_HEADER_BYTES);
      const range = rangeOf(change, recordNo);
      const { session, interval } = place;
      const fields = { type: TYPES[change.type], session, interval, recordNo, ...range };
      encodeHrlHeader(
        { ...fields, payloadBytes: payload.length, payloadCrc32: crc32(payload) },
        header,
        0,
      );
      return [header, payload];
    }),
  );
}

function payloadOf(change: Change): Buffer {
  if (change.type === "data") return change.content;
  return change.type === "mark" ? encodeTag(change.tag) : Buffer.alloc(0);
}

function rangeOf(change: Change, recordNo: number): { block: number; count: number } {
  if (change.type === "data")
    return { block: change.block, count: change.content.length / BLOCK_BYTES };
  if (change.type === "zero") return { block: change.block, count: change.count };
  return { block: 0, count: change.type === "end" ? recordNo : 0 };
}
