import assert from "node:assert/strict";
import { test } from "node:test";

import { canonicalJson } from "@osr/base/canonical-json";
import { uuidOfName } from "@osr/base/uuid";

import { sealedStateName } from "./object-names.ts";
import { type ObjectStore, bodyOf } from "./object-store.ts";
import { verifyRepository } from "./repository-check.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import {
  type SealedState,
  decodeSealedState,
  encodeSealedState,
  readSealedChain,
  sealedHash,
  sealedVaults,
} from "./sealed-state.ts";
import { coded } from "./testing/coded-error.ts";
import { GOLDEN_LOG, GOLDEN_NONCE, GOLDEN_VAULT_KEY } from "./testing/golden-values.ts";
import { temporaryStore } from "./testing/temporary-store.ts";

const vault = { vaultId: GOLDEN_LOG.vaultId, vaultKey: GOLDEN_VAULT_KEY };

function stateOf(values: Partial<SealedState>): SealedState {
  return {
    epoch: 1,
    writerId: uuidOfName("golden", "writer"),
    unixMs: 1_700_000_000_000,
    kind: "changes",
    previous: "",
    schema: 1,
    documents: [],
    ...values,
  };
}

async function put(store: ObjectStore, number: number, state: SealedState): Promise<string> {
  const bytes = encodeSealedState(state, { ...vault, number }, GOLDEN_NONCE);
  await store.create(sealedStateName(vault.vaultId, number), bodyOf(bytes));
  return sealedHash(bytes);
}

function document(id: string, seq: number, value: SealedState["documents"][number]["value"]) {
  return { kind: "policy", id, seq, value };
}

test("the last value of each document counts, and what is gone is gone", async () => {
  await using at = await temporaryStore();
  const first = [document("a", 1, { x: 1 }), document("b", 2, { x: 2 })];
  const one = await put(at.store, 1, stateOf({ documents: first }));
  const second = [document("a", 3, { x: 3 }), document("b", 4, null)];
  await put(at.store, 2, stateOf({ previous: one, documents: second }));
  const chain = await readSealedChain(at.store, vault);
  assert.deepEqual(chain?.documents, [document("a", 3, { x: 3 })]);
  assert.deepEqual([chain.number, chain.epoch, chain.forged], [2, 1, []]);
  assert.deepEqual(await sealedVaults(at.store), [vault.vaultId]);
});

test("reading begins with the newest whole object, so that older ones may be gone", async () => {
  await using at = await temporaryStore();
  const one = await put(at.store, 1, stateOf({ documents: [document("a", 1, { x: 1 })] }));
  const whole = stateOf({ kind: "whole", previous: one, documents: [document("b", 2, { x: 2 })] });
  const two = await put(at.store, 2, whole);
  await put(at.store, 3, stateOf({ previous: two, documents: [document("c", 3, { x: 3 })] }));
  await at.store.delete(sealedStateName(vault.vaultId, 1));
  const chain = await readSealedChain(at.store, vault);
  assert.deepEqual(
    chain?.documents.map(({ id }) => id),
    ["b", "c"],
  );
});

test("an object that is missing within the chain is told, whatever the numbers say", async () => {
  await using at = await temporaryStore();
  const one = await put(at.store, 1, stateOf({}));
  const two = await put(at.store, 2, stateOf({ previous: one }));
  await put(at.store, 3, stateOf({ previous: two }));
  await at.store.delete(sealedStateName(vault.vaultId, 2));
  const isBroken = coded(REPOSITORY_ERRORS.SEALED_STATE_BROKEN);
  await assert.rejects(readSealedChain(at.store, vault), isBroken);
  await at.store.delete(sealedStateName(vault.vaultId, 1));
  await assert.rejects(readSealedChain(at.store, vault), isBroken);
});

test("objects of somebody without the key are passed over, and named", async () => {
  await using at = await temporaryStore();
  const one = await put(at.store, 1, stateOf({ documents: [document("a", 1, { x: 1 })] }));
  const name = sealedStateName(vault.vaultId, 2);
  await at.store.create(name, bodyOf(Buffer.from("no sealed state")));
  await put(at.store, 3, stateOf({ previous: one, documents: [document("b", 2, { x: 2 })] }));
  const chain = await readSealedChain(at.store, vault);
  assert.deepEqual([chain?.forged, chain?.documents.length], [[2], 2]);
});

test("another key, another place and any other byte are refused", () => {
  const id = { ...vault, number: 1 };
  const bytes = encodeSealedState(stateOf({}), id, GOLDEN_NONCE);
  assert.deepEqual(decodeSealedState(bytes, id), stateOf({}));
  const isInvalid = coded(REPOSITORY_ERRORS.SEALED_STATE_INVALID);
  assert.throws(() => decodeSealedState(bytes, { ...id, vaultKey: Buffer.alloc(32) }), isInvalid);
  assert.throws(() => decodeSealedState(bytes, { ...id, number: 2 }), isInvalid);
  const fields = JSON.parse(bytes.toString("utf8"));
  for (const name of ["nonce", "ciphertext", "tag"]) {
    const value: string = fields[name];
    const changed = (value.startsWith("0") ? "1" : "0") + value.slice(1);
    const other = Buffer.from(canonicalJson({ ...fields, [name]: changed }), "utf8");
    assert.throws(() => decodeSealedState(other, id), isInvalid, name);
  }
});

test("a vault with nothing sealed has no chain; with a wrong key it is an error", async () => {
  await using at = await temporaryStore();
  assert.equal(await readSealedChain(at.store, vault), undefined);
  await put(at.store, 1, stateOf({}));
  const wrong = { ...vault, vaultKey: Buffer.alloc(32, 9) };
  await assert.rejects(
    readSealedChain(at.store, wrong),
    coded(REPOSITORY_ERRORS.SEALED_STATE_INVALID),
  );
});

test("a check of the repository reads the sealed state too: what does not open, and what does not follow", async () => {
  const findings = async (store: ObjectStore, hasKey = true): Promise<readonly string[]> => {
    const found: string[] = [];
    const { vaultId, vaultKey } = vault;
    for await (const event of verifyRepository(store, hasKey ? { vaultId, vaultKey } : { vaultId }))
      if (event.kind === "finding") found.push(`${event.code} ${event.object.slice(-7, -5)}`);
    return found;
  };
  await using at = await temporaryStore();
  const { store } = at;
  const one = await put(store, 1, stateOf({ documents: [document("a", 1, { x: 1 })] }));
  const two = await put(store, 2, stateOf({ previous: one, kind: "whole" }));
  assert.deepEqual([await findings(store), await findings(store, false)], [[], []]);
  await store.create(sealedStateName(vault.vaultId, 3), bodyOf(Buffer.from("{}")));
  assert.deepEqual(await findings(store), ["SEALED_STATE_INVALID 03"]);
  assert.deepEqual(await findings(store, false), ["SEALED_STATE_INVALID 03"]);
  await put(store, 4, stateOf({ previous: two, epoch: 2 }));
  await put(store, 5, stateOf({ previous: one, epoch: 2 }));
  assert.deepEqual(await findings(store), ["SEALED_STATE_INVALID 03", "SEALED_STATE_BROKEN 05"]);
  await store.delete(sealedStateName(vault.vaultId, 1));
  assert.deepEqual(await findings(store), ["SEALED_STATE_INVALID 03", "SEALED_STATE_BROKEN 05"]);
  await store.delete(sealedStateName(vault.vaultId, 2));
  assert.deepEqual(await findings(store), [
    "SEALED_STATE_INVALID 03",
    "SEALED_STATE_BROKEN 05",
    "SEALED_STATE_BROKEN 04",
  ]);
});
