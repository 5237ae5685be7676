import { Counter, Gauge, Registry } from "prom-client";

/** What Prometheus may read. Names begin with `osr_process_server_`; units are last. */
export class RoleMetrics {
  readonly registry = new Registry();
  readonly receivedBytes = this.#counter("received_bytes_total", "Bodies of batches");
  readonly batches = this.#counter("batches_total", "Batches that were spooled");
  readonly knownBatches = this.#counter("known_batches_total", "Batches that were there already");
  readonly encodedBytes = this.#counter("encoded_bytes_total", "Frames that were spooled");
  readonly encoderSeconds = this.#counter(
    "encoder_cpu_seconds_total",
    "Processor time of compression and encryption",
  );
  readonly uploadedBytes = this.#counter(
    "uploaded_bytes_total",
    "Bytes that went to the storage account, repeated ones included",
  );
  readonly uploadErrors = this.#counter("upload_errors_total", "Attempts that failed");
  readonly throttled = this.#counter("throttled_batches_total", "Batches refused by CACHE_FULL");
  readonly spoolBytes = this.#gauge("spool_bytes", "Bytes in the cache");
  readonly freeShare = this.#gauge("cache_free_ratio", "Free share of the cache, 0 to 1");
  readonly inFlightBytes = this.#gauge("in_flight_bytes", "Bodies of batches in memory");
  readonly vaultedInterval = this.#gauge(
    "vaulted_interval",
    "Highest interval that is in the storage account",
    "disk",
  );
  readonly pendingBytes = this.#gauge(
    "pending_upload_bytes",
    "Closed segments that wait for the storage account",
    "disk",
  );
  readonly pointAgeSeconds = this.#gauge(
    "newest_point_age_seconds",
    "Age of the newest recovery point that is offered",
    "machine",
  );

  #counter(name: string, help: string): Counter {
    return new Counter({ name: `osr_process_server_${name}`, help, registers: [this.registry] });
  }

  #gauge<T extends string>(name: string, help: string, ...labelNames: T[]): Gauge<T> {
    const full = `osr_process_server_${name}`;
    return new Gauge({ name: full, help, labelNames, registers: [this.registry] });
  }
}
