import assert from "node:assert/strict";
import { crc32 } from "node:zlib";

import * as fc from "fast-check";

import { OsrError } from "@osr/base/errors";
import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { mutated, mutations } from "@osr/base/testing/mutated-bytes";
import { uuidOfName } from "@osr/base/uuid";

import { type JournalEntry, decodeJournalEntry, encodeJournalEntry } from "./journal-entry.ts";
import {
  decodeJournalHead,
  encodeJournalHead,
  openJournalEntry,
  sealJournalEntry,
} from "./journal-format.ts";

const u32 = fc.nat(2 ** 32 - 1);
const pairs = fc.array(fc.tuple(u32, u32), { maxLength: 4 }).map((list) => {
  return Uint32Array.from(list.flat());
});
const diskId = uuidOfName("disk");
const tag = { groupId: diskId, slot: 1, cutId: diskId, class: "crash", unixMs: 0 } as const;

const entries: fc.Arbitrary<JournalEntry> = fc
  .record(
    {
      session: fc.maxSafeNat(),
      interval: u32,
      firstRecordNo: u32,
      lastRecordNo: u32,
      ended: fc.boolean(),
      framesOffset: fc.maxSafeNat(),
      frames: pairs,
      runs: pairs,
      zeroRuns: pairs,
    },
    { noNullPrototype: true },
  )
  .map((entry) => (entry.ended ? { ...entry, tag: { ...tag, disks: [diskId] } } : entry));

export const journalEntryFuzz = fuzzTarget(
  "journal-entry",
  "plaintext of journal entries: SPOOL_DAMAGED, or an entry that encodes to the same bytes",
  fc.property(entries, mutations, (entry, changes) => {
    const bytes = mutated(encodeJournalEntry(entry), changes);
    try {
      const read = decodeJournalEntry(bytes);
      // A tag may be spelt in other ways than ours, so what is compared is what was understood.
      assert.deepEqual(decodeJournalEntry(encodeJournalEntry(read)), read);
    } catch (error) {
      if (!(error instanceof OsrError) || error.code !== "SPOOL_DAMAGED") throw error;
    }
  }),
);

export const journalFuzz = fuzzTarget(
  "journal",
  "spool journals after a crash or a bad disk: entries come back whole, in order, up to the first that is not",
  fc.property(
    fc.array(entries, { minLength: 1, maxLength: 4 }),
    fc.uint8Array({ minLength: 32, maxLength: 32 }),
    mutations,
    (list, key, changes) => {
      const indexKey = Buffer.from(key);
      const sealed = list.map((entry, no) => sealJournalEntry(entry, no, indexKey));
      const file = mutated(Buffer.concat(sealed), changes);
      for (let no = 0, offset = 0; ; no++) {
        const next = openJournalEntry(file, offset, no, indexKey);
        if (next === undefined) return;
        assert.deepEqual(next.entry, list[no]);
        offset += next.bytes;
      }
    },
  ),
);

export const journalHeadFuzz = fuzzTarget(
  "journal-head",
  "heads of spool journals, with wrong and with right checksums: none, or one that encodes to the same bytes",
  fc.property(mutations, fc.boolean(), (changes, isResealed) => {
    const bytes = mutated(encodeJournalHead({ objectId: diskId, diskId }), changes);
    if (isResealed && bytes.length >= 64) bytes.writeUInt32LE(crc32(bytes.subarray(0, 60)), 60);
    const head = decodeJournalHead(bytes);
    if (head !== undefined) assert.ok(encodeJournalHead(head).equals(bytes.subarray(0, 64)));
  }),
);
