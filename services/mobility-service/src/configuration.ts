import { readFileSync } from "node:fs";

import { OsrError, defineErrors, messageOf } from "@osr/base/errors";
import {
  type Shape,
  integer,
  list,
  object,
  oneOf,
  optional,
  parseJson,
  text,
} from "@osr/base/json-shape";
import {
  POINT_INTERVAL_SECONDS_DEFAULT,
  POINT_INTERVAL_SECONDS_MAX,
  POINT_INTERVAL_SECONDS_MIN,
} from "@osr/mobility-service/point-scheduler";

const ERRORS = defineErrors({
  CONFIGURATION_INVALID: {
    retryable: false,
    hint: "Correct the named field of the configuration file, then start the mobility service again. `osr mobility-service enrol` writes a correct file.",
  },
});

const PATH_CHARS_MAX = 4096;
const SELECTED_DISKS_MAX = 256;
const PROCESS_SERVERS_MAX = 16;
const SCRIPT_SECONDS_DEFAULT = 30;
const SCRIPT_SECONDS_MAX = 600;

export const STATUS_FILE_DEFAULT = "/run/osr/status.json";

/** The configuration file of the mobility service. Secrets are in files of their own, named here. */
export type Configuration = {
  readonly machineId?: string | undefined;
  /**
   * Who the machine is since it was enrolled with a configuration server, which says all else: written by
   * `osr-mobility-service enrol`. Without it the fields down to `pointIntervalSeconds` say it.
   */
  readonly enrolmentFile?: string | undefined;
  /** At least one, where there is no configuration server; the next one is tried when one is not reached for long. */
  readonly processServers: readonly ProcessServerAddress[];
  /** PEM files: the site authority, the agent's certificate and its private key. */
  readonly authority?: string | undefined;
  readonly certificate?: string | undefined;
  readonly privateKey?: string | undefined;
  readonly pointIntervalSeconds: number;
  /** Names or identities of the disks to protect; empty: all that can be. */
  readonly disks: readonly string[];
  readonly statusFile: string;
  /** Run before and after the cut of each point, without arguments; points are then app-consistent. */
  readonly scripts?: Scripts | undefined;
  /** Test hook: a serial device, see serial-hook.ts. */
  readonly hookDevice?: string | undefined;
  /** Faults that tests plant to see whether they are noticed. Never in production. */
  readonly testFaults?: TestFaults | undefined;
};

export type ProcessServerAddress = { readonly host: string; readonly port: number };

export type Scripts = {
  readonly preScript: string;
  readonly postScript: string;
  readonly seconds: number;
};

export type TestFaults = {
  readonly quietWindow?: "unchecked" | undefined;
  readonly freeze?: "skipped" | undefined;
};

type Raw = Omit<
  Configuration,
  "processServers" | "pointIntervalSeconds" | "disks" | "statusFile" | "scripts"
> & {
  /** One, or a list in order. */
  readonly processServer?: ProcessServerAddress | undefined;
  readonly processServers?: readonly ProcessServerAddress[] | undefined;
  readonly pointIntervalSeconds?: number | undefined;
  readonly disks?: readonly string[] | undefined;
  readonly statusFile?: string | undefined;
  readonly scripts?: (Omit<Scripts, "seconds"> & { readonly seconds?: number }) | undefined;
};

/** Fields that nobody knows are refused: a misspelt one would silently have no effect. */
function strict<T extends Record<string, unknown>>(shapes: {
  readonly [K in keyof T]: Shape<T[K]>;
}): Shape<T> {
  const known = object<T>(shapes);
  return (value, path) => {
    const fields = known(value, path);
    for (const key of Object.keys(value as object))
      if (!(key in shapes))
        throw new OsrError(
          ERRORS.CONFIGURATION_INVALID,
          `${path === "" ? key : `${path}.${key}`} is not a known field`,
        );
    return fields;
  };
}

const filePath: Shape<string> = (value, path) => {
  const name = text(PATH_CHARS_MAX)(value, path);
  if (name.startsWith("/")) return name;
  throw new OsrError(ERRORS.CONFIGURATION_INVALID, `${path} must be an absolute path`);
};

const processServerShape = strict<ProcessServerAddress>({
  host: text(255),
  port: integer(1, 65_535),
});

const rawShape: Shape<Raw> = strict<Raw>({
  machineId: optional(text(64)),
  processServer: optional(processServerShape),
  processServers: optional(list(processServerShape, PROCESS_SERVERS_MAX)),
  enrolmentFile: optional(filePath),
  authority: optional(filePath),
  certificate: optional(filePath),
  privateKey: optional(filePath),
  pointIntervalSeconds: optional(integer(POINT_INTERVAL_SECONDS_MIN, POINT_INTERVAL_SECONDS_MAX)),
  disks: optional(list(text(512), SELECTED_DISKS_MAX)),
  statusFile: optional(filePath),
  scripts: optional(
    strict<NonNullable<Raw["scripts"]>>({
      preScript: filePath,
      postScript: filePath,
      seconds: optional(integer(1, SCRIPT_SECONDS_MAX)),
    }),
  ),
  hookDevice: optional(filePath),
  testFaults: optional(
    strict<TestFaults>({
      quietWindow: optional(oneOf("unchecked")),
      freeze: optional(oneOf("skipped")),
    }),
  ),
});

/** Reads and checks the file. Throws CONFIGURATION_INVALID with the field and the remedy. */
export function readConfiguration(file: string): Configuration {
  let raw: Raw;
  try {
    raw = parseJson(readFileSync(file, "utf8"), rawShape);
    if (raw.enrolmentFile === undefined)
      for (const field of NAMED_FILES) filePath(raw[field], field);
  } catch (cause) {
    throw new OsrError(ERRORS.CONFIGURATION_INVALID, `${file}: ${messageOf(cause)}`, { cause });
  }
  const { scripts, processServer, processServers: listed = [], ...rest } = raw;
  const processServers = [...(processServer === undefined ? [] : [processServer]), ...listed];
  if (processServers.length === 0 && raw.enrolmentFile === undefined)
    throw new OsrError(ERRORS.CONFIGURATION_INVALID, `${file}: processServers must name one`);
  return {
    ...rest,
    processServers,
    pointIntervalSeconds: raw.pointIntervalSeconds ?? POINT_INTERVAL_SECONDS_DEFAULT,
    disks: raw.disks ?? [],
    statusFile: raw.statusFile ?? STATUS_FILE_DEFAULT,
    scripts:
      scripts === undefined
        ? undefined
        : { ...scripts, seconds: scripts.seconds ?? SCRIPT_SECONDS_DEFAULT },
  };
}

const NAMED_FILES = ["authority", "certificate", "privateKey"] as const;

/** The contents of the files that a configuration without a configuration server names. Throws CONFIGURATION_INVALID. */
export function configuredFiles(configuration: Configuration): {
  readonly authorityPem: string;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
} {
  const [authorityPem = "", certificatePem = "", privateKeyPem = ""] = NAMED_FILES.map((field) =>
    readNamedFile(field, configuration[field]),
  );
  return { authorityPem, certificatePem, privateKeyPem };
}

function readNamedFile(field: (typeof NAMED_FILES)[number], file: string | undefined): string {
  if (file === undefined)
    throw new OsrError(ERRORS.CONFIGURATION_INVALID, `${field} must name a file`);
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new OsrError(
      ERRORS.CONFIGURATION_INVALID,
      `${field} names ${file}, which cannot be read: ${messageOf(cause)}`,
      { cause },
    );
  }
}
