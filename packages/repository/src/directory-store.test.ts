import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  access,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rm,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";

import { OsrError } from "@osr/base/errors";
import { systemRandomness as randomness } from "@osr/base/platform/system-randomness";
import { MIB, TIB } from "@osr/base/units";

import { type DirectoryStore, openDirectoryStore } from "./directory-store.ts";
import { objectStoreContract } from "./object-store.contract.ts";
import { bodyOf, readWhole } from "./object-store.ts";

type TemporaryDirectory = AsyncDisposable & { readonly path: string };

async function temporaryDirectory(): Promise<TemporaryDirectory> {
  const path = await mkdtemp(join(tmpdir(), "osr-directory-store-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

function writable(path: string): Promise<DirectoryStore> {
  return openDirectoryStore(path, { access: "write", randomness });
}

function coded(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof OsrError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  };
}

objectStoreContract("directory", async () => {
  const directory = await temporaryDirectory();
  return {
    store: await writable(directory.path),
    second: await writable(directory.path),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
});

suite("directory store", () => {
  test("an object's file begins with its bytes, and nothing is left in creating", async () => {
    await using directory = await temporaryDirectory();
    const store = await writable(directory.path);
    const bytes = randomBytes(10_000);
    await store.create("v1/x.seg", bodyOf(bytes), { oid: "abc" });
    await assert.rejects(store.create("v1/x.seg", bodyOf(bytes)), coded("OBJECT_EXISTS"));
    const file = await readFile(join(directory.path, "objects/v1/x.seg"));
    assert.ok(file.subarray(0, bytes.length).equals(bytes));
    assert.deepEqual(await readdir(join(directory.path, "creating")), []);
  });

  test("leftovers of a crash are swept at open and never shown", async () => {
    await using directory = await temporaryDirectory();
    const store = await writable(directory.path);
    await store.create("a", bodyOf(Buffer.from("a")));
    const leftover = join(directory.path, "creating", "0123");
    await writeFile(leftover, "half");
    assert.deepEqual((await store.list("")).objects.length, 1);
    await openDirectoryStore(directory.path, { access: "read" });
    await access(leftover);
    await writable(directory.path);
    await assert.rejects(access(leftover));
    assert.equal(String(await readWhole(store, "a")), "a");
  });

  test("for reading it changes nothing and refuses to write", async () => {
    await using directory = await temporaryDirectory();
    const missing = join(directory.path, "missing");
    await assert.rejects(openDirectoryStore(missing, { access: "read" }), coded("STORE_MISSING"));
    await assert.rejects(access(missing));
    const store = await writable(directory.path);
    await store.create("v1/a", bodyOf(Buffer.from("a")), { oid: "o" });
    const reader = await openDirectoryStore(directory.path, { access: "read" });
    assert.equal((await reader.head("v1/a")).oid, "o");
    assert.equal((await reader.list("v1/")).objects.length, 1);
    await assert.rejects(reader.create("b", bodyOf(Buffer.from("b"))), coded("STORE_FORBIDDEN"));
    await assert.rejects(reader.delete("v1/a"), coded("STORE_FORBIDDEN"));
  });

  test("a file that was cut or changed at its end is OBJECT_DAMAGED, not a shorter object", async () => {
    await using directory = await temporaryDirectory();
    const store = await writable(directory.path);
    for (const cut of [1, 95, 96, 5000]) {
      await store.create(`cut-${cut}`, bodyOf(randomBytes(6000)), { oid: "x" });
      const path = join(directory.path, `objects/cut-${cut}`);
      await truncate(path, 6096 - cut);
      await assert.rejects(store.head(`cut-${cut}`), coded("OBJECT_DAMAGED"));
    }
    await store.create("shorter", bodyOf(randomBytes(6000)));
    const path = join(directory.path, "objects/shorter");
    await writeFile(path, (await readFile(path)).subarray(100));
    await assert.rejects(store.head("shorter"), coded("OBJECT_DAMAGED"));
    await writeFile(join(directory.path, "objects/tiny"), "x");
    await assert.rejects(store.read("tiny", 0, Buffer.alloc(1)), coded("OBJECT_DAMAGED"));
    assert.equal((await store.list("")).objects.length, 6);
  });

  test("a name may not go on where another one ends", async () => {
    await using directory = await temporaryDirectory();
    const store = await writable(directory.path);
    await store.create("a/b", bodyOf(Buffer.from("x")));
    for (const name of ["a", "a/b/c", "a/b/c/d"])
      await assert.rejects(
        store.create(name, bodyOf(Buffer.from("x"))),
        coded("OBJECT_NAME_INVALID"),
      );
    for (const name of ["a", "a/b/c"]) {
      await assert.rejects(store.head(name), coded("OBJECT_NOT_FOUND"));
      await store.delete(name);
    }
    assert.equal((await store.list("")).objects.length, 1);
  });

  test("space that is kept free, bodies under way included, is STORE_FULL", async () => {
    await using directory = await temporaryDirectory();
    const full = await openDirectoryStore(directory.path, {
      access: "write",
      randomness,
      freeBytesMin: 1024 * TIB,
    });
    await assert.rejects(full.create("a", bodyOf(Buffer.from("x"))), (error) => {
      assert.ok(coded("STORE_FULL")(error) && error instanceof OsrError);
      return error.retryable;
    });
    assert.deepEqual(await readdir(join(directory.path, "creating")), []);
  });

  test("a disk that fills up within a body is STORE_FULL and leaves nothing", async (t) => {
    await using directory = await temporaryDirectory();
    const mount = join(directory.path, "disk");
    await mkdir(mount);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", mount], { stdio: "ignore" });
    } catch {
      t.skip("mounting a small file system needs root");
      return;
    }
    try {
      const store = await openDirectoryStore(join(mount, "s"), {
        access: "write",
        randomness,
        freeBytesMin: 0,
      });
      const big = {
        sizeBytes: MIB,
        async *open() {
          for (let part = 0; part < 16; part++) {
            yield Buffer.alloc(MIB / 16);
            // Another user of the disk takes what was free when the create began.
            if (part === 0) await writeFile(join(mount, "other"), Buffer.alloc(1.5 * MIB));
          }
        },
      };
      await assert.rejects(store.create("big", big), coded("STORE_FULL"));
      assert.deepEqual(await readdir(join(mount, "s/creating")), []);
      assert.deepEqual(await store.list(""), { objects: [] });
      await rm(join(mount, "other"));
      await store.create("big", bodyOf(Buffer.alloc(MIB)));
    } finally {
      execFileSync("umount", [mount]);
    }
  });
});
