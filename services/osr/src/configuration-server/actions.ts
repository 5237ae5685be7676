import type { ConfigurationServerActions } from "@osr/cli/configuration-server-commands";

/** Each command is loaded when it is asked for. */
export function configurationServerActions(signal: AbortSignal): ConfigurationServerActions {
  const enrolment = () => import("./enrolment-commands.ts");
  const site = () => import("./site-commands.ts");
  return {
    run: async (options) => (await import("./run.ts")).runConfigurationServer(options, signal),
    init: async (options) => (await import("./init.ts")).initConfigurationServer(options),
    show: async (options) => (await site()).showSite(options),
    register: async (options) => (await site()).registerSite(options),
    backup: async (options) => (await import("./backup.ts")).backupSite(options),
    addAccount: async (name, options) => (await site()).addAccount(name, options),
    listAccounts: async (options) => (await site()).listAccounts(options),
    removeAccount: async (id, options) => (await site()).removeAccount(id, options),
    createToken: async (options) => (await enrolment()).createTokenFile(options),
    writeNewPassphrase: async (options) => (await enrolment()).writeNewPassphrase(options),
    listRoles: async (options) => (await enrolment()).listRoles(options),
    revokeRole: async (id, options) => (await enrolment()).revokeRole(id, options),
    enrolProcessServer: async (options) => (await enrolment()).enrolProcessServer(options),
  };
}
