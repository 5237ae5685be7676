import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { SECOND_MS } from "@osr/base/units";
import type { Registry } from "prom-client";

const METRICS_HOST = "127.0.0.1";

export type MetricsServer = AsyncDisposable & { readonly port: number };

/** Serves `GET /metrics` for Prometheus, on loopback only. `port` 0: any free one. `update` runs before each answer. */
export async function startMetricsServer(
  port: number,
  registry: Registry,
  update: () => void,
): Promise<MetricsServer> {
  const server = createServer(
    { headersTimeout: 5 * SECOND_MS, requestTimeout: 10 * SECOND_MS },
    (request, response) => {
      request.resume();
      if (request.method !== "GET" || request.url !== "/metrics") {
        response.writeHead(404).end();
        return;
      }
      update();
      registry.metrics().then(
        (text) => response.writeHead(200, { "content-type": registry.contentType }).end(text),
        () => response.writeHead(500).end(),
      );
    },
  );
  server.maxConnections = 16;
  const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(port, METRICS_HOST, resolve);
  await listening;
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise<void>((done) => server.close(() => done()));
    },
  };
}
