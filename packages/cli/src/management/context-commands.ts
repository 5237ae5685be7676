import type { Command } from "commander";

import type { Shown } from "../program.ts";
import { type Context, withContext, withCurrent } from "./contexts.ts";
import type { ManagementPorts } from "./management-ports.ts";

type SetOptions = Omit<Context, "name" | "authorityFile"> & { readonly authority?: string };

/** `osr context set|list|use`: which vaults there are to talk to. */
export function addContextCommands(program: Command, ports: ManagementPorts, shown: Shown): void {
  const context = program.command("context").description("the vaults that commands talk to");
  context
    .command("set <name>")
    .description("make or replace a context; the first one becomes the current one")
    .requiredOption("--vault-url <url>", "address of the vault, such as https://vault.example:8443")
    .option("--authority <path>", "PEM file of the authority that signed the vault's certificate")
    .requiredOption("--token-file <path>", "file with a token that `osr token create` made")
    .option(
      "--subscription <id>",
      "subscription id in the vault's resource ids",
      "00000000-0000-0000-0000-000000000000",
    )
    .option("--resource-group <name>", "resource group of the vault", "osr")
    .option("--vault <name>", "name of the vault", "vault")
    .action(
      shown((name: string, { authority, ...rest }: SetOptions) => {
        const { vaultUrl, tokenFile, subscription, resourceGroup, vault } = rest;
        const made: Context = {
          name,
          vaultUrl,
          tokenFile,
          subscription,
          resourceGroup,
          vault,
          ...(authority === undefined ? {} : { authorityFile: authority }),
        };
        ports.writeContexts(withContext(ports.readContexts(), made));
        return Promise.resolve();
      }),
    );
  context
    .command("use <name>")
    .description("make a context the current one")
    .action(
      shown((name: string) => {
        ports.writeContexts(withCurrent(ports.readContexts(), name));
        return Promise.resolve();
      }),
    );
  context
    .command("list")
    .description("all contexts")
    .action(
      shown(() => {
        const { current, contexts } = ports.readContexts();
        return Promise.resolve(
          contexts.map((one) => ({ current: one.name === current ? "*" : "", ...one })),
        );
      }),
    );
}
