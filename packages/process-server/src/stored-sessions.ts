import { mkdir, readdir } from "node:fs/promises";

import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError } from "@osr/base/errors";
import { type Shape, object, parseJson } from "@osr/base/json-shape";
import { type Uuid, isUuid } from "@osr/base/uuid";
import { type SessionRequest, sessionRequestShape } from "@osr/contracts/agent-protocol";

import { readTextIfThere, replaceFile, syncDirectory } from "./file-writing.ts";
import { sessionFile, sessionsFolder } from "./spool-layout.ts";

const storedShape: Shape<{ readonly request: SessionRequest }> = object<{
  readonly request: SessionRequest;
}>({ request: sessionRequestShape });

/** The folder `sessions` of the spool (docs/formats/spool.md): the last session of each machine, for after a restart. */
export class StoredSessions {
  readonly #spoolFolder: string;

  constructor(spoolFolder: string) {
    this.#spoolFolder = spoolFolder;
  }

  /** Durable when it resolves. */
  async write(machineId: Uuid, request: SessionRequest): Promise<void> {
    const made = await mkdir(sessionsFolder(this.#spoolFolder), { recursive: true, mode: 0o700 });
    if (made !== undefined) await syncDirectory(this.#spoolFolder);
    const json = canonicalJson({ format: 1, request });
    await replaceFile(sessionFile(this.#spoolFolder, machineId), json);
  }

  /** Undefined where there is none, or it is not readable: then the machine opens a new one. */
  async read(machineId: Uuid): Promise<SessionRequest | undefined> {
    const json = await readTextIfThere(sessionFile(this.#spoolFolder, machineId));
    try {
      return json === undefined ? undefined : parseJson(json, storedShape).request;
    } catch (error) {
      if (error instanceof OsrError) return undefined;
      throw error;
    }
  }

  async machineIds(): Promise<readonly Uuid[]> {
    await mkdir(sessionsFolder(this.#spoolFolder), { recursive: true, mode: 0o700 });
    const names = await readdir(sessionsFolder(this.#spoolFolder));
    return names.map((name) => name.replace(/\.json$/, "")).filter(isUuid);
  }
}
