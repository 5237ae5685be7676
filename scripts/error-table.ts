import { globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { runInNewContext } from "node:vm";

type ErrorInfo = { readonly retryable: boolean; readonly hint: string };

/** A code as one member of the tree defines it. */
type DefinedError = ErrorInfo & { readonly code: string; readonly member: string };

const CALL = "defineErrors({";

const HEAD = `# Errors and health

Every code that a role, a command or a health list of ours may name, by where it is defined, whether trying again may help
without anybody doing anything, and the remedy. Made by \`npm run errors\`; \`npm run check\` holds it to the sources. Which
codes an agent is answered, and with which status: [formats/agent-protocol.md](formats/agent-protocol.md).

Health is shown by \`osr mobility-service status\` and by the metric \`osr_process_server_health\` of the process server, for the
process server itself and for the machines that it serves. What is wrong with a disk has the code of the error behind it, such
as STORE_UNAVAILABLE, LOG_FENCED or LOG_TAMPERED.
`;

/** The page about all codes under `root`. Throws where a table cannot be read, or a code is retryable and not in one member. */
export function errorPage(root: string): string {
  const defined = [...readErrors(root)];
  const members = [...new Set(defined.map(({ member }) => member))].toSorted();
  const sections = members.map((member) => {
    const rows = defined
      .filter((error) => error.member === member)
      .toSorted((a, b) => (a.code < b.code ? -1 : 1))
      .map(({ code, retryable, hint }) => `| ${code} | ${retryable ? "yes" : "no"} | ${hint} |`);
    return `\n## ${member}\n\n| code | retryable | remedy |\n| --- | --- | --- |\n${[...new Set(rows)].join("\n")}\n`;
  });
  return HEAD + sections.join("");
}

function* readErrors(root: string): Generator<DefinedError> {
  const seen = new Map<string, boolean>();
  for (const file of globSync("{packages,services}/*/src/**/*.ts", { cwd: root }).toSorted()) {
    if (/\.(test|contract|fuzz)\.ts$|\/testing\//.test(file)) continue;
    const source = readFileSync(join(root, file), "utf8");
    const member = dirname(file).split("/").slice(0, 2).join("/");
    for (let at = source.indexOf(CALL); at !== -1; at = source.indexOf(CALL, at + 1))
      for (const [code, info] of Object.entries(tableAt(source, at + CALL.length - 1, file))) {
        const before = seen.get(`${member} ${code}`) ?? info.retryable;
        if (before !== info.retryable)
          throw new Error(`${file}: ${code} is retryable and not, in ${member}`);
        seen.set(`${member} ${code}`, info.retryable);
        yield { code, member, ...info };
      }
  }
}

/** The object literal that begins at `start`. */
function tableAt(source: string, start: number, file: string): Record<string, ErrorInfo> {
  let depth = 0;
  let quote = "";
  for (let at = start; at < source.length; at++) {
    const character = source[at] ?? "";
    if (quote !== "") {
      if (character === "\\") at += 1;
      else if (character === quote) quote = "";
    } else if (source.startsWith("//", at)) at = source.indexOf("\n", at);
    else if (`"'\``.includes(character)) quote = character;
    else if (character === "{") depth += 1;
    else if (character === "}" && --depth === 0)
      return runInNewContext(
        // What a hint is made of at run time does not matter here.
        `(${source.slice(start, at + 1).replaceAll(/\$\{[^}]*\}/g, "…")})`,
        {},
      ) as Record<string, ErrorInfo>;
  }
  throw new Error(`${file}: a table of errors does not end`);
}
