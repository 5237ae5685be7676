/**
 * The shell of a machine of the rig, on a serial device: reads `<id> <seconds> <command in base64>` lines, runs each
 * command, answers `@begin <id> <exit code>`, the output in base64, `@end <id>`. Runs under busybox and dash. Writes to
 * /run only, so that a command by itself changes no protected disk. Ends where the device has no port behind it, as in a
 * failed-over machine.
 */
export function guestShellScript(device: string): string {
  return `
exec <${device} >${device} || exit 0
stty raw -echo 115200 || exit 0
echo @ready
while read -r id seconds text; do
  [ -n "$text" ] || continue
  printf %s "$text" | base64 -d >/run/rig-command.sh
  timeout -k 5 "$seconds" sh /run/rig-command.sh </dev/null >/run/rig-output 2>&1
  echo "@begin $id $?"
  head -c 1048576 /run/rig-output | base64
  echo "@end $id"
done
`.trimStart();
}
