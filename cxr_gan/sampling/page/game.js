// The reader test: real images of a folder among as many synthetic ones.

import { generate, model, show } from "./generator.js";
import { latent } from "./random.js";

const REAL = 10; // images of the folder, at most
const element = (id) => document.getElementById(id);

let game = 0; // number of the newest game; older ones end
let trials = []; // [{ image, kind }, ...] that are left
let right, done; // counts by kind

/** A random order; Fisher and Yates. */
function shuffled(items) {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}

/** A file as grey pixels in [0, 1], the mean of each block of its centre square; null
 * if it cannot be read or is smaller than the model's images. */
async function read(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return null;
  }
  const size = model.resolution;
  const side = Math.min(bitmap.width, bitmap.height);
  if (side < size) return null;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, (side - bitmap.width) / 2, (side - bitmap.height) / 2);
  const { data } = context.getImageData(0, 0, side, side);
  const edge = (i) => Math.floor((i * side) / size);
  const image = new Float32Array(size * size);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      let sum = 0;
      for (let v = edge(y); v < edge(y + 1); v++) {
        for (let u = edge(x); u < edge(x + 1); u++) {
          const at = 4 * (v * side + u);
          sum += 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
        }
      }
      const count = (edge(y + 1) - edge(y)) * (edge(x + 1) - edge(x));
      image[y * size + x] = sum / count / 255;
    }
  }
  return image;
}

/** The class that a folder of the file's path names, else classes in turn. */
function labelOf(file, index) {
  const folders = file.webkitRelativePath.split("/");
  const label = model.class_names.findIndex((name) => folders.includes(name));
  return label >= 0 ? label : index % model.class_names.length;
}

/** Begins a game with the files that were opened; `enqueue` orders the drawings. */
async function begin(enqueue) {
  const own = ++game;
  const files = [...element("folder").files].filter((x) => x.type.startsWith("image/"));
  element("folder").value = ""; // so that the same folder can be opened again
  trials = [];
  element("trial").replaceChildren();
  element("answers").hidden = true;
  element("score").textContent = "Reading the folder…";
  const real = [];
  const labels = [];
  for (const file of shuffled(files)) {
    if (real.length === REAL) break;
    const image = await read(file);
    if (own !== game) return;
    if (image) {
      labels.push(labelOf(file, real.length));
      real.push({ image, kind: "real" });
    }
  }
  if (!real.length) {
    element("score").textContent =
      `No image in this folder can be read, or all are smaller than ${model.resolution} px.`;
    return;
  }
  await enqueue(async () => {
    const synthetic = [];
    for (const label of labels) {
      const [seed, number] = crypto.getRandomValues(new Uint32Array(2));
      const image = await generate(latent(seed, number, model.latent_size), label, 1);
      synthetic.push({ image, kind: "synthetic" });
    }
    if (own !== game) return;
    trials = shuffled([...real, ...synthetic]);
    right = { real: 0, synthetic: 0 };
    done = { real: 0, synthetic: 0 };
    ask();
    element("real").focus();
  });
}

/** Shows the next image, or the result. */
function ask() {
  const count = done.real + done.synthetic;
  const hits = right.real + right.synthetic;
  if (trials.length) {
    element("answers").hidden = false;
    const name = `Image ${count + 1}: real or synthetic`;
    show(element("trial"), [{ image: trials[0].image, name }]);
    element("score").textContent = count ? `${hits} of ${count} right` : "";
    return;
  }
  element("trial").replaceChildren();
  element("folder").focus();
  element("answers").hidden = true;
  const [low, high] = wilson(hits, count);
  element("score").textContent =
    `${hits} of ${count} right (95 % interval ${low} to ${high} %): ${right.real} of ` +
    `${done.real} real and ${right.synthetic} of ${done.synthetic} synthetic images. ` +
    "Guessing gives 50 %.";
}

/** Ends of the 95 % interval of a share, in percent. Source: Wilson 1927, "Probable
 * Inference, the Law of Succession, and Statistical Inference". */
function wilson(hits, n) {
  const z = 1.96;
  const [share, square] = [hits / n, (z * z) / n];
  const middle = (share + square / 2) / (1 + square);
  const root = Math.sqrt((share * (1 - share)) / n + square / (4 * n));
  const half = (z * root) / (1 + square);
  return [middle - half, middle + half].map((x) => Math.round(100 * x));
}

function answer(kind) {
  const trial = trials.shift();
  if (!trial) return;
  done[trial.kind] += 1;
  if (trial.kind === kind) right[kind] += 1;
  ask();
}

/** Connects the controls of the game; keys act while the focus is within it. */
export function connect(enqueue) {
  element("folder").addEventListener("change", () => begin(enqueue));
  element("real").addEventListener("click", () => answer("real"));
  element("synthetic").addEventListener("click", () => answer("synthetic"));
  element("game").addEventListener("keydown", (event) => {
    const isPlain = !(event.ctrlKey || event.metaKey || event.altKey || event.repeat);
    const kind = { r: "real", s: "synthetic" }[event.key.toLowerCase()];
    if (kind && isPlain) answer(kind);
  });
}
