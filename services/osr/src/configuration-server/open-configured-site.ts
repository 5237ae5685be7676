import { readFileSync } from "node:fs";

import { type Shape, integer, list, object, optional, text } from "@osr/base/json-shape";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { type Site, openSite } from "@osr/configuration-server/site";
import { parseSiteSecret } from "@osr/configuration-server/site-keys";

import { pathFrom, readConfiguration } from "../site/configuration-file.ts";

export type SiteConfiguration = {
  readonly listen: {
    readonly host: string;
    /** Absent: 443, or 4443 where that cannot be bound. */
    readonly port?: number | undefined;
  };
  /** Under which roles reach it. */
  readonly names: readonly string[];
  readonly siteSecretFile: string;
  readonly stateDirectory: string;
  /** After so long without a report, the machines of a process server are moved. */
  readonly processServerSilentSeconds?: number | undefined;
  /** Towards the vault. */
  readonly proxyUrl?: string | undefined;
};

const shape: Shape<SiteConfiguration> = object<SiteConfiguration>({
  listen: object<SiteConfiguration["listen"]>({
    host: text(255),
    port: optional(integer(0, 65_535)),
  }),
  names: list(text(255), 32),
  siteSecretFile: text(4096),
  stateDirectory: text(4096),
  processServerSilentSeconds: optional(integer(5)),
  proxyUrl: optional(text(2048)),
});

export type ConfiguredSite = Disposable & {
  readonly site: Site;
  readonly configuration: SiteConfiguration;
};

/** Opens the site of a configuration server's configuration file, beside the role where it runs. */
export async function openConfiguredSite(configFile: string): Promise<ConfiguredSite> {
  const configuration = readConfiguration(configFile, shape);
  const secret = readFileSync(pathFrom(configFile, configuration.siteSecretFile), "utf8");
  const site = await openSite(
    {
      secret: parseSiteSecret(secret),
      stateFolder: pathFrom(configFile, configuration.stateDirectory),
    },
    { clock: systemClock, randomness: systemRandomness },
  );
  return { site, configuration, [Symbol.dispose]: () => site[Symbol.dispose]() };
}

const PORT = 443;
export const PORT_UNPRIVILEGED = 4443;

/** `host:port` under which roles reach it, as far as the configuration tells. */
export function reachedAt({ names, listen }: SiteConfiguration): string {
  const name = names[0] ?? listen.host;
  return `${name.includes(":") ? `[${name}]` : name}:${listen.port ?? PORT}`;
}
