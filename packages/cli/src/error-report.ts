import { OsrError, messageOf } from "@osr/base/errors";

/** What a person is told of an error: code, message, remedy, and the causes below it. Never a stack of ours. */
export function errorReport(error: unknown): string {
  const lines =
    error instanceof OsrError
      ? [`${error.code}: ${error.message}`, `  remedy: ${error.hint}`]
      : [
          `UNEXPECTED: ${messageOf(error)}`,
          "  remedy: please report it, with the log of the role.",
        ];
  for (const cause of causes(error)) lines.push(`  cause: ${cause}`);
  return `${lines.join("\n")}\n`;
}

const CAUSES_MAX = 5;

function causes(error: unknown): string[] {
  const found: string[] = [];
  let current = error;
  while (current instanceof Error && current.cause !== undefined && found.length < CAUSES_MAX) {
    current = current.cause;
    found.push(
      current instanceof OsrError ? `${current.code}: ${current.message}` : messageOf(current),
    );
  }
  return found;
}
