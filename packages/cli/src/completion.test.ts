import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { Command } from "commander";

import { addCompletion, completionScript } from "./completion.ts";

function program(): Command {
  const osr = new Command("osr").option("-o, --output <format>");
  const item = osr.command("item");
  item.command("show <name>").option("--wide");
  item.command("test-failover <name>");
  osr.command("doctor");
  return osr;
}

/** What bash offers after these words; the last one is being typed. */
function offered(...words: readonly string[]): string[] {
  const script = `${completionScript(program(), "bash")}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _osr; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync("bash", ["-c", script, "bash", "osr", ...words], { encoding: "utf8" })
    .trim()
    .split("\n");
}

test("nouns, verbs and options are offered where they fit", () => {
  assert.deepEqual(offered(""), ["item", "doctor", "--output", "--help"]);
  assert.deepEqual(offered("item", "te"), ["test-failover"]);
  assert.deepEqual(offered("item", "show", "web01", "--"), ["--wide", "--help"]);
  assert.deepEqual(offered("-o", "item", "s"), ["show"]);
});

test("the script is printed for the shell that is named, bash where none is", async () => {
  const printed = async (...words: readonly string[]): Promise<string> => {
    const texts: string[] = [];
    const osr = program().exitOverride();
    osr.configureOutput({ writeOut: (text) => void texts.push(text) });
    addCompletion(osr);
    await osr.parseAsync(["completion", ...words], { from: "user" });
    return texts.join("");
  };
  const bash = await printed("bash");
  assert.match(bash, /complete -o default -F _osr osr/);
  assert.equal(await printed(), bash);
  assert.match(await printed("zsh"), /bashcompinit/);
});
