import type { GuestShell } from "./guest-shell.ts";

/** Writes at random with fio, and new files with dd, until `stopWriters`, at a rate that an emulated machine can also replicate. For machines of the fast rig. */
export async function startWriters(shell: GuestShell): Promise<void> {
  const fio = [
    "fio --name=writer --directory=/data1 --rw=randwrite --bs=4k --size=24m --rate_iops=60 --fsync=8",
    "--ioengine=psync --thread --time_based --runtime=3600 --buffer_compress_percentage=50 --refill_buffers",
  ].join(" ");
  const dd = `
n=0
while :; do
  n=$((n + 1))
  dd if=/dev/urandom of=/data2/file$((n % 12)) bs=16k count=$((n % 9 + 1)) 2>/dev/null
  [ $((n % 7)) = 0 ] && rm -f /data2/file$((n % 5))
  [ $((n % 5)) = 0 ] && sync
  sleep 0.3
done`;
  await shell.must(`(exec setsid ${fio}) >/run/fio.log 2>&1 </dev/null & echo $! >/run/fio.pid`);
  await shell.must(
    `cat >/run/dd.sh <<'SCRIPT'${dd}\nSCRIPT\n(exec setsid sh /run/dd.sh) >/run/dd.log 2>&1 </dev/null & echo $! >/run/dd.pid`,
  );
}

/** Ends the writers of \`startWriters\`; throws where one of them had ended by itself, since then nothing was proved. */
export async function stopWriters(shell: GuestShell): Promise<void> {
  await shell.must(
    "for writer in fio dd; do kill -0 $(cat /run/$writer.pid) || { echo $writer has ended; tail -n 5 /run/$writer.log; exit 1; }; done",
  );
  await shell.must("for writer in fio dd; do kill -9 $(cat /run/$writer.pid); done; sync");
}
