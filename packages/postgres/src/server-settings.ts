import type { ServerFolder } from "./server-folder.ts";

export const DATABASE_USER = "osr";
export const DATABASE_NAME = "postgres";

/**
 * Arguments of the postmaster. Unix socket only: npm's build has an old OpenSSL, and nobody else needs to get in. Memory is small on purpose: the
 * vault's working set is some megabytes. Durability stays as PostgreSQL's defaults have it.
 */
export function serverSettings(folder: ServerFolder): string[] {
  const settings = {
    listen_addresses: "",
    unix_socket_directories: folder.sockets,
    unix_socket_permissions: "0700",
    max_connections: "60",
    shared_buffers: "64MB",
    max_wal_size: "512MB",
    // Within the data folder: what a killed server leaves goes with it, and not with the next start of the machine.
    dynamic_shared_memory_type: "mmap",
    timezone: "UTC",
    logging_collector: "on",
    log_directory: folder.logs,
    log_filename: "postgres-%a.log",
    log_truncate_on_rotation: "on",
    log_rotation_age: "1d",
    log_rotation_size: "0",
    log_line_prefix: "%m [%p] ",
    cluster_name: "open-site-recovery",
  };
  const pairs = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  return ["-D", folder.data, ...pairs];
}
