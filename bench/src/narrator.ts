import { formatDuration } from "@osr/base/units";

/** Tells a person what goes on. */
export type Narrator = {
  say(line: string): void;
  /** Runs `task` and says how long it took. */
  step<T>(title: string, task: () => Promise<T>): Promise<T>;
};

/** Writes lines with the time since it was made. */
export function narrator(write: (text: string) => void): Narrator {
  const start = performance.now();
  const say = (line: string): void => {
    const seconds = ((performance.now() - start) / 1000).toFixed(1).padStart(6);
    write(`${seconds} s  ${line}\n`);
  };
  return {
    say,
    async step(title, task) {
      say(`${title} …`);
      const begin = performance.now();
      const result = await task();
      say(`${title}: ${formatDuration(performance.now() - begin)}`);
      return result;
    },
  };
}
