import { type Socket, connect } from "node:net";

import { OsrError, messageOf } from "@osr/base/errors";

import type { Narrator } from "./narrator.ts";
import { RIG_ERRORS } from "./rig-errors.ts";

/**
 * The host's end of the agent's before-thaw hook. The agent writes `{"frozen": "<cutId>"}` and a newline to the hook
 * device while every file system is frozen, and thaws after it has read one byte.
 */
export class HookChannel implements Disposable {
  readonly #socket: Socket;
  readonly #onFrozen: (cutId: string) => Promise<void>;
  readonly #narrator: Narrator;
  #received = "";

  private constructor(
    socket: Socket,
    onFrozen: (cutId: string) => Promise<void>,
    narrator: Narrator,
  ) {
    this.#socket = socket;
    this.#onFrozen = onFrozen;
    this.#narrator = narrator;
    socket.setEncoding("utf8");
    socket.on("error", () => undefined);
    socket.on("data", (text: string) => this.#receive(text));
  }

  /** `onFrozen` runs while the machine is frozen; the agent goes on as soon as it settles. */
  static async connect(
    socketPath: string,
    onFrozen: (cutId: string) => Promise<void>,
    narrator: Narrator,
  ): Promise<HookChannel> {
    const socket = connect(socketPath);
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return new HookChannel(socket, onFrozen, narrator);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  #receive(text: string): void {
    const lines = (this.#received + text).split("\n");
    this.#received = lines.pop() ?? "";
    for (const line of lines.filter((each) => each.trim() !== "")) void this.#answer(line);
  }

  /** Never rejects: whatever goes wrong here, the machine must not stay frozen. */
  async #answer(line: string): Promise<void> {
    try {
      await this.#onFrozen(cutIdOf(line));
    } catch (error) {
      this.#narrator.say(`before-thaw hook: ${messageOf(error)}`);
    } finally {
      this.#socket.write("\n");
    }
  }
}

function cutIdOf(line: string): string {
  const { frozen } = JSON.parse(line) as { frozen?: unknown };
  if (typeof frozen === "string") return frozen;
  throw new OsrError(RIG_ERRORS.RIG_UNSUPPORTED, `the hook device said: ${line.slice(0, 200)}`);
}
