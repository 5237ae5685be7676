import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, suite, test } from "node:test";

import { type ErrorInfo, OsrError } from "@osr/base/errors";
import { MIB } from "@osr/base/units";

import {
  LIST_PAGE_MAX,
  OBJECT_NAME_CHARS_MAX,
  type ObjectBody,
  type ObjectStore,
  STORE_ERRORS,
  bodyOf,
  listAll,
  readWhole,
} from "./object-store.ts";

const CREATORS = 8;
const BIG_BYTES = 8 * MIB;

export type StoreUnderTest = AsyncDisposable & {
  readonly store: ObjectStore;
  /** Another way to the same objects, where there is one, as another process would have it. */
  readonly second?: ObjectStore;
};

/** Runs the law of ObjectStore against a provider. */
export function objectStoreContract(name: string, open: () => Promise<StoreUnderTest>): void {
  suite(`object store contract: ${name}`, () => {
    let opened: StoreUnderTest;
    let store: ObjectStore;
    let second: ObjectStore;
    let tests = 0;
    /** Each test has a prefix of its own. */
    const fresh = (): string => `contract/${String((tests += 1)).padStart(3, "0")}`;

    before(async () => {
      opened = await open();
      store = opened.store;
      second = opened.second ?? opened.store;
    });
    after(() => opened[Symbol.asyncDispose]());

    test("what was created is there: head, bytes and oid", async () => {
      const name = `${fresh()}/v1/a-b_c.seg`;
      const bytes = randomBytes(100_001);
      const oid = randomBytes(16).toString("hex");
      await store.create(name, bodyOf(bytes), { oid });
      for (const reader of [store, second]) {
        assert.deepEqual(pick(await reader.head(name)), { name, sizeBytes: bytes.length, oid });
        assert.deepEqual(await readWhole(reader, name), bytes);
      }
    });

    test("an object without an oid has none", async () => {
      const name = `${fresh()}/x`;
      await store.create(name, bodyOf(Buffer.from("x")));
      assert.deepEqual(pick(await store.head(name)), { name, sizeBytes: 1 });
    });

    test("an empty object exists and has no bytes to read", async () => {
      const name = `${fresh()}/empty`;
      await store.create(name, bodyOf(Buffer.alloc(0)), { oid: "e" });
      assert.deepEqual(pick(await store.head(name)), { name, sizeBytes: 0, oid: "e" });
      assert.equal((await readWhole(store, name)).length, 0);
      await rejects(store.read(name, 0, Buffer.alloc(1)), STORE_ERRORS.OBJECT_RANGE);
      await rejects(
        store.create(name, bodyOf(Buffer.alloc(0)), { oid: "f" }),
        STORE_ERRORS.OBJECT_EXISTS,
      );
    });

    test("a second create loses and changes nothing", async () => {
      const name = `${fresh()}/once`;
      await store.create(name, bodyOf(Buffer.from("first")), { oid: "first" });
      await rejects(
        second.create(name, bodyOf(Buffer.from("second!")), { oid: "second" }),
        STORE_ERRORS.OBJECT_EXISTS,
      );
      assert.equal(String(await readWhole(store, name)), "first");
      assert.equal((await second.head(name)).oid, "first");
    });

    test(`of ${CREATORS} creators at once exactly one wins`, async () => {
      const prefix = fresh();
      for (let round = 0; round < 5; round++) {
        const name = `${prefix}/race-${round}`;
        const bodies = Array.from({ length: CREATORS }, () => randomBytes(200_000));
        const outcomes = await Promise.allSettled(
          bodies.map((bytes, index) =>
            (index % 2 === 0 ? store : second).create(name, piecewise(bytes, 60_000), {
              oid: `creator-${index}`,
            }),
          ),
        );
        const winners = outcomes.flatMap((outcome, index) =>
          outcome.status === "fulfilled" ? [index] : [],
        );
        assert.equal(winners.length, 1, JSON.stringify(outcomes));
        for (const outcome of outcomes)
          if (outcome.status === "rejected") isError(outcome.reason, STORE_ERRORS.OBJECT_EXISTS);
        const winner = winners[0] ?? -1;
        assert.equal((await store.head(name)).oid, `creator-${winner}`);
        assert.deepEqual(await readWhole(second, name), bodies[winner]);
      }
      const listed = await store.list(`${prefix}/`);
      assert.equal(listed.objects.length, 5);
    });

    test("ranges at odd offsets are exact, and nothing beyond the end is made up", async () => {
      const name = `${fresh()}/ranges`;
      const bytes = randomBytes(300_007);
      await store.create(name, bodyOf(bytes));
      const ranges = [
        [0, 1],
        [1, 1],
        [4095, 4097],
        [65_537, 131_071],
        [300_006, 1],
        [0, 300_007],
        [300_007, 0],
        [17, 0],
      ] as const;
      await Promise.all(
        ranges.map(async ([offset, length]) => {
          // A view into a larger buffer, which must not be touched around it.
          const around = Buffer.alloc(length + 32, 0xaa);
          await store.read(name, offset, around.subarray(16, 16 + length));
          assert.deepEqual(
            around.subarray(16, 16 + length),
            bytes.subarray(offset, offset + length),
          );
          assert.ok(around.subarray(0, 16).every((byte) => byte === 0xaa));
          assert.ok(around.subarray(16 + length).every((byte) => byte === 0xaa));
        }),
      );
      for (const [offset, length] of [
        [300_006, 2],
        [300_007, 1],
        [300_008, 0],
        [1_000_000, 10],
        [0, 300_008],
      ] as const)
        await rejects(
          store.read(name, offset, Buffer.alloc(length)),
          STORE_ERRORS.OBJECT_RANGE,
          `${offset}+${length}`,
        );
    });

    test("the start of an object comes with its size, whatever room there is", async () => {
      const bytes = randomBytes(70_001);
      for (const [length, room] of [
        [0, 10],
        [1, 1],
        [1, 10],
        [70_001, 10],
        [70_001, 70_001],
        [70_001, 80_000],
      ] as const) {
        const name = `${fresh()}/start`;
        await store.create(name, bodyOf(bytes.subarray(0, length)));
        const target = Buffer.alloc(room, 0xaa);
        assert.equal(await second.readStart(name, target), length);
        const filled = Math.min(length, room);
        assert.ok(target.subarray(0, filled).equals(bytes.subarray(0, filled)));
        assert.ok(target.subarray(filled).every((byte) => byte === 0xaa));
      }
    });

    test("what does not exist is OBJECT_NOT_FOUND, and deleting it is success", async () => {
      const name = `${fresh()}/nothing/here`;
      await rejects(store.head(name), STORE_ERRORS.OBJECT_NOT_FOUND);
      await rejects(store.read(name, 0, Buffer.alloc(1)), STORE_ERRORS.OBJECT_NOT_FOUND);
      await rejects(store.read(name, 0, Buffer.alloc(0)), STORE_ERRORS.OBJECT_NOT_FOUND);
      await rejects(store.readStart(name, Buffer.alloc(1)), STORE_ERRORS.OBJECT_NOT_FOUND);
      await store.delete(name);
    });

    test("a deleted object is gone for everybody", async () => {
      const prefix = fresh();
      await store.create(`${prefix}/a`, bodyOf(Buffer.from("a")));
      await store.create(`${prefix}/b`, bodyOf(Buffer.from("b")));
      await second.delete(`${prefix}/a`);
      await rejects(store.head(`${prefix}/a`), STORE_ERRORS.OBJECT_NOT_FOUND);
      assert.deepEqual(await namesOf(store, `${prefix}/`), [`${prefix}/b`]);
      await store.delete(`${prefix}/a`);
    });

    test("lists are ascending in byte order, by prefix, across slashes", async () => {
      const prefix = fresh();
      const names = [
        `${prefix}/a-b`,
        `${prefix}/a.b`,
        `${prefix}/a/b/c`,
        `${prefix}/a/b-c`,
        `${prefix}/a0`,
        `${prefix}/aA`,
        `${prefix}/aa/x`,
        `${prefix}/b`,
        `${prefix}0`,
      ];
      for (const name of names.toReversed()) await store.create(name, bodyOf(Buffer.from(name)));
      const sorted = names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      assert.deepEqual(await namesOf(store, prefix), sorted);
      for (const cut of ["/a", "/a/", "/a/b", "/a/b/", "/aa", "/b", "/c", "/a-"])
        assert.deepEqual(
          await namesOf(second, prefix + cut),
          sorted.filter((name) => name.startsWith(prefix + cut)),
          cut,
        );
      for (const head of (await store.list(`${prefix}/`)).objects)
        assert.equal(head.sizeBytes, head.name.length);
    });

    test("pages go on where the last one ended, and after any name", async () => {
      const prefix = fresh();
      const names = Array.from(
        { length: 23 },
        (_, index) => `${prefix}/${index % 3}/${String(index).padStart(4, "0")}.seg`,
      ).toSorted();
      await Promise.all(names.map((name) => store.create(name, bodyOf(Buffer.from("x")))));
      for (const pageMax of [1, 5, 22, 23, 24, LIST_PAGE_MAX]) {
        const seen: string[] = [];
        let next: string | undefined;
        do {
          const page = await store.list(`${prefix}/`, {
            pageMax,
            ...(next === undefined ? {} : { after: next }),
          });
          assert.ok(page.objects.length <= pageMax);
          seen.push(...page.objects.map((object) => object.name));
          next = page.next;
        } while (next !== undefined);
        assert.deepEqual(seen, names, `pages of ${pageMax}`);
      }
      assert.deepEqual(await namesOf(store, `${prefix}/`), names);
      const afters = [
        ...names,
        `${prefix}/1`,
        `${prefix}/1/0004`,
        `${prefix}/1/0004.seh`,
        "0",
        "z",
      ];
      for (const after of afters) {
        const greater = names.filter((name) => name > after);
        const page = await store.list(`${prefix}/`, { after, pageMax: 4 });
        const { length } = page.objects;
        assert.ok(length <= 4 && (length > 0 || greater.length === 0), `${length} after ${after}`);
        assert.deepEqual(
          page.objects.map((object) => object.name),
          greater.slice(0, length),
          `after ${after}`,
        );
        assert.equal(page.next !== undefined, length < greater.length, `next after ${after}`);
      }
      assert.deepEqual(await store.list(`${prefix}/none`), { objects: [] });
    });

    test("a big streamed body arrives whole, and its parts can be read", async () => {
      const name = `${fresh()}/big`;
      const bytes = randomBytes(BIG_BYTES);
      await store.create(name, piecewise(bytes, 70_001), { oid: "big" });
      assert.equal((await store.head(name)).sizeBytes, BIG_BYTES);
      const target = Buffer.alloc(3 * MIB);
      await store.read(name, 4_000_003, target);
      assert.ok(target.equals(bytes.subarray(4_000_003, 4_000_003 + target.length)));
      assert.ok((await readWhole(second, name)).equals(bytes));
    });

    test("a source that writes to what was released at once is stored whole", async () => {
      const name = `${fresh()}/released`;
      const bytes = randomBytes(24 * MIB);
      await store.create(name, reusing(bytes, MIB));
      assert.ok(bytes.equals(await readWhole(store, name)));
    });

    test("a body that fails or is too short or too long creates nothing", async () => {
      const prefix = fresh();
      const bytes = randomBytes(200_000);
      const broken: ObjectBody = {
        sizeBytes: bytes.length,
        async *open() {
          yield bytes.subarray(0, 100_000);
          await Promise.resolve();
          throw new OsrError(STORE_ERRORS.OBJECT_BODY_INVALID, "the spool is damaged");
        },
      };
      const short = { ...piecewise(bytes.subarray(0, 150_000), 50_000), sizeBytes: bytes.length };
      const long = { ...piecewise(bytes, 50_000), sizeBytes: 150_000 };
      for (const [key, body] of Object.entries({ broken, short, long })) {
        await rejects(
          store.create(`${prefix}/${key}`, body),
          STORE_ERRORS.OBJECT_BODY_INVALID,
          key,
        );
        await rejects(store.head(`${prefix}/${key}`), STORE_ERRORS.OBJECT_NOT_FOUND, key);
      }
      assert.deepEqual(await namesOf(store, prefix), []);
      await store.create(`${prefix}/broken`, bodyOf(bytes));
    });

    test("names that are none are refused by every call", async () => {
      const names = [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "../../etc/passwd",
        "a/./b",
        "a b",
        "a\\b",
        "a\0b",
        "a%2f..",
        "ä",
        "a\n",
        "a?b",
        "x".repeat(256),
        `${"x/".repeat(OBJECT_NAME_CHARS_MAX / 2)}y`,
      ];
      const invalid = STORE_ERRORS.OBJECT_NAME_INVALID;
      for (const name of names) {
        await rejects(store.create(name, bodyOf(Buffer.from("x"))), invalid, name);
        await rejects(store.head(name), invalid, name);
        await rejects(store.read(name, 0, Buffer.alloc(1)), invalid, name);
        await rejects(store.readStart(name, Buffer.alloc(1)), invalid, name);
        await rejects(store.delete(name), invalid, name);
      }
      for (const prefix of ["/", "a//", "../", "a/../", "a b", "ä"])
        await rejects(store.list(prefix), invalid, prefix);
      for (const oid of ["", "a b", "a\r\nb", "ä", "x".repeat(65)])
        await rejects(store.create("a", bodyOf(Buffer.from("x")), { oid }), invalid, oid);
      const longest = `${fresh()}/${"y".repeat(255)}`;
      await store.create(longest, bodyOf(Buffer.from("x")));
      assert.deepEqual(await namesOf(store, longest), [longest]);
      assert.deepEqual(await namesOf(store, `${longest.slice(0, 13)}..`), []);
    });

    test("every call rejects with the reason of an aborted signal", async () => {
      const name = `${fresh()}/aborted`;
      const reason = new Error("enough");
      const signal = AbortSignal.abort(reason);
      const isReason = (error: unknown): boolean => error === reason;
      const body = bodyOf(Buffer.from("x"));
      await assert.rejects(store.create(name, body, { signal }), isReason);
      await rejects(store.head(name), STORE_ERRORS.OBJECT_NOT_FOUND);
      await store.create(name, body);
      await assert.rejects(store.head(name, signal), isReason);
      await assert.rejects(store.read(name, 0, Buffer.alloc(1), signal), isReason);
      await assert.rejects(store.readStart(name, Buffer.alloc(1), signal), isReason);
      await assert.rejects(store.list("contract/", { signal }), isReason);
      await assert.rejects(store.delete(name, signal), isReason);
      assert.equal(String(await readWhole(store, name)), "x");
    });

    test("a create that is aborted within its body ends at once and creates nothing", async () => {
      const name = `${fresh()}/stuck`;
      const reason = new Error("enough");
      const controller = new AbortController();
      const stuck: ObjectBody = {
        sizeBytes: 2 * MIB,
        async *open() {
          yield Buffer.alloc(MIB);
          setTimeout(() => controller.abort(reason), 50);
          await new Promise(() => undefined);
        },
      };
      await assert.rejects(
        store.create(name, stuck, { signal: controller.signal }),
        (error) => error === reason,
      );
      await rejects(store.head(name), STORE_ERRORS.OBJECT_NOT_FOUND);
      await store.create(name, bodyOf(Buffer.from("x")));
    });
  });
}

function pick(head: { name: string; sizeBytes: number; oid?: string }): object {
  const { name, sizeBytes, oid } = head;
  return { name, sizeBytes, ...(oid === undefined ? {} : { oid }) };
}

/** A body that comes in pieces, as one from a file or a connection does. */
/** A body that uses the memory of its pieces again as soon as it may. */
function reusing(bytes: Buffer, pieceBytes: number): ObjectBody {
  const free: Buffer[] = [];
  return {
    sizeBytes: bytes.length,
    async *open() {
      for (let offset = 0; offset < bytes.length; offset += pieceBytes) {
        const piece = free.pop() ?? Buffer.alloc(pieceBytes);
        bytes.copy(piece, 0, offset);
        await Promise.resolve();
        yield piece;
      }
    },
    release(piece) {
      piece.fill(0xee);
      free.push(piece as Buffer);
    },
  };
}

function piecewise(bytes: Buffer, pieceBytes: number): ObjectBody {
  return {
    sizeBytes: bytes.length,
    async *open() {
      for (let offset = 0; offset < bytes.length; offset += pieceBytes) {
        await Promise.resolve();
        yield bytes.subarray(offset, offset + pieceBytes);
      }
    },
  };
}

async function namesOf(store: ObjectStore, prefix: string): Promise<string[]> {
  const names: string[] = [];
  for await (const object of listAll(store, prefix)) names.push(object.name);
  return names;
}

function isError(error: unknown, info: ErrorInfo): void {
  assert.ok(error instanceof OsrError, `${String(error)} is not an OsrError`);
  assert.equal(error.code, info.code, error.message);
  assert.equal(error.retryable, info.retryable);
}

async function rejects(call: Promise<unknown>, info: ErrorInfo, about = ""): Promise<void> {
  const outcome = await call.then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
  assert.ok(outcome !== undefined, `expected ${info.code}: ${about}`);
  isError(outcome.error, info);
}
