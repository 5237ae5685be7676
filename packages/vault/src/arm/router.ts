import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import { ArmError } from "./arm-error.ts";
import { templateParts } from "./arm-path.ts";
import type { ArmAccepted, ArmReply, ArmRequest, ResourceRoute } from "./resource-routes.ts";

type Common = { readonly path: string; readonly action: string; readonly summary: string };

/** An operation on what is no resource of a vault that exists: vaults themselves, lists of a subscription. */
export type RootRoute = Common &
  (
    | {
        readonly method: "GET";
        readonly readRoot: (request: ArmRequest, database: VaultDatabase) => Promise<ArmReply>;
      }
    | {
        readonly method: "PUT" | "PATCH" | "POST" | "DELETE";
        readonly writeRoot: (
          request: ArmRequest,
          tx: VaultTransaction,
        ) => Promise<ArmReply | ArmAccepted>;
      }
  );

export type AnyRoute = ResourceRoute | RootRoute;

export type RouteMatch = {
  readonly route: AnyRoute;
  readonly parameters: Readonly<Record<string, string>>;
  /** Number of segments that name the resource: an action's own name is not one of them. */
  readonly resourceSegments: number;
};

type Node = {
  readonly literals: Map<string, Node>;
  parameter: { readonly name: string; readonly node: Node } | undefined;
  readonly routes: Map<string, AnyRoute>;
};

/** Finds the operation of a method and path. Literals win over parameters, letters' case does not matter. */
export class Router {
  readonly #root = newNode();
  readonly routes: readonly AnyRoute[];

  constructor(routes: readonly AnyRoute[]) {
    this.routes = routes;
    for (const route of routes) this.#add(route);
  }

  /** Throws ArmError 404 for a path that nothing has, 405 where it has other methods. */
  match(method: string, segments: readonly string[]): RouteMatch {
    const found = find(this.#root, segments, 0, {});
    if (found === undefined)
      throw new ArmError(
        404,
        "InvalidResourceType",
        `there is nothing at /${segments.join("/")}`,
        "See the list of operations at /openapi.json.",
      );
    const route = found.node.routes.get(method);
    if (route === undefined) {
      const allowed = [...found.node.routes.keys()].join(", ");
      throw new ArmError(
        405,
        "MethodNotAllowed",
        `${method} is not possible here`,
        `Possible: ${allowed}.`,
        { allowed },
      );
    }
    const resourceSegments = segments.length - (method === "POST" ? 1 : 0);
    return { route, parameters: found.parameters, resourceSegments };
  }

  #add(route: AnyRoute): void {
    let node = this.#root;
    for (const part of templateParts(route.path)) {
      if ("parameter" in part) {
        node.parameter ??= { name: part.parameter, node: newNode() };
        if (node.parameter.name !== part.parameter)
          throw new TypeError(
            `${route.path}: {${part.parameter}} is {${node.parameter.name}} elsewhere`,
          );
        node = node.parameter.node;
      } else {
        const next = node.literals.get(part.literal) ?? newNode();
        node.literals.set(part.literal, next);
        node = next;
      }
    }
    if (node.routes.has(route.method)) throw new TypeError(`${route.method} ${route.path} twice`);
    node.routes.set(route.method, route);
  }
}

function newNode(): Node {
  return { literals: new Map(), parameter: undefined, routes: new Map() };
}

function find(
  node: Node,
  segments: readonly string[],
  at: number,
  parameters: Readonly<Record<string, string>>,
): { readonly node: Node; readonly parameters: Readonly<Record<string, string>> } | undefined {
  const segment = segments[at];
  if (segment === undefined) return node.routes.size === 0 ? undefined : { node, parameters };
  const literal = node.literals.get(segment.toLowerCase());
  const found = literal === undefined ? undefined : find(literal, segments, at + 1, parameters);
  if (found !== undefined || node.parameter === undefined || segment === "") return found;
  const { name, node: next } = node.parameter;
  return find(next, segments, at + 1, { ...parameters, [name]: segment });
}
