/** How a machine starts the agent's program; `--experimental-ffi`: it freezes file systems by ioctl. */
export function agentCommand(node: string, program: string): string {
  return `${node} --experimental-ffi --disable-warning=ExperimentalWarning ${program}/src/main.js`;
}
