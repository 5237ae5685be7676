import assert from "node:assert/strict";

import * as fc from "fast-check";

import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { mutated, mutations } from "@osr/base/testing/mutated-bytes";

import { ModelSource } from "./model-source.contract.ts";
import { goData, metaContextData } from "./nbd-client.contract.ts";
import { OPTIONS, OPTIONS_MAX, OPTION_BYTES_MAX } from "./nbd-protocol.ts";
import { Negotiation, type NegotiationStep } from "./negotiation.ts";

const exports = new Map([
  ["vda", new ModelSource(Buffer.alloc(1000))],
  ["vdb", new ModelSource(Buffer.alloc(2000))],
]);

const option = fc.oneof(fc.constantFrom(...Object.values(OPTIONS)), fc.nat(2 ** 32 - 1));
const whole = fc.constantFrom(
  goData("vda", [0, 1, 3]),
  goData(""),
  metaContextData("vda", ["base:allocation", "qemu:dirty"]),
  Buffer.from("vdb"),
  Buffer.alloc(0),
);
const data = fc.oneof(
  whole,
  fc.tuple(whole, mutations).map(([bytes, changes]) => mutated(bytes, changes)),
  fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
);

/** The answer is whole option replies and nothing else; EXPORT_NAME answers without their header. */
function checkReplies({ next, reply }: NegotiationStep, code: number): void {
  if (next === "drop" || (next === "transmit" && code === OPTIONS.EXPORT_NAME)) return;
  let at = 0;
  for (; at < reply.length; at += 20 + reply.readUInt32BE(at + 16))
    assert.equal(reply.readUInt32BE(at + 8), code);
  assert.ok(at === reply.length && at > 0, "whole replies");
}

export const nbdNegotiationFuzz = fuzzTarget(
  "nbd-negotiation",
  "any options in any order: well-formed answers, and no export before TLS where that is required",
  fc.property(
    fc.array(fc.tuple(option, data), { maxLength: 20 }),
    fc.boolean(),
    (options, tlsRequired) => {
      const negotiation = new Negotiation(exports, { tlsRequired });
      let isSecure = !tlsRequired;
      for (const [code, bytes] of options) {
        const step = negotiation.option(code, bytes.subarray(0, OPTION_BYTES_MAX));
        checkReplies(step, code);
        if (!isSecure) assert.ok(!/vd[ab]/.test(step.reply.toString("latin1")), "told before TLS");
        if (step.next === "transmit") {
          assert.ok(isSecure, "an export before TLS");
          assert.equal(exports.get(step.agreement.exportName), step.agreement.source);
          return;
        }
        if (step.next === "tls") {
          negotiation.secured();
          isSecure = true;
        }
      }
      assert.ok(options.length <= OPTIONS_MAX);
    },
  ),
);
