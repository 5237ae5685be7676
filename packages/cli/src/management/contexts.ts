import { OsrError } from "@osr/base/errors";
import { type Shape, list, object, optional, parseJson, text } from "@osr/base/json-shape";

import { MANAGEMENT_ERRORS } from "./management-errors.ts";

/** Which vault commands talk to, and as whom. Secrets are in files of their own, named here. */
export type Context = {
  readonly name: string;
  readonly vaultUrl: string;
  /** PEM file of the authority that signed the vault's certificate; absent: the system's authorities. */
  readonly authorityFile?: string | undefined;
  /** File with a bearer token, made by `osr token create`. */
  readonly tokenFile: string;
  readonly subscription: string;
  readonly resourceGroup: string;
  readonly vault: string;
};

export type Contexts = {
  /** Name of the one that is used where a command names none. */
  readonly current?: string | undefined;
  readonly contexts: readonly Context[];
};

const CONTEXTS_MAX = 1000;

const contextsShape: Shape<Contexts> = object<Contexts>({
  current: optional(text(64)),
  contexts: list(
    object<Context>({
      name: text(64),
      vaultUrl: text(2048),
      authorityFile: optional(text(4096)),
      tokenFile: text(4096),
      subscription: text(64),
      resourceGroup: text(90),
      vault: text(50),
    }),
    CONTEXTS_MAX,
  ),
});

/** The content of the contexts file. Throws INPUT_INVALID. */
export function parseContexts(json: string): Contexts {
  return parseJson(json, contextsShape);
}

/** `contexts` with `context` in it, replacing one of its name; the first one becomes the current one. */
export function withContext(contexts: Contexts, context: Context): Contexts {
  const others = contexts.contexts.filter(({ name }) => name !== context.name);
  return { current: contexts.current ?? context.name, contexts: [...others, context] };
}

/** Throws CONTEXT_UNKNOWN. */
export function withCurrent(contexts: Contexts, name: string): Contexts {
  return { ...contexts, current: contextNamed(contexts, name).name };
}

/** The context of that name, or the current one. Throws CONTEXT_UNKNOWN. */
export function contextNamed(contexts: Contexts, name: string | undefined): Context {
  const wanted = name ?? contexts.current;
  const found = contexts.contexts.find((context) => context.name === wanted);
  if (found !== undefined) return found;
  const known = contexts.contexts.map((context) => context.name).join(", ");
  const message =
    wanted === undefined ? "no context is set" : `there is no context ${wanted} (known: ${known})`;
  throw new OsrError(MANAGEMENT_ERRORS.CONTEXT_UNKNOWN, message);
}
