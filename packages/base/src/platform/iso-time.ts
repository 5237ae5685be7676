/** A moment as ISO 8601 text in UTC. */
export function isoTime(unixMs: number): string {
  return new Date(unixMs).toISOString();
}
