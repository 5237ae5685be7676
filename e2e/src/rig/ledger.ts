import { connect, type Socket } from "node:net";
import { join } from "node:path";

import type { Machine } from "./machine.ts";

type Acknowledgement = {
  readonly client: number;
  readonly seq: number;
  /** When the host learnt of it, on the monotonic clock. */
  readonly monotonicMs: number;
};

/** A range of rows without gaps, as the page `/cgi-bin/rows` tells it. */
export type RowRange = { readonly client: number; readonly first: number; readonly last: number };

/**
 * What clients inside a machine were told to be committed, written down outside of it. An acknowledgement counts from the
 * moment at which the host has it, so whatever counts before a cut was committed before it.
 */
export class Ledger implements Disposable {
  readonly #socket: Socket;
  readonly #entries: Acknowledgement[] = [];
  #received = "";

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("latin1");
    socket.on("error", () => undefined);
    socket.on("data", (text: string) => this.#receive(text));
  }

  /** Starts `clients` clients of the Debian machine's database. They go on until `stop` or the machine's end. */
  static async start(machine: Machine, clients: number): Promise<Ledger> {
    const socket = connect(join(machine.directory, "ledger"));
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    const ledger = new Ledger(socket);
    for (let client = 1; client <= clients; client++)
      await machine.shell.must(
        `systemd-run -q --unit=rig-workload-${client} sh /usr/lib/rig/workload.sh ${client}`,
      );
    return ledger;
  }

  static async stop(machine: Machine): Promise<void> {
    await machine.shell.must("systemctl stop 'rig-workload-*'");
  }

  get count(): number {
    return this.#entries.length;
  }

  /** Acknowledgements that the host had at that moment. */
  before(monotonicMs: number): readonly Acknowledgement[] {
    return this.#entries.filter((entry) => entry.monotonicMs < monotonicMs);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  #receive(text: string): void {
    const lines = (this.#received + text).split("\n");
    this.#received = lines.pop() ?? "";
    const monotonicMs = performance.now();
    for (const line of lines) {
      const [, client, seq] = /^ack (\d+) (\d+)\r?$/.exec(line) ?? [];
      if (client !== undefined)
        this.#entries.push({ client: Number(client), seq: Number(seq), monotonicMs });
    }
  }
}

/** Reads the page `/cgi-bin/rows`; throws where it is not whole. */
export function rowRangesOf(page: string): readonly RowRange[] {
  const lines = page.trim().split("\n");
  const ranges = lines.slice(0, -1).map((line) => /^(\d+) (\d+) (\d+)$/.exec(line));
  if (lines.at(-1) !== "end" || ranges.includes(null))
    throw new TypeError(`not a page of rows: ${page.slice(0, 200)}`);
  return ranges.map((range) => ({
    client: Number(range?.[1]),
    first: Number(range?.[2]),
    last: Number(range?.[3]),
  }));
}

/** The acknowledged rows that no range holds. */
export function missingRows(
  acknowledged: readonly Pick<Acknowledgement, "client" | "seq">[],
  ranges: readonly RowRange[],
): readonly Pick<Acknowledgement, "client" | "seq">[] {
  return acknowledged.filter(
    ({ client, seq }) =>
      !ranges.some((range) => range.client === client && range.first <= seq && seq <= range.last),
  );
}
