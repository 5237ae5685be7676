import { systemClock } from "@osr/base/platform/system-clock";
import { formatDuration } from "@osr/base/units";

/** Tells a person what goes on. */
export type Narrator = {
  /** One line. */
  say(line: string): void;
  /** Runs `task` and says how long it took. */
  step<T>(title: string, task: () => Promise<T>): Promise<T>;
};

/** A narrator that writes lines with the time since it was made. */
export function narrator(write: (text: string) => void): Narrator {
  const start = systemClock.monotonicMs();
  const say = (line: string): void => {
    const seconds = ((systemClock.monotonicMs() - start) / 1000).toFixed(1).padStart(6);
    write(`${seconds} s  ${line}\n`);
  };
  return {
    say,
    async step(title, task) {
      say(`${title} …`);
      const begin = systemClock.monotonicMs();
      const result = await task();
      say(`${title}: ${formatDuration(systemClock.monotonicMs() - begin)}`);
      return result;
    },
  };
}

export const silentNarrator: Narrator = {
  say: () => undefined,
  step: async (_title, task) => task(),
};
