import type { JsonObject } from "@osr/base/json-value";

import { templateParts, wholeTemplate } from "./arm-path.ts";
import type { AnyRoute } from "./router.ts";

type Document = { readonly type: string; readonly text: string };

const ERROR_SCHEMA = {
  type: "object",
  properties: {
    error: {
      type: "object",
      required: ["code", "message"],
      properties: {
        code: { type: "string" },
        message: { type: "string" },
        details: { type: "array", items: { type: "object" } },
      },
    },
  },
};

/** The description of the API (OpenAPI 3.1) and a page that shows it, made from the routes themselves. By path. */
export function openApi(routes: readonly AnyRoute[]): ReadonlyMap<string, Document> {
  const description = JSON.stringify(describe(routes));
  return new Map([
    ["/openapi.json", { type: "application/json", text: description }],
    ["/docs", { type: "text/html; charset=utf-8", text: page(routes) }],
  ]);
}

function describe(routes: readonly AnyRoute[]): JsonObject {
  const paths: Record<string, Record<string, JsonObject>> = {};
  for (const route of routes) {
    const path = wholeTemplate(route.path);
    (paths[path] ??= {})[route.method.toLowerCase()] = operationOf(route);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Open Site Recovery vault",
      version: "1.0",
      description:
        "Azure Resource Manager's API of Site Recovery, as Microsoft's clients speak it, and the provider OpenSiteRecovery for what it lacks. Any api-version is accepted.",
    },
    security: [{ bearer: [] }],
    paths,
    components: {
      securitySchemes: { bearer: { type: "http", scheme: "bearer" } },
      schemas: { Error: ERROR_SCHEMA },
    },
  };
}

function operationOf(route: AnyRoute): JsonObject {
  const names = templateParts(route.path).flatMap((part) =>
    "parameter" in part ? [part.parameter] : [],
  );
  const isRead = route.method === "GET";
  const json = (schema: JsonObject): JsonObject => ({ "application/json": { schema } });
  const accepted = {
    description: "Goes on as a job: see Azure-AsyncOperation and Location",
    headers: {
      "Azure-AsyncOperation": { schema: { type: "string" } },
      Location: { schema: { type: "string" } },
    },
  };
  return {
    summary: route.summary,
    operationId: `${route.method} ${route.path}`,
    "x-required-action": route.action,
    parameters: [
      ...names.map((name) => ({ name, in: "path", required: true, schema: { type: "string" } })),
      { name: "api-version", in: "query", required: true, schema: { type: "string" } },
    ],
    ...(isRead || route.method === "DELETE"
      ? {}
      : { requestBody: { content: json({ type: "object" }) } }),
    responses: {
      "200": { description: "Done", content: json({ type: "object" }) },
      ...(isRead ? {} : { "202": accepted, "204": { description: "There is nothing (any more)" } }),
      default: { description: "Refused", content: json({ $ref: "#/components/schemas/Error" }) },
    },
  };
}

/** Plain HTML: it works without scripts and without anything from elsewhere. */
function page(routes: readonly AnyRoute[]): string {
  const rows = routes
    .map(
      ({ method, path, summary, action }) =>
        `<tr><td><code>${method}</code></td><td><code>${escaped(path)}</code></td><td>${escaped(summary)}</td><td><code>${escaped(action)}</code></td></tr>`,
    )
    .join("\n");
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Open Site Recovery vault: API</title>
<style>body{font:15px/1.4 system-ui,sans-serif;margin:2rem;max-width:90rem}table{border-collapse:collapse}td,th{padding:.25rem .6rem;border-bottom:1px solid #ccc;text-align:left;vertical-align:top}</style>
<h1>Open Site Recovery vault: API</h1>
<p>Azure Resource Manager's API of Site Recovery, as Microsoft's clients speak it. <code>V</code> is
<code>/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/providers/Microsoft.RecoveryServices/vaults/{vaultName}</code>.
Every request needs <code>Authorization: Bearer</code> and <code>?api-version=</code>. For programs: <a href="/openapi.json">openapi.json</a>.</p>
<table><thead><tr><th>Method</th><th>Path</th><th>What</th><th>Action that a role must allow</th></tr></thead><tbody>
${rows}
</tbody></table></html>`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
