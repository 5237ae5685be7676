import { existsSync, readFileSync } from "node:fs";

import { OsrError, defineErrors } from "@osr/base/errors";
import { integer, object, parseJson, text, uuidText } from "@osr/base/json-shape";
import type { Uuid } from "@osr/base/uuid";

import { type SiteFolder, siteFolder } from "./site-folder.ts";

/** What a site is called and where its roles listen. */
export type Site = {
  readonly vaultId: Uuid;
  readonly siteId: Uuid;
  readonly host: string;
  readonly processServerPort: number;
  readonly storageAccountPort: number;
};

export const siteShape = object<Site>({
  vaultId: uuidText,
  siteId: uuidText,
  host: text(255),
  processServerPort: integer(1, 65_535),
  storageAccountPort: integer(1, 65_535),
});

/** The container of the embedded storage account that holds a site's vault. */
export const CONTAINER = "osr";

const ERRORS = defineErrors({
  SITE_NOT_FOUND: {
    retryable: false,
    hint: "Give the folder that `osr up --directory` made, or make one with `osr up`.",
  },
});

/** Reads a site folder. Throws SITE_NOT_FOUND. */
export function readSite(root: string): { readonly folder: SiteFolder; readonly site: Site } {
  const folder = siteFolder(root);
  if (!existsSync(folder.siteFile))
    throw new OsrError(ERRORS.SITE_NOT_FOUND, `${root} is not the folder of a site`);
  return { folder, site: parseJson(readFileSync(folder.siteFile, "utf8"), siteShape) };
}
