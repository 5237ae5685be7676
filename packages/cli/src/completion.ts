import { Argument, type Command } from "commander";

const SHELLS = ["bash", "zsh"] as const;

/** `osr completion bash|zsh`: prints a script; `source <(osr completion bash)` makes the shell complete words and options. */
export function addCompletion(program: Command): void {
  program
    .command("completion")
    .description("print a completion script for a shell: source <(osr completion bash)")
    .addArgument(new Argument("[shell]", "which shell").choices(SHELLS).default("bash"))
    .action((shell: (typeof SHELLS)[number]) => {
      program.configureOutput().writeOut?.(completionScript(program, shell));
    });
}

/** One case for each command: its words, then its options. */
export function completionScript(program: Command, shell: (typeof SHELLS)[number]): string {
  const cases = commandPaths(program, [])
    .map(({ path, words }) => `    ${JSON.stringify(path.join(" "))}) words=${quoted(words)} ;;`)
    .join("\n");
  const bash = `_osr() {
  local word path="" words="" current="\${COMP_WORDS[COMP_CWORD]}" index
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="\${COMP_WORDS[index]}"
    [[ "$word" == -* ]] && continue
    case " $path $word" in
${commandPaths(program, [])
  .filter(({ path }) => path.length > 0)
  .map(
    ({ path }) =>
      `      ${JSON.stringify(` ${path.slice(0, -1).join(" ")} ${path.at(-1)}`)}) path=${JSON.stringify(path.join(" "))} ;;`,
  )
  .join("\n")}
    esac
  done
  case "$path" in
${cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _osr osr
`;
  return shell === "bash" ? bash : `autoload -U +X bashcompinit && bashcompinit\n${bash}`;
}

type CommandPath = { readonly path: readonly string[]; readonly words: readonly string[] };

function commandPaths(command: Command, path: readonly string[]): readonly CommandPath[] {
  const inner = command.commands.filter((one) => one.name() !== "help");
  const options = command.options.flatMap((option) => option.long ?? []);
  const words = [...inner.map((one) => one.name()), ...options, "--help"];
  return [{ path, words }, ...inner.flatMap((one) => commandPaths(one, [...path, one.name()]))];
}

function quoted(words: readonly string[]): string {
  return JSON.stringify(words.join(" "));
}
