/** Command that prints the end of the agent's log on a Debian machine. */
export const DEBIAN_AGENT_LOG = "journalctl -q -o cat -n 40 -u osr-mobility-service";
