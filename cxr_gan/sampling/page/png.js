// Writes text into PNG files, so that a saved image says that it is synthetic.

const SIGNATURE_AND_HEADER = 33; // bytes before the second chunk

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) {
    value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  }
  return value;
});

/** CRC-32 of the bytes, as in the PNG specification, annex D. */
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** An iTXt chunk: text in UTF-8 under an ASCII key. */
function textChunk(key, text) {
  const encode = new TextEncoder();
  const content = encode.encode(`iTXt${key}\0\0\0\0\0${text}`);
  const chunk = new Uint8Array(content.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, content.length - 4);
  chunk.set(content, 4);
  view.setUint32(content.length + 4, crc32(content));
  return chunk;
}

/** The canvas as a PNG with these texts; a Blob. */
export async function toPng(canvas, texts) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const chunks = Object.entries(texts).map(([key, text]) => textChunk(key, text));
  const parts = [
    bytes.slice(0, SIGNATURE_AND_HEADER), ...chunks, bytes.slice(SIGNATURE_AND_HEADER),
  ];
  return new Blob(parts, { type: "image/png" });
}
