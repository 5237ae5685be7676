import { MIB, SECOND_MS } from "@osr/base/units";

export type NbdLimits = {
  /** Connections at once; more are closed at once. */
  readonly connectionsMax: number;
  /** Time from the connection to the choice of an export, TLS included. */
  readonly handshakeTimeoutMs: number;
  /** Requests of one connection that are being answered. More wait in the socket. */
  readonly requestsInFlightMax: number;
  /** Memory for the answers of one connection. */
  readonly connectionBytesMax: number;
  /** Memory for the answers of all connections. */
  readonly replyBytesMax: number;
  /** A client that does not take its answers for so long is dropped, since they hold memory that others need. */
  readonly stallTimeoutMs: number;
};

export const DEFAULT_NBD_LIMITS: NbdLimits = {
  connectionsMax: 64,
  handshakeTimeoutMs: 10 * SECOND_MS,
  requestsInFlightMax: 64,
  connectionBytesMax: 4 * MIB,
  replyBytesMax: 16 * MIB,
  stallTimeoutMs: 60 * SECOND_MS,
};
