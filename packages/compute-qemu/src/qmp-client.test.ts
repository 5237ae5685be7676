import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { type Server, type Socket, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { after, before, suite, test } from "node:test";

import { OsrError } from "@osr/base/errors";
import { systemScheduler } from "@osr/base/platform/system-scheduler";

import { type QmpClient, connectQmp } from "./qmp-client.ts";
import type { QmpEvent } from "./qmp-event.ts";

const GREETING = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}\r\n`;

type Command = { readonly execute: string; readonly arguments: object; readonly id: number };
/** What the scripted QEMU sends for a command, after it has agreed to the capabilities. */
type Script = (command: Command, socket: Socket) => void;

suite("QMP client", () => {
  let directory = "";
  const servers: Server[] = [];
  const sockets: Socket[] = [];
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "osr-qmp-"));
  });
  after(async () => {
    for (const socket of sockets) socket.destroy();
    for (const server of servers) server.close();
    await rm(directory, { recursive: true });
  });

  async function listen(serve: (socket: Socket) => void): Promise<string> {
    const path = join(directory, `${servers.length}.sock`);
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on("error", () => undefined);
      serve(socket);
    });
    servers.push(server);
    server.listen(path);
    await once(server, "listening");
    return path;
  }

  async function scripted(script: Script): Promise<string> {
    return listen((socket) => {
      socket.write(GREETING);
      let text = "";
      socket.on("data", (chunk) => {
        text += chunk.toString();
        const lines = text.split("\n");
        text = lines.pop() ?? "";
        for (const line of lines) {
          const command = JSON.parse(line) as Command;
          if (command.execute === "qmp_capabilities") answer(socket, command, {});
          else script(command, socket);
        }
      });
    });
  }

  async function open(path: string, onEvent?: (event: QmpEvent) => void): Promise<QmpClient> {
    return connectQmp({
      socketPath: path,
      scheduler: systemScheduler,
      timeoutMs: 2000,
      ...(onEvent === undefined ? {} : { onEvent }),
    });
  }

  test("answers reach their commands, in whatever order and pieces they come", async () => {
    const waiting: Command[] = [];
    const path = await scripted((command, socket) => {
      waiting.push(command);
      if (waiting.length < 3) return;
      const text = waiting
        .toReversed()
        .map(({ id, execute }) => `${JSON.stringify({ return: { execute, text: "é€" }, id })}\n`)
        .join("");
      const bytes = Buffer.from(text);
      for (let offset = 0; offset < bytes.byteLength; offset += 7)
        socket.write(bytes.subarray(offset, offset + 7));
    });
    using qmp = await open(path);
    const answers = await Promise.all(["a", "b", "c"].map((name) => qmp.execute(name)));
    assert.deepEqual(
      answers,
      ["a", "b", "c"].map((execute) => ({ execute, text: "é€" })),
    );
  });

  test("events are typed; unknown ones are named", async () => {
    const events: QmpEvent[] = [];
    const path = await scripted((command, socket) => {
      const timestamp = { seconds: 1, microseconds: 2 };
      for (const [event, data] of [
        ["SHUTDOWN", { guest: true, reason: "guest-shutdown" }],
        ["STOP", undefined],
        [
          "BLOCK_IO_ERROR",
          { device: "", operation: "write", action: "stop", reason: "No space", nospace: true },
        ],
        ["NIC_RX_FILTER_CHANGED", { name: "x" }],
      ])
        socket.write(`${JSON.stringify({ event, data, timestamp })}\n`);
      answer(socket, command, {});
    });
    using qmp = await open(path, (event) => events.push(event));
    await qmp.execute("x");
    assert.deepEqual(events, [
      { name: "SHUTDOWN", guest: true, reason: "guest-shutdown" },
      { name: "STOP" },
      {
        name: "BLOCK_IO_ERROR",
        device: "",
        operation: "write",
        action: "stop",
        reason: "No space",
        noSpace: true,
      },
      { name: "OTHER", event: "NIC_RX_FILTER_CHANGED" },
    ]);
  });

  test("a refusal carries QEMU's class and words", async () => {
    const path = await scripted(({ id }, socket) =>
      socket.write(`${JSON.stringify({ id, error: { class: "CommandNotFound", desc: "no" } })}\n`),
    );
    using qmp = await open(path);
    await assert.rejects(qmp.execute("nonsense"), {
      code: "QMP_REFUSED",
      message: "QEMU refused: no",
      details: { class: "CommandNotFound" },
    });
  });

  test("a command that is not answered ends by its limit, and a late answer harms nobody", async () => {
    const path = await scripted((command, socket) => {
      if (command.execute === "slow") setTimeout(() => answer(socket, command, "late"), 60);
      if (command.execute === "after") setTimeout(() => answer(socket, command, "after"), 90);
    });
    using qmp = await open(path);
    await assert.rejects(qmp.execute("slow", {}, 20), { code: "QMP_UNAVAILABLE", retryable: true });
    assert.equal(await qmp.execute("after"), "after");
  });

  test("everything that waits is rejected when QEMU goes", async () => {
    const path = await scripted((_, socket) => socket.destroy());
    using qmp = await open(path);
    await assert.rejects(qmp.execute("x"), { code: "QMP_UNAVAILABLE" });
    await qmp.closed;
    await assert.rejects(qmp.execute("y"), { code: "QMP_UNAVAILABLE" });
  });

  test("closing rejects what waits and ends the connection", async () => {
    const path = await scripted(() => undefined);
    const qmp = await open(path);
    const waiting = assert.rejects(qmp.execute("x"), { code: "QMP_UNAVAILABLE" });
    qmp[Symbol.dispose]();
    await waiting;
    await qmp.closed;
  });

  test("no socket, no greeting, an abort: connecting ends", async () => {
    await assert.rejects(open(join(directory, "none.sock")), { code: "QMP_UNAVAILABLE" });
    const silent = await listen(() => undefined);
    const options = { socketPath: silent, scheduler: systemScheduler };
    await assert.rejects(connectQmp({ ...options, timeoutMs: 30 }), { code: "QMP_UNAVAILABLE" });
    const stopping = new AbortController();
    const connecting = connectQmp({ ...options, timeoutMs: 5000, signal: stopping.signal });
    setTimeout(() => stopping.abort(new Error("enough")), 20);
    await assert.rejects(connecting, /enough/);
  });

  test("a line without end is refused, not collected", async () => {
    const path = await scripted((_, socket) => socket.write(Buffer.alloc(5 * 1024 * 1024, 0x20)));
    using qmp = await open(path);
    await assert.rejects(qmp.execute("x"), { code: "QMP_PROTOCOL" });
  });

  test("garbage of any kind ends in an error of ours, never in a hang or a crash", async () => {
    const random = mulberry(20_240_817);
    for (let round = 0; round < 300; round++) {
      const garbage = garbageOf(random);
      const path = await scripted((command, socket) => {
        socket.write(garbage);
        // Where the garbage is harmless the answer comes; where it has no line end, it spoils the answer.
        answer(socket, command, "fine");
      });
      using qmp = await open(path);
      const outcome = await qmp.execute("x", {}, 1000).then(
        (value) => value,
        (error: unknown) => error,
      );
      const isExpected =
        outcome === "fine" ||
        (outcome instanceof OsrError && ["QMP_PROTOCOL", "QMP_REFUSED"].includes(outcome.code)) ||
        // A line that looks like an answer to the command is one.
        garbage.toString().includes('"id":2');
      assert.ok(
        isExpected,
        `round ${round}: ${JSON.stringify(garbage.toString())} gave ${outcome}`,
      );
    }
  });
});

function answer(socket: Socket, command: Command, value: unknown): void {
  socket.write(`${JSON.stringify({ return: value, id: command.id })}\n`);
}

function garbageOf(random: () => number): Buffer {
  const below = (limit: number): number => Math.floor(random() * limit);
  const pick = (texts: readonly string[]): string => texts[below(texts.length)] ?? "";
  const kind = below(3);
  if (kind === 0) return Buffer.from(Array.from({ length: below(200) }, () => below(256)));
  const line = pick([
    "[]\n",
    "null\n",
    "1\n",
    '"QMP"\n',
    "{}\n",
    "\n",
    "\r\n",
    '{"return":{}}\n',
    '{"return":{},"id":99}\n',
    '{"return":{},"id":"2"}\n',
    '{"return":1,"id":2}\n',
    '{"error":null,"id":2}\n',
    '{"error":{"class":1},"id":2}\n',
    '{"event":"SHUTDOWN"}\n',
    '{"event":"SHUTDOWN","data":{"guest":1}}\n',
    '{"event":"RESET","data":[]}\n',
    '{"event":"BLOCK_IO_ERROR","data":{}}\n',
    '{"event":1}\n',
    '{"event":"__proto__","data":null}\n',
    GREETING,
  ]);
  if (kind === 1) return Buffer.from(line);
  const bytes = Buffer.from(line + line);
  for (let flips = below(4); flips >= 0; flips--) bytes[below(bytes.byteLength)] = below(256);
  return bytes;
}

/** A small seeded generator, so that a failing round can be had again. */
function mulberry(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
