import { Counter, Gauge, Registry } from "prom-client";

import type { MachineStatus, ProcessServerStatus } from "./process-server.ts";

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
  readonly #health = this.#gauge(
    "health",
    "1 for each thing that is wrong; codes are in docs/errors.md; source is the role that says so",
    "code",
    "source",
    "machine",
    "disk",
  );
  readonly #machineGauges = {
    rpoSeconds: this.#gauge(
      "rpo_seconds",
      "Age of the newest recovery point: what a failover now would lose",
      "machine",
      "disk",
    ),
    pointsMissed: this.#gauge("points_missed", "Since the agent was started", "machine"),
    silentSeconds: this.#gauge("silent_seconds", "Since the machine was heard of", "machine"),
  };
  readonly #diskGauges = {
    vaultedInterval: this.#diskGauge("vaulted_interval", "Newest interval in the storage account"),
    readBytes: this.#diskGauge("disk_read_bytes", "Read by the agent since it was started"),
    sentBytes: this.#diskGauge("disk_sent_bytes", "Sent by the agent since it was started"),
    dirtyBytes: this.#diskGauge("disk_dirty_bytes", "Changed and not read yet"),
    receivedBytes: this.#diskGauge("disk_received_bytes", "Bodies of batches since the start"),
    spooledBytes: this.#diskGauge("disk_spooled_bytes", "Frames written to the cache"),
    pendingBytes: this.#diskGauge("pending_upload_bytes", "Closed segments that wait"),
    vaultedBytes: this.#diskGauge("disk_vaulted_bytes", "Segments in the storage account"),
    comparedBytes: this.#diskGauge("resync_compared_bytes", "Of a comparison under way"),
  };

  /** Takes over what goes on at the moment; what is over does not show any more. */
  update(status: ProcessServerStatus & { readonly unixMs: number }): void {
    this.spoolBytes.set(status.cache.usedBytes);
    this.freeShare.set(status.cache.freeShare);
    this.inFlightBytes.set(status.inFlightBytes);
    const gauges = [...Object.values(this.#machineGauges), ...Object.values(this.#diskGauges)];
    for (const gauge of [this.#health, ...gauges]) gauge.reset();
    for (const { code, diskId = "" } of status.health)
      this.#health.set({ code, source: "process-server", machine: "", disk: diskId }, 1);
    for (const machine of status.machines) this.#updateMachine(machine, status.unixMs);
  }

  #updateMachine(status: MachineStatus, unixMs: number): void {
    const { machineId: machine, newestPoint, disks, agentBytes } = status;
    const { rpoSeconds, pointsMissed, silentSeconds } = this.#machineGauges;
    pointsMissed.set({ machine }, status.pointsMissed);
    silentSeconds.set({ machine }, status.silentMs / 1000);
    for (const { code, diskId = "" } of status.health)
      this.#health.set({ code, source: "mobility-service", machine, disk: diskId }, 1);
    const of = this.#diskGauges;
    for (const bytes of disks) {
      const disk = bytes.diskId;
      if (newestPoint !== undefined)
        rpoSeconds.set({ machine, disk }, Math.max(0, unixMs - newestPoint.unixMs) / 1000);
      of.vaultedInterval.set({ disk }, bytes.intervalVaulted);
      of.receivedBytes.set({ disk }, bytes.receivedBytes);
      of.spooledBytes.set({ disk }, bytes.encodedBytes);
      of.pendingBytes.set({ disk }, bytes.pendingUploadBytes);
      of.vaultedBytes.set({ disk }, bytes.uploadedBytes);
    }
    for (const bytes of agentBytes) {
      const disk = bytes.diskId;
      of.readBytes.set({ disk }, bytes.readBytes);
      of.sentBytes.set({ disk }, bytes.sentBytes);
      of.dirtyBytes.set({ disk }, bytes.dirtyBytes);
      if (bytes.comparedBytes !== undefined) of.comparedBytes.set({ disk }, bytes.comparedBytes);
    }
  }

  #diskGauge(name: string, help: string): Gauge<"disk"> {
    return this.#gauge(name, help, "disk");
  }

  #counter(name: string, help: string): Counter {
    return new Counter({ name: `osr_process_server_${name}`, help, registers: [this.registry] });
  }

  #gauge<T extends string>(name: string, help: string, ...labelNames: T[]): Gauge<T> {
    const full = `osr_process_server_${name}`;
    return new Gauge({ name: full, help, labelNames, registers: [this.registry] });
  }
}
