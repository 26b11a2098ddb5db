// The generator, and pictures of what it draws.

export let model; // content of model.json
let ort, session;

/** Loads ONNX Runtime Web, the model and its description. */
export async function load() {
  ort = await import("./runtime/ort.js");
  ort.env.wasm.numThreads = 1; // more threads need headers that file servers lack
  ort.env.wasm.wasmPaths = {
    mjs: new URL("./runtime/ort-wasm.js", import.meta.url).href,
    wasm: new URL("./runtime/ort-wasm.wasm", import.meta.url).href,
  };
  model = await (await fetch("model.json")).json();
  const options = { executionProviders: ["wasm"] };
  session = await ort.InferenceSession.create("generator.onnx", options);
}

/** The image of a latent under a label: Float32Array [s * s] in [0, 1]. */
export async function generate(latent, label, truncation) {
  const scaled = latent.map((x) => truncation * x);
  const { images } = await session.run({
    z: new ort.Tensor("float32", scaled, [1, model.latent_size]),
    label: new ort.Tensor("int64", BigInt64Array.of(BigInt(label)), [1]),
  });
  return images.data;
}

/** A canvas that shows an image, with its name for screen readers. */
function canvasOf(image, name) {
  const canvas = document.createElement("canvas");
  const size = model.resolution;
  canvas.width = canvas.height = size;
  const pixels = new ImageData(size, size);
  image.forEach((x, i) => {
    const grey = Math.round(255 * Math.min(1, Math.max(0, x)));
    pixels.data.set([grey, grey, grey, 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", name);
  return canvas;
}

/** Replaces the pictures within an element: [{ image, name, caption }, ...]. */
export function show(element, entries) {
  const figures = entries.map(({ image, name, caption }) => {
    const figure = document.createElement("figure");
    figure.append(canvasOf(image, name));
    if (caption) {
      const text = document.createElement("figcaption");
      text.textContent = caption;
      figure.append(text);
    }
    return figure;
  });
  element.replaceChildren(...figures);
}
