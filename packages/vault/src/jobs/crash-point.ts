/**
 * Called where a crash would be most telling: `task:X:worked` is after a task's side effects and before they are remembered. Production does nothing;
 * tests kill the process there.
 */
export type CrashPoint = (name: string) => void;

export const noCrashPoint: CrashPoint = () => undefined;
