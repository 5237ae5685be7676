import type { ReadRoute, WriteRoute } from "./resource-routes.ts";

type Read = ReadRoute["read"];
type Write = WriteRoute["write"];

/**
 * Makes the routes of one kind of resource, each from its path, what it does in words, and what does it. `kind`: what the actions that a role must allow
 * begin with, `Microsoft.RecoveryServices/vaults/replicationPolicies`.
 */
export function routesOf(kind: string): {
  read(path: string, summary: string, read: Read): ReadRoute;
  put(path: string, summary: string, write: Write): WriteRoute;
  patch(path: string, summary: string, write: Write): WriteRoute;
  remove(path: string, summary: string, write: Write): WriteRoute;
  /** An action of its own on the resource at `path`: `POST {path}/{verb}`. */
  act(path: string, verb: string, summary: string, write: Write): WriteRoute;
} {
  const writing = (method: WriteRoute["method"], verb: string) => {
    return (path: string, summary: string, write: Write): WriteRoute => {
      return { method, path, action: `${kind}/${verb}`, summary, write };
    };
  };
  return {
    read: (path, summary, read) => ({ method: "GET", path, action: `${kind}/read`, summary, read }),
    put: writing("PUT", "write"),
    patch: writing("PATCH", "write"),
    remove: writing("DELETE", "delete"),
    act: (path, verb, summary, write) =>
      writing("POST", `${verb}/action`)(`${path}/${verb}`, summary, write),
  };
}
