import assert from "node:assert/strict";
import { suite, test } from "node:test";

import * as fc from "fast-check";

import { ModelSource } from "./model-source.contract.ts";
import { goData, metaContextData } from "./nbd-client.contract.ts";
import { OPTIONS, OPTIONS_MAX, OPTION_BYTES_MAX, OPTION_REPLIES } from "./nbd-protocol.ts";
import { decodeInfoRequest, decodeMetaContextRequest } from "./negotiation-codec.ts";
import { Negotiation, type NegotiationStep } from "./negotiation.ts";

const NOTHING = Buffer.alloc(0);
const vda = new ModelSource(Buffer.alloc(1000));
const vdb = new ModelSource(Buffer.alloc(2000));

function negotiationOf(names: readonly string[], tlsRequired = false): Negotiation {
  const sources = new Map([
    ["vda", vda],
    ["vdb", vdb],
  ]);
  const exports = new Map([...sources].filter(([name]) => names.includes(name)));
  return new Negotiation(exports, { tlsRequired });
}

function replyTypes(step: NegotiationStep): number[] {
  const types: number[] = [];
  for (let at = 0; at < step.reply.length; at += 20 + step.reply.readUInt32BE(at + 16))
    types.push(step.reply.readUInt32BE(at + 12));
  return types;
}

void suite("negotiation", () => {
  test("lists every export", () => {
    const step = negotiationOf(["vda", "vdb"]).option(OPTIONS.LIST, NOTHING);
    assert.equal(step.next, "continue");
    assert.deepEqual(replyTypes(step), [
      OPTION_REPLIES.SERVER,
      OPTION_REPLIES.SERVER,
      OPTION_REPLIES.ACK,
    ]);
    assert.ok(step.reply.includes("vda") && step.reply.includes("vdb"));
  });

  test("GO begins the transmission of the named export; the empty name means the only one", () => {
    const named = negotiationOf(["vda", "vdb"]).option(OPTIONS.GO, goData("vdb"));
    assert.ok(named.next === "transmit" && named.agreement.source === vdb);
    const only = negotiationOf(["vda"]).option(OPTIONS.GO, goData(""));
    assert.ok(only.next === "transmit" && only.agreement.exportName === "vda");
    const unclear = negotiationOf(["vda", "vdb"]).option(OPTIONS.GO, goData(""));
    assert.deepEqual(replyTypes(unclear), [OPTION_REPLIES.UNKNOWN_EXPORT]);
  });

  test("base:allocation holds for the export that it was chosen for", () => {
    const chooses = (of: string, goes: string): boolean => {
      const negotiation = negotiationOf(["vda", "vdb"]);
      negotiation.option(OPTIONS.STRUCTURED_REPLY, NOTHING);
      negotiation.option(OPTIONS.SET_META_CONTEXT, metaContextData(of, ["base:allocation"]));
      const step = negotiation.option(OPTIONS.GO, goData(goes));
      assert.ok(step.next === "transmit");
      return step.agreement.allocation;
    };
    assert.ok(chooses("vda", "vda"));
    assert.ok(!chooses("vda", "vdb"));
  });

  test("contexts need structured replies; a failed choice takes back the one before", () => {
    const negotiation = negotiationOf(["vda"]);
    const data = metaContextData("vda", ["base:allocation"]);
    assert.deepEqual(replyTypes(negotiation.option(OPTIONS.SET_META_CONTEXT, data)), [
      OPTION_REPLIES.INVALID,
    ]);
    negotiation.option(OPTIONS.STRUCTURED_REPLY, NOTHING);
    negotiation.option(OPTIONS.SET_META_CONTEXT, data);
    negotiation.option(OPTIONS.SET_META_CONTEXT, metaContextData("other", ["base:allocation"]));
    const step = negotiation.option(OPTIONS.GO, goData("vda"));
    assert.ok(step.next === "transmit" && !step.agreement.allocation);
  });

  test("where TLS is required nothing is told before it, and nothing from before it holds after it", () => {
    const negotiation = negotiationOf(["vda"], true);
    for (const option of [OPTIONS.LIST, OPTIONS.GO, OPTIONS.INFO, OPTIONS.STRUCTURED_REPLY, 77])
      assert.deepEqual(replyTypes(negotiation.option(option, NOTHING)), [
        OPTION_REPLIES.TLS_REQUIRED,
      ]);
    assert.equal(negotiation.option(OPTIONS.EXPORT_NAME, Buffer.from("vda")).next, "drop");
    assert.equal(negotiation.option(OPTIONS.STARTTLS, NOTHING).next, "tls");
    negotiation.secured();
    const step = negotiation.option(OPTIONS.GO, goData("vda"));
    assert.ok(step.next === "transmit" && !step.agreement.structuredReplies);
  });

  test("STARTTLS is refused where there is no TLS, and a second time", () => {
    const clear = negotiationOf(["vda"]);
    assert.deepEqual(replyTypes(clear.option(OPTIONS.STARTTLS, NOTHING)), [
      OPTION_REPLIES.UNSUPPORTED,
    ]);
    const secured = negotiationOf(["vda"], true);
    secured.secured();
    assert.deepEqual(replyTypes(secured.option(OPTIONS.STARTTLS, NOTHING)), [
      OPTION_REPLIES.INVALID,
    ]);
  });

  test("client flags that are not known are refused", () => {
    assert.ok(negotiationOf(["vda"]).acceptClientFlags(3));
    assert.ok(negotiationOf(["vda"]).acceptClientFlags(0));
    assert.ok(!negotiationOf(["vda"]).acceptClientFlags(4));
    assert.ok(!negotiationOf(["vda"]).acceptClientFlags(0xffff_ffff));
  });

  test("a client that haggles without end is dropped", () => {
    const negotiation = negotiationOf(["vda"]);
    const steps = Array.from({ length: OPTIONS_MAX + 1 }, () => negotiation.option(99, NOTHING));
    assert.equal(steps.at(-2)?.next, "continue");
    assert.equal(steps.at(-1)?.next, "drop");
  });

  test("fuzz: any bytes in any option give a well-formed answer", () => {
    const option = fc.oneof(fc.integer({ min: 0, max: 12 }), fc.nat());
    const data = fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      fc.uint8Array({ maxLength: OPTION_BYTES_MAX }),
      fc.constant(goData("vda", [0, 1, 3])),
      fc.constant(metaContextData("vda", ["base:allocation"])),
    );
    fc.assert(
      fc.property(
        fc.array(fc.tuple(option, data), { maxLength: 20 }),
        fc.boolean(),
        (options, tls) => {
          const negotiation = negotiationOf(["vda", "vdb"], tls);
          for (const [code, bytes] of options) {
            const step = negotiation.option(code, Buffer.from(bytes));
            if (step.next === "transmit") return !tls;
            if (step.next === "tls") negotiation.secured();
            if (step.next !== "drop") assert.ok(replyTypes(step).length > 0);
            if (tls && step.next === "tls") return true;
          }
          return true;
        },
      ),
      { numRuns: 500, seed: 20_260_102 },
    );
  });

  test("fuzz: requests decode to what was encoded, and any other bytes to nothing or to a request", () => {
    const name = fc.string({ maxLength: 40, unit: "grapheme" });
    fc.assert(
      fc.property(
        name,
        fc.array(fc.integer({ min: 0, max: 65_535 }), { maxLength: 20 }),
        (text, infos) => {
          assert.deepEqual(decodeInfoRequest(goData(text, infos)), { name: text, infos });
        },
      ),
      { seed: 20_260_103 },
    );
    fc.assert(
      fc.property(name, fc.array(name, { maxLength: 10 }), (text, queries) => {
        assert.deepEqual(decodeMetaContextRequest(metaContextData(text, queries)), {
          name: text,
          queries,
        });
      }),
      { seed: 20_260_104 },
    );
    // A count or length that promises more than there is must not be believed.
    const cut = metaContextData("vda", ["base:allocation", "qemu:dirty"]);
    for (let length = 0; length < cut.length; length++)
      assert.equal(decodeMetaContextRequest(cut.subarray(0, length)), undefined);
    cut.writeUInt32BE(0xffff_ffff, 7);
    assert.equal(decodeMetaContextRequest(cut), undefined);
  });
});
