import { defineErrors } from "@osr/base/errors";

export const COMPUTE_ERRORS = defineErrors({
  COMMAND_MISSING: {
    retryable: false,
    hint: "Install the Debian package that provides the named command, or run `osr doctor`.",
  },
  COMMAND_FAILED: {
    retryable: false,
    hint: "The message ends with what the command said. `osr doctor` shows what this machine can do.",
  },
  COMPUTE_DIRECTORY_UNFIT: {
    retryable: false,
    hint: "Choose an absolute path of at most 57 bytes: unix sockets lie below it, and their paths are limited to 107.",
  },
  RECORD_DAMAGED: {
    retryable: false,
    hint: "The record of a machine or network cannot be read. Destroy it and create it again; its source is untouched.",
  },
  QMP_UNAVAILABLE: {
    retryable: true,
    hint: "QEMU did not answer on its control socket. Where that stays, destroy the machine and create it again.",
  },
  QMP_REFUSED: {
    retryable: false,
    hint: "QEMU refused a command; the message says why. Please report it with the version of QEMU.",
  },
  QMP_PROTOCOL: {
    retryable: false,
    hint: "QEMU's control socket carried something that is not its protocol. Is another program using the socket?",
  },
  MACHINE_UNKNOWN: { retryable: false, hint: "Create the machine first, or list what there is." },
  MACHINE_SPEC_INVALID: { retryable: false, hint: "Correct the named field." },
  MACHINE_DIFFERENT: {
    retryable: false,
    hint: "A machine with this id exists with another shape. Destroy it first, or use a new id.",
  },
  MACHINE_NOT_RUNNING: { retryable: false, hint: "Start the machine first." },
  MACHINE_NOT_ENDED: {
    retryable: true,
    hint: "QEMU's process does not end, most often because the host's disk hangs. Try again.",
  },
  FIRMWARE_MISSING: {
    retryable: false,
    hint: "Install the Debian package ovmf: the machine starts by UEFI.",
  },
  MOVE_FAILED: {
    retryable: true,
    hint: "The machine runs on as before. Make room where the message says so, then move it again.",
  },
  NETWORK_UNKNOWN: { retryable: false, hint: "Make the network first." },
  NETWORK_SPEC_INVALID: { retryable: false, hint: "Correct the named field." },
  NETWORK_DIFFERENT: {
    retryable: false,
    hint: "A network with this name exists with another subnet. Remove it first, or use a new name.",
  },
  NETWORK_TAKEN: {
    retryable: false,
    hint: "A network namespace of this name exists that is not ours. Use another name, or `ip netns delete` it.",
  },
  NETWORK_IN_USE: { retryable: false, hint: "Destroy the machines that are attached to it first." },
  NETWORK_NOT_ISOLATED: {
    retryable: false,
    hint: "Something gave the test network a way out. It is not used. Remove the network and make it again.",
  },
  NETWORK_NEEDS_ROOT: {
    retryable: false,
    hint: "Virtual networks need root (network namespaces and taps). Run the role as root.",
  },
  PROBE_FAILED: {
    retryable: true,
    hint: "Nothing answered inside the network. The machine may still be starting; look at its console.",
  },
});
