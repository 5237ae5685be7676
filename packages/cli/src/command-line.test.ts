import assert from "node:assert/strict";
import { test } from "node:test";

import { runCommandLine } from "./command-line.ts";
import type { Output, OutputFormat } from "./output.ts";
import type { ManagementPorts } from "./management/management-ports.ts";
import { type Actions, type Print, createProgram } from "./program.ts";

type Call = { readonly action: string; readonly args: readonly unknown[] };

/** Actions that write down how they were called. */
function recorder(): { readonly actions: Actions; readonly calls: Call[] } {
  const calls: Call[] = [];
  const actions = new Proxy({} as Actions, {
    get:
      (_target, action) =>
      (...args: unknown[]) => {
        calls.push({ action: String(action), args: args.slice(0, -1) });
        return Promise.resolve({ done: String(action) });
      },
  });
  return { actions, calls };
}

const ports: ManagementPorts = {
  readContexts: () => ({ contexts: [] }),
  writeContexts: () => undefined,
  connect: () => Promise.reject(new Error("no vault here")),
};

async function run(
  ...words: string[]
): Promise<{ code: number; calls: Call[]; printed: unknown[] }> {
  const { actions, calls } = recorder();
  const printed: [Output, OutputFormat][] = [];
  const print: Print = (output, format) => printed.push([output, format]);
  const program = await createProgram(actions, "1.2.3", print, ports, words);
  const quiet = { writeOut: () => undefined, writeErr: () => undefined };
  const silence = (command: typeof program): void => {
    command.configureOutput(quiet);
    command.commands.forEach((inner) => silence(inner));
  };
  silence(program);
  const code = await runCommandLine(program, ["node", "osr", ...words]);
  return { code, calls, printed };
}

test("words and options reach the action, and its result is printed in the chosen format", async () => {
  const { code, calls, printed } = await run(
    "-o",
    "json",
    "repository",
    "materialise",
    "--site",
    "s",
    "--point",
    "latest",
    "--disk",
    "vda",
    "--out",
    "f",
  );
  assert.equal(code, 0);
  assert.deepEqual(calls, [
    {
      action: "repositoryMaterialise",
      args: [
        { container: "osr", format: "raw", site: "s", point: "latest", disk: "vda", out: "f" },
      ],
    },
  ]);
  assert.deepEqual(printed, [[{ done: "repositoryMaterialise" }, "json"]]);
});

test("the nouns of this machine are the same without those of the vault, which every other word brings", async () => {
  const { actions } = recorder();
  const helpOf = async (noun: string, words: readonly string[]): Promise<string | undefined> => {
    const program = await createProgram(actions, "1.2.3", () => undefined, ports, words);
    return program.commands.find((one) => one.name() === noun)?.helpInformation();
  };
  for (const noun of ["repository", "up", "failover", "storage-account"]) {
    const words = ["-o", "json", "--query=x", noun];
    assert.equal(await helpOf(noun, words), await helpOf(noun, []), noun);
    assert.equal(await helpOf("item", words), undefined, noun);
  }
  for (const words of [
    ["vault"],
    ["item"],
    ["--context", "repository", "item"],
    ["--help"],
    ["-o"],
  ])
    assert.notEqual(await helpOf("item", words), undefined, words.join(" "));
});

test("the help of a command tells of the options that go with every command", async () => {
  const { actions } = recorder();
  const program = await createProgram(actions, "1.2.3", () => undefined, ports, []);
  const list = program.commands
    .find((one) => one.name() === "item")
    ?.commands.find((one) => one.name() === "list");
  const help = list?.helpInformation() ?? "";
  for (const option of ["--output", "--query", "--context"]) assert.ok(help.includes(option), help);
});

test("help and version succeed, and no action runs", async () => {
  for (const words of [["--help"], ["--version"], ["repository", "points", "--help"]]) {
    const { code, calls } = await run(...words);
    assert.deepEqual([code, calls], [0, []], words.join(" "));
  }
});

test("a wrong command line is exit code 2, and no action runs", async () => {
  for (const words of [
    ["nonsense"],
    ["repository", "verify", "--nonsense"],
    ["repository", "materialise", "--point", "latest"],
    ["up", "--process-server-port", "65536"],
    ["up", "--process-server-port", ""],
    ["mobility-service", "enrol", "--out", "x", "--process-server", "h:1"],
    [
      "mobility-service",
      "enrol",
      "n",
      "--out",
      "x",
      "--process-server",
      "h:1",
      "--point-interval",
      "14",
    ],
    ["-o", "xml", "doctor"],
  ]) {
    const { code, calls } = await run(...words);
    assert.deepEqual([code, calls], [2, []], words.join(" "));
  }
});
