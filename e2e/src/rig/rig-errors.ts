import { defineErrors } from "@osr/base/errors";

export const RIG_ERRORS = defineErrors({
  RIG_COMMAND_FAILED: {
    retryable: false,
    hint: "Read the end of its output; `npm run setup` installs the programs that the rig needs.",
  },
  RIG_TIMEOUT: {
    retryable: false,
    hint: "Read the console log of the machine; a busy host may also just be too slow.",
  },
  RIG_MACHINE_ENDED: { retryable: false, hint: "Read the console log of the machine." },
  RIG_UNSUPPORTED: {
    retryable: false,
    hint: "The rig needs Debian 12 or newer on x86-64, and root for the Debian machine.",
  },
  GUEST_COMMAND_FAILED: {
    retryable: false,
    hint: "Read the output of the command and the console log of the machine.",
  },
});
