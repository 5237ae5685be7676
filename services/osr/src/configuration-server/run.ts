import { hostname } from "node:os";

import { systemErrorCode } from "@osr/base/errors";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { SECOND_MS } from "@osr/base/units";
import { ConfigurationServer } from "@osr/configuration-server/configuration-server";

import { roleLog } from "../role-log.ts";
import { runRole } from "../run-role.ts";
import { PORT_UNPRIVILEGED, openConfiguredSite } from "./open-configured-site.ts";

const VERSION = "0.1.0";

/** `osr configuration-server run`. */
export async function runConfigurationServer(
  options: { readonly config: string },
  signal: AbortSignal,
): Promise<void> {
  const log = roleLog("configuration-server");
  using open = await openConfiguredSite(options.config);
  const { site, configuration } = open;
  const { listen, names, processServerSilentSeconds: silentSeconds, proxyUrl } = configuration;
  const run = async (port: number): Promise<void> => {
    const config = {
      host: listen.host,
      port,
      names,
      hostName: hostname(),
      version: VERSION,
      gatewaySilentMs: silentSeconds === undefined ? undefined : silentSeconds * SECOND_MS,
      proxyUrl,
    };
    const server = new ConfigurationServer(config, {
      site,
      clock: systemClock,
      scheduler: systemScheduler,
      randomness: systemRandomness,
      log,
    });
    await runRole(server, server.listening, signal);
  };
  try {
    await run(listen.port ?? 443);
  } catch (error) {
    const isDenied = listen.port === undefined && systemErrorCode(error) === "EACCES";
    if (!isDenied) throw error;
    log.warn("port 443 cannot be bound without privilege", { instead: PORT_UNPRIVILEGED });
    await run(PORT_UNPRIVILEGED);
  }
}
