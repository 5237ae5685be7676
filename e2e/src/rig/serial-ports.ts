/** Serial ports of every machine of the rig, as the machine sees them; the console is ttyS0. */
export const SHELL_DEVICE = "/dev/ttyS1";
/** Where the agent's before-thaw hook speaks with the rig. */
export const HOOK_DEVICE = "/dev/ttyS2";
/** Where clients inside the machine report what was acknowledged to them. */
export const LEDGER_DEVICE = "/dev/ttyS3";
