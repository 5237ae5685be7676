import type { VaultRoleActions } from "@osr/cli/vault-role-commands";

/** Each command is loaded when it is asked for. */
export function vaultActions(signal: AbortSignal): VaultRoleActions {
  const access = () => import("./access-commands.ts");
  return {
    run: async (options) => (await import("./run.ts")).runVault(options, signal),
    credentials: async (options) => (await access()).writeCredentials(options),
    rebuild: async (options) => (await import("./rebuild.ts")).rebuild(options, signal),
    backup: async (options) => (await import("./backup-commands.ts")).backupVault(options),
    restore: async (options) => (await import("./backup-commands.ts")).restoreVault(options),
    createToken: async (options) => (await access()).createToken(options),
    listTokens: async (options) => (await access()).listTokens(options),
    revokeToken: async (id, options) => (await access()).revokeToken(id, options),
    assignRole: async (token, options) => (await access()).assignRole(token, options),
    listRoles: async (options) => (await access()).listRoles(options),
  };
}
