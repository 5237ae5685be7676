#!/usr/bin/env node
// Only what an old Node understands may stand here: it has to live long enough to say what is wrong.
const NODE_MAJOR_MIN = 26;
const version = process.versions.node;
if (Number(version.split(".")[0]) < NODE_MAJOR_MIN) {
  process.stderr.write(
    `NODE_TOO_OLD: the mobility service needs Node ${NODE_MAJOR_MIN} or newer, and this is Node ${version}\n` +
      `  remedy: install Node ${NODE_MAJOR_MIN}, or use the one that the mobility service was installed with\n`,
  );
  process.exitCode = 2;
} else {
  const words = process.argv.slice(2);
  if (words[0] === "run") (await import("./node-flags.ts")).becomeWithFlags();
  const { runCommand } = await import("./command.ts");
  process.exitCode = await runCommand(words);
}
