// A picture as a message can carry it: small enough for the server, large enough to read.

const SIDE = 1600; // pixels of the longer side
const BYTES = 700_000; // of the data URL; a message may have 1 MiB
const QUALITIES = [0.85, 0.7, 0.5, 0.3];

// Answers {url, canvas}: a JPEG as a data URL, and the picture to be seen. Throws where `source`,
// a file or a playing video, is no picture.
export async function prepare(source) {
  const bitmap = await createImageBitmap(source);
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // JPEG knows no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  for (const quality of QUALITIES) {
    const url = canvas.toDataURL("image/jpeg", quality);
    if (url.length <= BYTES || quality === QUALITIES.at(-1)) return { url, canvas };
  }
}

// The first picture among what was pasted or dropped; null where there is none.
export function pictureIn(transfer) {
  return [...transfer.files].find((file) => file.type.startsWith("image/")) ?? null;
}
