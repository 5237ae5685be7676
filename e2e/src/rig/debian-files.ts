import { LEDGER_DEVICE, SHELL_DEVICE } from "./serial-ports.ts";
import { guestShellScript } from "./guest-shell-script.ts";

/** UUIDs of the file systems of the Debian machine; fixed, since the boot loader looks for them. */
export const ROOT_UUID = "11111111-1111-4111-8111-111111111111";
export const DATA_UUID = "22222222-2222-4222-8222-222222222222";
/** Of the EFI system partition of a machine that has one. */
export const ESP_VOLUME_ID = "3333-3333";

/** Port of the machine's HTTP service. */
export const HTTP_PORT = 8080;

export type GuestFile = {
  readonly path: string;
  readonly content: string;
  /** Octal; 644 where it is not given. */
  readonly mode?: number;
};

const NETWORK = `[Match]
Name=en* eth*
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
[DHCPv4]
ClientIdentifier=mac
# The host's loopback is on the link, as 10.0.2.2. Nothing else may be reachable.
UseGateway=no
UseRoutes=no
UseDNS=no
UseNTP=no
`;

const HTTP_UNIT = `[Unit]
Description=HTTP service of the rig
After=network.target
[Service]
ExecStart=/bin/busybox httpd -f -p ${HTTP_PORT} -h /srv/www
Restart=always
[Install]
WantedBy=multi-user.target
`;

const SHELL_UNIT = `[Unit]
Description=Command shell of the rig on a serial port
[Service]
ExecStart=/bin/sh /usr/lib/rig/shell.sh
[Install]
WantedBy=multi-user.target
`;

// A client of the database: inserts rows one by one and prints each as soon as its commit is acknowledged (psql prints
// the row of a statement after the server has reported it complete). The pause is the server's: no process is forked.
const WORKLOAD = `client=$1
seq=1
while :; do
  echo "insert into app.ledger(client, seq, note) values ($client, $seq, repeat(md5($seq::text), 8)) returning 'ack', client, seq; select from pg_sleep(0.02);"
  seq=$((seq + 1))
done | exec runuser -u postgres -- psql -XqAt -F ' ' -d app >${LEDGER_DEVICE} 2>&1
`;

const CGI_HEAD = `#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
`;

/** Who the machine is and how many rows it has; one fact a line. */
const CGI_STATUS = `${CGI_HEAD}
echo "host $(cat /proc/sys/kernel/hostname)"
echo "boot $(cat /proc/sys/kernel/random/boot_id)"
echo "uptime $(cut -d' ' -f1 /proc/uptime)"
runuser -u postgres -- psql -XqAt -d app -c "select 'rows ' || count(*) from app.ledger" 2>&1
`;

/** The rows of the ledger as ranges without gaps: client, first seq, last seq; then \`end\`. */
const CGI_ROWS = `${CGI_HEAD}
runuser -u postgres -- psql -XqAt -F ' ' -d app 2>&1 <<'SQL'
select client, min(seq), max(seq) from (
  select client, seq, seq - row_number() over (partition by client order by seq) as island from app.ledger
) as numbered group by client, island order by client, min(seq);
select 'end';
SQL
`;

/** \`clean\`, or what pg_amcheck found. */
const CGI_AMCHECK = `${CGI_HEAD}
if runuser -u postgres -- /usr/lib/postgresql/*/bin/pg_amcheck --heapallindexed --database=app 2>&1; then echo clean; else echo "exit code $?"; fi
`;

const GRUB = `serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=0
menuentry Debian {
  linux /boot/vmlinuz root=UUID=${ROOT_UUID} ro console=ttyS0,115200 net.ifnames=0 quiet
  initrd /boot/initrd.img
}
`;

/** What the machine mounts at its start. */
export function fstab(firmware: "bios" | "uefi"): string {
  const root = `UUID=${ROOT_UUID} / ext4 defaults,errors=remount-ro 0 0\n`;
  const data = `UUID=${DATA_UUID} /data ext4 defaults 0 0\n`;
  const esp = `UUID=${ESP_VOLUME_ID} /boot/efi vfat umask=0077 0 0\n`;
  return firmware === "bios" ? root + data : root + data + esp;
}

/** Files of the Debian machine beside what its packages bring. */
export const DEBIAN_FILES: readonly GuestFile[] = [
  { path: "etc/hostname", content: "web01\n" },
  { path: "etc/hosts", content: "127.0.0.1 localhost web01\n" },
  { path: "etc/resolv.conf", content: "" },
  { path: "etc/fstab", content: fstab("bios") },
  { path: "etc/systemd/network/20-dhcp.network", content: NETWORK },
  { path: "etc/systemd/system/rig-http.service", content: HTTP_UNIT },
  { path: "etc/systemd/system/rig-shell.service", content: SHELL_UNIT },
  {
    path: "etc/systemd/system/postgresql@.service.d/data.conf",
    content: "[Unit]\nRequiresMountsFor=/data\n",
  },
  { path: "usr/lib/rig/shell.sh", content: guestShellScript(SHELL_DEVICE) },
  { path: "usr/lib/rig/workload.sh", content: WORKLOAD },
  { path: "srv/www/index.html", content: "web01\n" },
  { path: "srv/www/cgi-bin/status", content: CGI_STATUS, mode: 0o755 },
  { path: "srv/www/cgi-bin/rows", content: CGI_ROWS, mode: 0o755 },
  { path: "srv/www/cgi-bin/amcheck", content: CGI_AMCHECK, mode: 0o755 },
  { path: "boot/grub/grub.cfg", content: GRUB },
];

/** Run once inside the new root, with /proc there and no network: services, and the database on the second disk. */
export const DEBIAN_SETUP = `set -e
export LC_ALL=C.UTF-8
# systemctl enable talks to no systemd here: it only makes links.
systemctl -q enable systemd-networkd rig-http rig-shell
systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \\
  fstrim.timer systemd-networkd-wait-online.service serial-getty@ttyS0.service getty@tty1.service getty-static.service \\
  dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount sys-fs-fuse-connections.mount modprobe@drm.service
version=$(ls /etc/postgresql)
pg_dropcluster "$version" main
mkdir -p /data/postgresql
chown postgres:postgres /data/postgresql
pg_createcluster "$version" main -d /data/postgresql/main -- --data-checksums >/dev/null
cat >>"/etc/postgresql/$version/main/postgresql.conf" <<'CONF'
listen_addresses = ''
shared_buffers = 32MB
CONF
pg_ctlcluster "$version" main start
runuser -u postgres -- createdb app
runuser -u postgres -- psql -Xq -v ON_ERROR_STOP=1 -d app <<'SQL'
create extension amcheck;
create schema app;
create table app.ledger(client int, seq bigint, at timestamptz default clock_timestamp(), note text, primary key (client, seq));
create table app.orders(id bigserial primary key, at timestamptz default now(), note text, sum text);
insert into app.orders(note, sum) select repeat('x', 100) || g, md5(g::text) from generate_series(1, 20000) g;
create index on app.orders(sum);
vacuum freeze analyze;
SQL
pg_ctlcluster "$version" main stop -m fast
ln -sf "$(ls /boot | grep ^vmlinuz- | head -n 1)" /boot/vmlinuz
ln -sf "$(ls /boot | grep ^initrd.img- | head -n 1)" /boot/initrd.img
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /etc/apt/sources.list /etc/apt/sources.list.d/* /var/log/*.log /tmp/*
`;
