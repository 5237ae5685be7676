import { OsrError } from "@osr/base/errors";
import type { Clock } from "@osr/base/clock";
import type { Randomness } from "@osr/base/randomness";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import type { VaultCredentials } from "@osr/contracts/fabric-protocol";

import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import { issueCredentials } from "../fabric/credentials.ts";
import { VAULT_ERRORS } from "../vault-errors.ts";
import { recordAudit } from "./audit.ts";
import { type RoleName, assignRole } from "./roles.ts";
import { type IssuedToken, issueToken } from "./token.ts";

type Ports = { readonly clock: Clock; readonly randomness: Randomness };
type Authority = { readonly certificatePem: string };

/** What an administrator does with the database instead of a token. Each act is in the audit log. */
export class Administration {
  readonly #database: VaultDatabase;
  readonly #ports: Ports;

  constructor(database: VaultDatabase, ports: Ports) {
    this.#database = database;
    this.#ports = ports;
  }

  async createToken(options: {
    readonly name: string;
    readonly hours: number;
    readonly role: RoleName;
    readonly scope: string;
  }): Promise<IssuedToken> {
    return this.#audited("tokens", "write", async (tx) => {
      const issued = await issueToken(tx, { ...options, ...this.#ports });
      await assignRole(tx, { tokenId: issued.id, ...options }, this.#ports);
      return issued;
    });
  }

  async listTokens(): Promise<
    { id: Uuid; name: string; created_at: number; expires_at: number; revoked_at: number | null }[]
  > {
    return this.#database
      .selectFrom("token")
      .select(["id", "name", "created_at", "expires_at", "revoked_at"])
      .orderBy("created_at")
      .execute();
  }

  /** Throws TOKEN_NOT_FOUND. */
  async revokeToken(id: Uuid): Promise<void> {
    await this.#audited(`tokens/${id}`, "delete", async (tx) => {
      const { numUpdatedRows } = await tx
        .updateTable("token")
        .set({ revoked_at: this.#ports.clock.unixMs() })
        .where("id", "=", id)
        .where("revoked_at", "is", null)
        .executeTakeFirst();
      if (numUpdatedRows === 0n)
        throw new OsrError(VAULT_ERRORS.TOKEN_NOT_FOUND, `there is no valid token ${id}`);
    });
  }

  /** Throws TOKEN_NOT_FOUND. */
  async assign(tokenId: Uuid, role: RoleName, scope: string): Promise<void> {
    await this.#audited(`tokens/${tokenId}/roles`, "write", async (tx) => {
      const token = await tx.selectFrom("token").select("id").where("id", "=", tokenId).execute();
      if (token.length === 0)
        throw new OsrError(VAULT_ERRORS.TOKEN_NOT_FOUND, `there is no token ${tokenId}`);
      await assignRole(tx, { tokenId, role, scope }, this.#ports);
    });
  }

  async listAssignments(): Promise<
    { token_id: Uuid; name: string; role: string; scope: string }[]
  > {
    return this.#database
      .selectFrom("role_assignment")
      .innerJoin("token", "token.id", "token_id")
      .select(["token_id", "token.name", "role", "scope"])
      .where("revoked_at", "is", null)
      .orderBy("token.name")
      .orderBy("role")
      .execute();
  }

  /** Credentials of the vault of that name, or of the only one. Throws VAULT_NOT_FOUND. */
  async credentials(options: {
    readonly vault: string | undefined;
    readonly url: string;
    readonly authority: Authority;
  }): Promise<VaultCredentials> {
    return this.#audited("vaultCredentials", "action", async (tx) => {
      const rows = await tx.selectFrom("vault").select(["id", "arm_id", "name"]).execute();
      const wanted = options.vault?.toLowerCase();
      const found = rows.filter(
        ({ name }) => wanted === undefined || name.toLowerCase() === wanted,
      );
      const [row] = found;
      if (row === undefined || found.length > 1)
        throw new OsrError(
          VAULT_ERRORS.VAULT_NOT_FOUND,
          `${found.length} vaults match; there are: ${rows.map(({ name }) => name).join(", ")}`,
        );
      const vault = { id: row.id, armId: row.arm_id, name: row.name };
      return issueCredentials(tx, vault, options.url, options.authority, this.#ports);
    });
  }

  async #audited<T>(
    path: string,
    verb: string,
    work: (tx: VaultTransaction) => Promise<T>,
  ): Promise<T> {
    return this.#database.transaction().execute(async (tx) => {
      const result = await work(tx);
      await recordAudit(tx, {
        at: this.#ports.clock.unixMs(),
        caller: "administrator",
        tokenId: null,
        method: "CLI",
        path,
        action: `OpenSiteRecovery/vaults/${path.split("/")[0]}/${verb}`,
        activityId: randomUuid(this.#ports.randomness),
        status: 200,
        code: null,
        jobId: null,
      });
      return result;
    });
  }
}
