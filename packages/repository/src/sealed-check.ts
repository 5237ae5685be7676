import type { OsrError } from "@osr/base/errors";
import type { Uuid } from "@osr/base/uuid";

import { type ObjectHead, type ObjectStore } from "./object-store.ts";
import {
  type SealedState,
  brokenSeal,
  decodeSealedState,
  parseSealed,
  sealedHash,
  SEALED_BYTES_MAX,
} from "./sealed-state.ts";
import { readSmallObject } from "./small-object.ts";

/**
 * Checks the sealed objects of one vault, in the order of their numbers: each by itself, and that each follows the one before.
 * Without the vault key only their outer form is known. What is before the newest whole one may be gone.
 */
export class SealedCheck {
  readonly #store: ObjectStore;
  readonly #vault: { readonly vaultId: Uuid; readonly vaultKey: Buffer | undefined };
  readonly #signal: AbortSignal | undefined;
  #first: { readonly name: string; readonly state: SealedState } | undefined;
  #before: { readonly sha256: string; readonly state: SealedState } | undefined;
  #hasWhole = false;

  constructor(
    store: ObjectStore,
    vault: { readonly vaultId: Uuid; readonly vaultKey: Buffer | undefined },
    signal: AbortSignal | undefined,
  ) {
    this.#store = store;
    this.#vault = vault;
    this.#signal = signal;
  }

  /** Throws SEALED_STATE_INVALID, SEALED_STATE_BROKEN, FORMAT_NEWER. */
  async check({ name }: ObjectHead, number: number): Promise<void> {
    const { vaultId, vaultKey } = this.#vault;
    const bytes = await readSmallObject(this.#store, name, SEALED_BYTES_MAX, this.#signal);
    if (vaultKey === undefined) return void parseSealed(bytes);
    const state = decodeSealedState(bytes, { vaultId, vaultKey, number });
    const before = this.#before;
    this.#first ??= { name, state };
    this.#before = { sha256: sealedHash(bytes), state };
    this.#hasWhole ||= state.kind === "whole";
    if (before === undefined) return;
    if (state.previous !== before.sha256)
      throw brokenSeal(`object ${number} does not follow the authentic one before it`);
    if (state.epoch < before.state.epoch)
      throw brokenSeal(`object ${number} has an older epoch than the one before it`);
  }

  /** What is wrong with all of them together. */
  end(): { readonly object: string; readonly error: OsrError } | undefined {
    const first = this.#first;
    if (first === undefined || this.#hasWhole || first.state.previous === "") return undefined;
    return {
      object: first.name,
      error: brokenSeal(
        "nothing of what was sealed before it is there, and no whole state after it",
      ),
    };
  }
}
