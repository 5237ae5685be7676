import { readFile } from "node:fs/promises";

import { MINUTE_MS } from "@osr/base/units";

import type { Machine } from "./machine.ts";
import { HOOK_DEVICE } from "./serial-ports.ts";
import type { Site } from "./site.ts";

const CONFIGURATION = "/etc/osr/mobility-service.json";
const TOKEN = "/etc/osr/enrolment.token";
const AGENT =
  "/opt/osr/bin/node --experimental-ffi --disable-warning=ExperimentalWarning /opt/osr/mobility-service/src/main.js";

/** Enrols a Debian machine with the site's configuration server, as an administrator would, and starts its agent. */
export async function enrolDebian(
  machine: Machine,
  site: Site,
  options: { readonly name: string; readonly hasHook: boolean },
): Promise<void> {
  const token = await readFile(await site.enrolmentToken(options.name));
  const { shell } = machine;
  await shell.must("mkdir -p /etc/osr");
  await shell.writeFile(TOKEN, token, "600");
  if (options.hasHook)
    await shell.writeFile(
      CONFIGURATION,
      Buffer.from(JSON.stringify({ hookDevice: HOOK_DEVICE })),
      "600",
    );
  await shell.must(`${AGENT} enrol --token ${TOKEN} --config ${CONFIGURATION}`, 2 * MINUTE_MS);
  await shell.must(`rm ${TOKEN}; systemctl restart osr-mobility-service`);
}
