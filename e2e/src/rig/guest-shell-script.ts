/**
 * The shell of a machine of the rig, on a serial device: reads lines `<id> <seconds> <length> <command in base64>`, runs each
 * command once, answers `@begin <id> <exit code>`, the output in base64, `@end <id>`. A line that came damaged is dropped and a
 * line that came again is answered again, so the other end may repeat what was not answered. Runs under busybox and dash.
 * Writes to /run only, so that a command by itself changes no protected disk. Ends where the device has no port behind it, as in
 * a failed-over machine.
 */
export function guestShellScript(device: string): string {
  return `
exec <${device} >${device} || exit 0
stty raw -echo 115200 || exit 0
echo @ready
last=
while read -r id seconds length text; do
  [ "\${#text}" = "$length" ] || continue
  if [ "$id" != "$last" ]; then
    last=$id
    printf %s "$text" | base64 -d >/run/rig-command.sh
    timeout -k 5 "$seconds" sh /run/rig-command.sh </dev/null >/run/rig-output 2>&1
    code=$?
  fi
  echo "@begin $id $code"
  head -c 1048576 /run/rig-output | base64
  echo "@end $id"
done
`.trimStart();
}
