import { BRIDGE, TAP_NAME, ip, namespaceOf } from "./network-namespace.ts";

type Link = { readonly ifname: string; readonly linkinfo?: { readonly info_kind?: string } };
type Route = { readonly dst: string; readonly gateway?: string };

/**
 * The ways by which a packet could leave a network, or come into it, by its links and routes alone; nothing is sent.
 * Empty for a network that is isolated: its namespace has the loopback, the bridge and our taps, behind each of which is a
 * machine and nothing else, and no route through a gateway.
 */
export async function waysOut(network: string): Promise<readonly string[]> {
  const within = ["-n", namespaceOf(network), "-details", "-json"];
  const links = JSON.parse(await ip([...within, "link", "show"])) as readonly Link[];
  const routes4 = JSON.parse(await ip([...within, "-4", "route", "show"])) as readonly Route[];
  const routes6 = JSON.parse(await ip([...within, "-6", "route", "show"])) as readonly Route[];
  const foreignLinks = links.filter(
    ({ ifname, linkinfo }) =>
      ifname !== "lo" &&
      ifname !== BRIDGE &&
      !(linkinfo?.info_kind === "tun" && TAP_NAME.test(ifname)),
  );
  const foreignRoutes = [...routes4, ...routes6].filter(
    ({ dst, gateway }) => dst === "default" || gateway !== undefined,
  );
  return [
    ...foreignLinks.map(({ ifname }) => `link ${ifname}`),
    ...foreignRoutes.map(({ dst, gateway }) => `route to ${dst} by ${gateway ?? "a link"}`),
  ];
}
