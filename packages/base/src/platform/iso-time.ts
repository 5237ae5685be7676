/** A moment as ISO 8601 text in UTC. */
export function isoTime(unixMs: number): string {
  return new Date(unixMs).toISOString();
}

/** A moment as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`. */
export function httpTime(unixMs: number): string {
  return new Date(unixMs).toUTCString();
}
