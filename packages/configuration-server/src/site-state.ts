import type { DatabaseSync, SQLInputValue } from "node:sqlite";

import { type Shape, parseJson } from "@osr/base/json-shape";
import { type Uuid, uuid } from "@osr/base/uuid";
import type { EnrolledRole } from "@osr/contracts/enrolment";

import type { Sealing } from "./sealing.ts";

export type TokenRow = {
  readonly id: Uuid;
  readonly role: EnrolledRole;
  /** See verifierOf of control-link. */
  readonly verifier: string;
  readonly boundId?: Uuid | undefined;
  readonly expiresUnixMs: number;
  readonly usedBy?: Uuid | undefined;
  /** SHA-256 of the signing request that it was used for. */
  readonly usedRequest?: string | undefined;
};

/** A certificate that was issued here. */
export type KnownCertificate = {
  /** In hex. */
  readonly serial: string;
  readonly memberId: Uuid;
  readonly expiresUnixMs: number;
  /** Where it stays revoked though its member was enrolled again. */
  readonly revokedUnixMs?: number | undefined;
};

export type Member = {
  readonly id: Uuid;
  readonly role: EnrolledRole;
  readonly hostName: string;
  readonly enrolledUnixMs: number;
  readonly revokedUnixMs?: number | undefined;
};

export type Account = { readonly id: string; readonly name: string };

type Row = Readonly<Record<string, unknown>>;
type RecordTable = "machine" | "gateway";

/** What a configuration server keeps on its disk. Every method is durable when it returns, and whole or not at all. */
export class SiteState implements Disposable {
  readonly #database: DatabaseSync;
  readonly #sealing: Sealing;
  #membersAdded = 0;

  constructor(database: DatabaseSync, sealing: Sealing) {
    this.#database = database;
    this.#sealing = sealing;
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }

  /** Changes with every commit of another process. */
  get dataVersion(): number {
    return Number(this.#get("PRAGMA data_version")?.["data_version"]);
  }

  /** Another text where members may be others than before, whoever has written them: `dataVersion` says nothing of what this process has. */
  get membersVersion(): string {
    return `${this.dataVersion}/${this.#membersAdded}`;
  }

  transaction<T>(work: () => T): T {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      const result = work();
      this.#database.exec("COMMIT");
      return result;
    } catch (error) {
      this.#database.exec("ROLLBACK");
      throw error;
    }
  }

  /** A secret value by its name. Throws STATE_FOREIGN. */
  kept<T>(name: string, shape: Shape<T>): T | undefined {
    const row = this.#get("SELECT sealed FROM kept WHERE name = ?", name);
    if (row === undefined) return undefined;
    return parseJson(this.#sealing.open(`kept/${name}`, row["sealed"] as Uint8Array), shape);
  }

  keep(name: string, value: unknown): void {
    const sealed = this.#sealing.seal(`kept/${name}`, JSON.stringify(value));
    this.#run("INSERT OR REPLACE INTO kept VALUES (?, ?)", name, sealed);
  }

  addToken(token: TokenRow): void {
    const sealed = this.#sealing.seal(`token/${token.id}`, token.verifier);
    this.#run(
      "INSERT INTO token (id, role, sealed, bound_id, expires_unix_ms) VALUES (?, ?, ?, ?, ?)",
      token.id,
      token.role,
      sealed,
      token.boundId ?? null,
      token.expiresUnixMs,
    );
  }

  token(id: Uuid): TokenRow | undefined {
    const row = this.#get("SELECT * FROM token WHERE id = ?", id);
    if (row === undefined) return undefined;
    return {
      id,
      role: row["role"] as EnrolledRole,
      verifier: this.#sealing.open(`token/${id}`, row["sealed"] as Uint8Array),
      boundId: optionalUuid(row["bound_id"]),
      expiresUnixMs: Number(row["expires_unix_ms"]),
      usedBy: optionalUuid(row["used_by"]),
      usedRequest: optionalText(row["used_request"]),
    };
  }

  useToken(id: Uuid, usedBy: Uuid, usedRequest: string): void {
    this.#run(
      "UPDATE token SET used_by = ?, used_request = ? WHERE id = ?",
      usedBy,
      usedRequest,
      id,
    );
  }

  dropTokens(expiredBeforeUnixMs: number): void {
    this.#run("DELETE FROM token WHERE expires_unix_ms < ?", expiredBeforeUnixMs);
  }

  /** A role that was enrolled again is not revoked any more; the certificates that it was revoked with are. */
  addMember(member: Member): void {
    this.#membersAdded += 1;
    this.#run(
      `UPDATE certificate SET revoked_unix_ms = (SELECT revoked_unix_ms FROM member WHERE id = member_id)
        WHERE member_id = ? AND revoked_unix_ms IS NULL`,
      member.id,
    );
    this.#run(
      "INSERT OR REPLACE INTO member (id, role, host_name, enrolled_unix_ms) VALUES (?, ?, ?, ?)",
      member.id,
      member.role,
      member.hostName,
      member.enrolledUnixMs,
    );
  }

  members(): readonly Member[] {
    return this.#all("SELECT * FROM member ORDER BY enrolled_unix_ms, id").map((row) => ({
      id: uuid(String(row["id"])),
      role: row["role"] as EnrolledRole,
      hostName: String(row["host_name"]),
      enrolledUnixMs: Number(row["enrolled_unix_ms"]),
      revokedUnixMs: row["revoked_unix_ms"] === null ? undefined : Number(row["revoked_unix_ms"]),
    }));
  }

  /** False where nobody has that id. */
  revokeMember(id: Uuid, unixMs: number): boolean {
    return this.#run("UPDATE member SET revoked_unix_ms = ? WHERE id = ?", unixMs, id) > 0;
  }

  addCertificate({ serial, memberId, expiresUnixMs, revokedUnixMs }: KnownCertificate): void {
    this.#run(
      "INSERT OR IGNORE INTO certificate (serial, member_id, expires_unix_ms, revoked_unix_ms) VALUES (?, ?, ?, ?)",
      serial,
      memberId,
      expiresUnixMs,
      revokedUnixMs ?? null,
    );
  }

  certificates(): readonly KnownCertificate[] {
    return this.#all("SELECT * FROM certificate ORDER BY serial").map((row) => ({
      serial: String(row["serial"]),
      memberId: uuid(String(row["member_id"])),
      expiresUnixMs: Number(row["expires_unix_ms"]),
      ...(row["revoked_unix_ms"] === null ? {} : { revokedUnixMs: Number(row["revoked_unix_ms"]) }),
    }));
  }

  /** Certificates that were revoked themselves or with their members, and have not expired. */
  revokedCertificates(nowUnixMs: number): readonly { serial: string; revokedUnixMs: number }[] {
    const sql = `SELECT serial, coalesce(certificate.revoked_unix_ms, member.revoked_unix_ms) AS since
      FROM certificate JOIN member ON member.id = member_id
      WHERE since IS NOT NULL AND expires_unix_ms > ? ORDER BY serial`;
    return this.#all(sql, nowUnixMs).map((row) => ({
      serial: String(row["serial"]),
      revokedUnixMs: Number(row["since"]),
    }));
  }

  dropCertificates(expiredBeforeUnixMs: number): void {
    this.#run("DELETE FROM certificate WHERE expires_unix_ms < ?", expiredBeforeUnixMs);
  }

  records<T>(table: RecordTable, shape: Shape<T>): readonly T[] {
    const rows = this.#all(`SELECT record FROM ${table} ORDER BY id`);
    return rows.map((row) => parseJson(String(row["record"]), shape));
  }

  putRecord(table: RecordTable, id: Uuid, record: unknown): void {
    const sql = `INSERT OR REPLACE INTO ${table} VALUES (?, ?)`;
    this.#run(sql, id, JSON.stringify(record));
  }

  dropRecord(table: RecordTable, id: Uuid): void {
    this.#run(`DELETE FROM ${table} WHERE id = ?`, id);
  }

  assignments(): ReadonlyMap<Uuid, Uuid> {
    const rows = this.#all("SELECT * FROM assignment");
    return new Map(
      rows.map((row) => [uuid(String(row["machine_id"])), uuid(String(row["process_server_id"]))]),
    );
  }

  replaceAssignments(assignments: ReadonlyMap<Uuid, Uuid>): void {
    this.transaction(() => {
      this.#run("DELETE FROM assignment");
      for (const [machineId, id] of assignments)
        this.#run("INSERT INTO assignment VALUES (?, ?)", machineId, id);
    });
  }

  putAccount(account: Account, secret: string): void {
    const sealed = this.#sealing.seal(`account/${account.id}`, secret);
    const sql = "INSERT OR REPLACE INTO account VALUES (?, ?, ?)";
    this.#run(sql, account.id, account.name, sealed);
  }

  accounts(): readonly Account[] {
    return this.#all("SELECT id, name FROM account ORDER BY name").map((row) => ({
      id: String(row["id"]),
      name: String(row["name"]),
    }));
  }

  accountSecret(id: string): string | undefined {
    const row = this.#get("SELECT sealed FROM account WHERE id = ?", id);
    if (row === undefined) return undefined;
    return this.#sealing.open(`account/${id}`, row["sealed"] as Uint8Array);
  }

  dropAccount(id: string): boolean {
    return this.#run("DELETE FROM account WHERE id = ?", id) > 0;
  }

  orderResults<T>(shape: Shape<T>): readonly T[] {
    const rows = this.#all("SELECT result FROM order_result ORDER BY order_id");
    return rows.map((row) => parseJson(String(row["result"]), shape));
  }

  putOrderResult(orderId: Uuid, result: unknown): void {
    const sql = "INSERT OR REPLACE INTO order_result VALUES (?, ?)";
    this.#run(sql, orderId, JSON.stringify(result));
  }

  dropOrderResult(orderId: Uuid): void {
    this.#run("DELETE FROM order_result WHERE order_id = ?", orderId);
  }

  #get(sql: string, ...values: readonly SQLInputValue[]): Row | undefined {
    return this.#database.prepare(sql).get(...values);
  }

  #all(sql: string, ...values: readonly SQLInputValue[]): readonly Row[] {
    return this.#database.prepare(sql).all(...values);
  }

  #run(sql: string, ...values: readonly SQLInputValue[]): number {
    return Number(this.#database.prepare(sql).run(...values).changes);
  }
}

function optionalUuid(value: unknown): Uuid | undefined {
  return typeof value === "string" ? uuid(value) : undefined;
}

function optionalText(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
