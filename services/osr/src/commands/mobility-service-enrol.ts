import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

import type { EnrolOptions } from "@osr/cli/program";
import type { Output } from "@osr/cli/output";
import { OsrError, defineErrors } from "@osr/base/errors";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { randomUuid } from "@osr/base/uuid";

import { writeDurably } from "../site/durable-file.ts";
import { machineCertificate, siteAuthority } from "../site/site-certificates.ts";
import { readSite } from "../site/site.ts";

const ERRORS = defineErrors({
  ENROL_FOLDER_EXISTS: {
    retryable: false,
    hint: "Give the name of a folder that does not exist yet.",
  },
  ENROL_BY_CONFIGURATION_SERVER: {
    retryable: false,
    hint: "Make a token with `osr configuration-server token create` and run `osr-mobility-service enrol --token FILE` on the machine.",
  },
  ADDRESS_INVALID: { retryable: false, hint: "Write it as host:port, such as 192.0.2.10:9443." },
});

/** Where the files lie on the machine; the unit of the mobility service reads them there. */
const INSTALLED = "/etc/osr";

/** `osr mobility-service enrol`: a machine's configuration, certificate and key, to be copied to /etc/osr on it. */
export async function mobilityServiceEnrol(name: string, options: EnrolOptions): Promise<Output> {
  const { folder } = readSite(options.site);
  // Its process server knows the certificates of the configuration server's authority only.
  if (existsSync(join(folder.root, "configuration-server")))
    throw new OsrError(
      ERRORS.ENROL_BY_CONFIGURATION_SERVER,
      `machines of ${options.site} join its configuration server`,
    );
  const out = resolve(options.out);
  if (existsSync(out)) throw new OsrError(ERRORS.ENROL_FOLDER_EXISTS, `${out} exists`);
  const machineId = randomUuid(systemRandomness);
  const authority = await siteAuthority(folder);
  const identity = await machineCertificate(authority, { role: "mobility-service", id: machineId });
  const configuration = {
    machineId,
    processServers: options.processServer.map(addressOf),
    authority: join(INSTALLED, "authority.pem"),
    certificate: join(INSTALLED, "certificate.pem"),
    privateKey: join(INSTALLED, "private-key.pem"),
    pointIntervalSeconds: options.pointInterval,
  };
  writeDurably(join(out, "authority.pem"), authority.certificatePem, 0o644);
  writeDurably(join(out, "certificate.pem"), identity.certificatePem, 0o644);
  writeDurably(join(out, "private-key.pem"), identity.privateKeyPem, 0o600);
  const json = `${JSON.stringify(configuration, null, 2)}\n`;
  writeDurably(join(out, "mobility-service.json"), json, 0o644);
  return { name, machineId, folder: out, copyTo: INSTALLED };
}

function addressOf(text: string): { host: string; port: number } {
  const match = /^(?<host>.+):(?<port>\d{1,5})$/.exec(text);
  const port = Number(match?.groups?.["port"]);
  const host = match?.groups?.["host"];
  if (host === undefined || port < 1 || port > 65_535)
    throw new OsrError(ERRORS.ADDRESS_INVALID, `${text} is not an address with a port`);
  return { host, port };
}
