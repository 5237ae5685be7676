import { type Shape, boolean, object, optional, text } from "@osr/base/json-shape";

/** What QEMU reports by itself, as far as we act on it. */
export type QmpEvent =
  | { readonly name: "SHUTDOWN"; readonly guest: boolean; readonly reason: string }
  | { readonly name: "RESET"; readonly guest: boolean; readonly reason: string }
  | {
      readonly name: "BLOCK_IO_ERROR";
      readonly device: string;
      readonly operation: string;
      /** What QEMU did: `stop` paused the machine, `report` told the guest. */
      readonly action: string;
      readonly reason: string;
      readonly noSpace: boolean;
    }
  | { readonly name: "GUEST_PANICKED" }
  | { readonly name: "STOP" }
  | { readonly name: "RESUME" }
  | { readonly name: "OTHER"; readonly event: string };

const WORD_CHARS_MAX = 4096;

const powerShape: Shape<{ guest: boolean; reason?: string | undefined }> = object({
  guest: boolean,
  reason: optional(text(WORD_CHARS_MAX)),
});

const ioErrorShape: Shape<{
  device: string;
  "qom-path"?: string | undefined;
  operation: string;
  action: string;
  reason: string;
  nospace?: boolean | undefined;
}> = object({
  device: text(WORD_CHARS_MAX),
  "qom-path": optional(text(WORD_CHARS_MAX)),
  operation: text(WORD_CHARS_MAX),
  action: text(WORD_CHARS_MAX),
  reason: text(WORD_CHARS_MAX),
  nospace: optional(boolean),
});

/** Reads an event message; throws INPUT_INVALID where an event that we act on has another shape. */
export function qmpEventOf(name: string, data: unknown): QmpEvent {
  switch (name) {
    case "SHUTDOWN":
    case "RESET": {
      const { guest, reason } = powerShape(data, "data");
      return { name, guest, reason: reason ?? "" };
    }
    case "BLOCK_IO_ERROR": {
      const { device, operation, action, reason, nospace } = ioErrorShape(data, "data");
      return { name, device, operation, action, reason, noSpace: nospace ?? false };
    }
    case "GUEST_PANICKED":
    case "STOP":
    case "RESUME":
      return { name };
    default:
      return { name: "OTHER", event: name };
  }
}
