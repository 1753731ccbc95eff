// A telephone's screen stays on during a call: a dark one may stop the microphone.

let lock = null;

export async function stayAwake(wanted) {
  lock?.release();
  lock = null;
  if (wanted) lock = (await navigator.wakeLock?.request("screen").catch(() => null)) ?? null;
}
