import { Readable } from "node:stream";

import { OsrError } from "@osr/base/errors";

import { type ObjectBody, STORE_ERRORS } from "./object-store.ts";

/** The body of one upload as the SDK wants it: a function that gives a stream, each time a new one. */
export class UploadBody implements Disposable {
  readonly #body: ObjectBody;
  readonly #fail: (reason: unknown) => void;
  readonly #streams: Readable[] = [];

  /** `fail` is called where the body breaks: the SDK does not notice, and would wait for the rest for ever. */
  constructor(body: ObjectBody, fail: (reason: unknown) => void) {
    this.#body = body;
    this.#fail = fail;
  }

  readonly open = (): Readable => {
    const stream = Readable.from(exactly(this.#body));
    stream.on("error", (error) => this.#fail(error));
    this.#streams.push(stream);
    return stream;
  };

  /** True where a stream was opened and not read to its end: then its connection waits for the rest. */
  get isUnread(): boolean {
    return this.#streams.some((stream) => !stream.readableEnded);
  }

  /** Ends the source's readers. */
  [Symbol.dispose](): void {
    for (const stream of this.#streams) stream.destroy();
  }
}

/**
 * The chunks of `body`, checked against its size. Each is held back until the next one is there or there is none: with
 * the last byte the service has the whole object, and it is too late to find that there is more.
 */
export async function* exactly(body: ObjectBody): AsyncGenerator<Uint8Array> {
  const wrong = (which: string): OsrError =>
    new OsrError(
      STORE_ERRORS.OBJECT_BODY_INVALID,
      `the body has ${which} than its ${body.sizeBytes} bytes`,
    );
  let bytes = 0;
  let held: Uint8Array | undefined;
  for await (const chunk of body.open()) {
    bytes += chunk.byteLength;
    if (bytes > body.sizeBytes) throw wrong("more");
    if (held !== undefined) yield held;
    held = chunk;
  }
  if (bytes < body.sizeBytes) throw wrong("fewer");
  if (held !== undefined) yield held;
}
