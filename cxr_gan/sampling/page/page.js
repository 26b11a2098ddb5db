// The page: controls, pictures, and the reading game. See index.html.

import * as ort from "./runtime/ort.js";
import { latent, onArc } from "./random.js";
import { toPng } from "./png.js";

const GRID = 16; // images that "Draw" draws
const TRIALS = 20; // images of the reading game, half of them real
const element = (id) => document.getElementById(id);
const value = (id) => Number(element(id).value);

let model, session;
let queue = Promise.resolve(); // drawings run one after the other
let waiting = false; // a redrawing is in the queue
let playing = false;

/** Loads the model, then draws. */
async function start() {
  ort.env.wasm.numThreads = 1; // more threads need headers that file servers lack
  ort.env.wasm.wasmPaths = {
    mjs: new URL("./runtime/ort-wasm.js", import.meta.url).href,
    wasm: new URL("./runtime/ort-wasm.wasm", import.meta.url).href,
  };
  model = await (await fetch("model.json")).json();
  session = await ort.InferenceSession.create("generator.onnx", {
    executionProviders: ["wasm"],
  });
  for (const [label, name] of model.class_names.entries()) {
    element("class").add(new Option(name, label));
  }
  element("note").textContent = model.note;
  element("model").textContent =
    `Model ${model.model_hash}, ${model.resolution} px, ${model.software}. ` +
    `${model.licence} ${model.people}`;
  document.querySelector("main").hidden = false;
  await redraw();
  element("status").textContent = "";
}

/** The images of latents under labels; each Float32Array [s * s] in [0, 1]. */
async function generate(latents, labels) {
  const truncation = value("truncation");
  const images = [];
  for (const [i, z] of latents.entries()) {
    const scaled = z.map((x) => truncation * x);
    const { images: drawn } = await session.run({
      z: new ort.Tensor("float32", scaled, [1, model.latent_size]),
      label: new ort.Tensor("int64", BigInt64Array.of(BigInt(labels[i])), [1]),
    });
    images.push(drawn.data);
  }
  return images;
}

/** A canvas that shows an image, with its name for screen readers. */
function picture(image, name) {
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

/** Replaces the pictures of a part of the page: [[image, name, caption], ...]. */
function show(id, entries) {
  const figures = entries.map(([image, name, caption]) => {
    const figure = document.createElement("figure");
    figure.append(picture(image, name));
    if (caption) {
      const text = document.createElement("figcaption");
      text.textContent = caption;
      figure.append(text);
    }
    return figure;
  });
  element(id).replaceChildren(...figures);
}

const nameOf = (label, number) =>
  `Synthetic chest radiograph, ${model.class_names[label]}, seed ${value("seed")}, ` +
  `number ${number}`;
const chosen = (number) => latent(value("seed"), number, model.latent_size);

async function drawImage() {
  const [label, number] = [value("class"), value("number")];
  const [image] = await generate([chosen(number)], [label]);
  show("image", [[image, nameOf(label, number), ""]]);
  element("python").textContent =
    `cxr_gan.sample(params, ["${model.class_names[label]}"], ${value("seed")}, ` +
    `start=${number}, truncation=${value("truncation")})`;
}

async function drawPair() {
  const number = value("number");
  const labels = model.class_names.map((_, label) => label);
  const images = await generate(labels.map(() => chosen(number)), labels);
  const entries = images.map((image, label) => [
    image, nameOf(label, number), model.class_names[label],
  ]);
  for (const label of labels.slice(1)) {
    const difference = images[label].map((x, i) => 0.5 + (x - images[0][i]) / 2);
    const caption = `${model.class_names[label]} − ${model.class_names[0]}`;
    entries.push([difference, `Difference: ${caption}`, caption]);
  }
  show("pair", entries);
}

async function drawStep() {
  const [label, number, target] = [value("class"), value("number"), value("target")];
  const position = value("position");
  const z = onArc(chosen(number), chosen(target), position);
  const [image] = await generate([z], [label]);
  const name = `${nameOf(label, number)}, ${position} of the way to number ${target}`;
  show("step", [[image, name, ""]]);
}

async function drawGrid() {
  const first = value("number");
  const begin = performance.now();
  const entries = [];
  for (let i = 0; i < GRID; i++) {
    const label = i % model.class_names.length;
    const [image] = await generate([chosen(first + i)], [label]);
    const name = nameOf(label, first + i);
    entries.push([image, name, model.class_names[label]]);
    show("grid", entries);
    await new Promise((resolve) => setTimeout(resolve)); // lets the page react
  }
  const seconds = (performance.now() - begin) / 1000;
  element("speed").textContent = `${(GRID / seconds).toFixed(1)} images a second`;
}

/** Runs a drawing after those before it, and shows its error. */
function enqueue(work) {
  queue = queue.then(work).catch((error) => {
    element("status").textContent = `The image could not be drawn: ${error.message}`;
  });
  return queue;
}

/** Redraws what depends on the controls; requests in between are joined. */
function redraw() {
  if (waiting) return queue;
  waiting = true;
  return enqueue(async () => {
    waiting = false;
    if (![...document.querySelectorAll("input[type=number]")].every((x) => x.checkValidity())) {
      element("status").textContent = "Seeds and numbers are from 0 to 4294967295.";
      return;
    }
    element("status").textContent = "";
    element("truncation-value").value = element("truncation").value;
    element("position-value").value = element("position").value;
    await drawImage();
    await drawStep();
    await drawPair();
  });
}

/** Walks to the end and back until it is stopped. */
async function play() {
  playing = !playing;
  element("play").textContent = playing ? "Stop" : "Play";
  for (let step = 0; playing; step++) {
    const phase = (step % 100) / 50;
    element("position").value = phase < 1 ? phase : 2 - phase;
    element("position-value").value = element("position").value;
    await enqueue(drawStep);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Saves the pictures of a part of the page side by side, marked as synthetic. */
async function save(id) {
  const sources = [...element(id).querySelectorAll("canvas")];
  if (!sources.length) return;
  const columns = Math.min(8, sources.length);
  const size = model.resolution;
  const canvas = document.createElement("canvas");
  canvas.width = columns * size;
  canvas.height = Math.ceil(sources.length / columns) * size;
  sources.forEach((source, i) => {
    const [x, y] = [(i % columns) * size, Math.floor(i / columns) * size];
    canvas.getContext("2d").drawImage(source, x, y);
  });
  const png = await toPng(canvas, {
    Synthetic: "true",
    Description: `Synthetic chest radiograph. ${model.note}`,
    Label: sources.map((source) => source.getAttribute("aria-label")).join("; "),
    Model: model.model_hash,
    Seed: String(value("seed")),
    Truncation: String(value("truncation")),
    Software: model.software,
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(png);
  link.download = `synthetic_${id}_seed${value("seed")}_number${value("number")}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// The reading game.

let trials = [];
let right = { real: 0, synthetic: 0 };
let done = { real: 0, synthetic: 0 };

/** A random order; Fisher and Yates. */
function shuffled(items) {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}

/** A file as grey pixels in [0, 1], its centre square resized; null if unreadable. */
async function readFile(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return null;
  }
  const size = model.resolution;
  const side = Math.min(bitmap.width, bitmap.height);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(
    bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side,
    0, 0, size, size,
  );
  const { data } = context.getImageData(0, 0, size, size);
  return Float32Array.from(
    { length: size * size },
    (_, i) => (0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]) / 255,
  );
}

/** Begins a game with the files that were opened. */
async function begin() {
  const files = [...element("folder").files].filter((x) => !x.name.startsWith("."));
  const real = [];
  for (const file of shuffled(files)) {
    if (real.length === TRIALS / 2) break;
    const image = await readFile(file);
    if (image) real.push({ image, kind: "real" });
  }
  if (!real.length) {
    element("score").textContent = "No image of this folder can be read.";
    return;
  }
  const latents = real.map(() => {
    const words = crypto.getRandomValues(new Uint32Array(2));
    return latent(words[0], words[1], model.latent_size);
  });
  const labels = latents.map((_, i) => i % model.class_names.length);
  await enqueue(async () => {
    const images = await generate(latents, labels);
    trials = shuffled([...real, ...images.map((image) => ({ image, kind: "synthetic" }))]);
    right = { real: 0, synthetic: 0 };
    done = { real: 0, synthetic: 0 };
    ask();
  });
}

/** Shows the next image, or the result. */
function ask() {
  element("answers").hidden = !trials.length;
  const count = done.real + done.synthetic;
  if (trials.length) {
    show("trial", [[trials[0].image, `Image ${count + 1}: real or synthetic`, ""]]);
    element("score").textContent = count ? `${right.real + right.synthetic} of ${count} right` : "";
    return;
  }
  element("trial").replaceChildren();
  const [low, high] = wilson(right.real + right.synthetic, count);
  element("score").textContent =
    `${right.real + right.synthetic} of ${count} right (95 % interval ${low} to ${high} %): ` +
    `${right.real} of ${done.real} real and ${right.synthetic} of ${done.synthetic} ` +
    "synthetic images. Guessing gives 50 %.";
}

/** Ends of the 95 % interval of a share, in percent. Source: Wilson 1927, "Probable
 * Inference, the Law of Succession, and Statistical Inference". */
function wilson(hits, n) {
  const z = 1.96;
  const [share, square] = [hits / n, (z * z) / n];
  const middle = (share + square / 2) / (1 + square);
  const half = (z * Math.sqrt((share * (1 - share)) / n + square / (4 * n))) / (1 + square);
  return [middle - half, middle + half].map((x) => Math.round(100 * x));
}

function answer(kind) {
  const trial = trials.shift();
  if (!trial) return;
  done[trial.kind] += 1;
  if (trial.kind === kind) right[kind] += 1;
  ask();
}

for (const id of ["class", "seed", "number", "truncation", "target", "position"]) {
  element(id).addEventListener("input", redraw);
}
element("next").addEventListener("click", () => {
  element("number").value = value("number") + 1;
  redraw();
});
element("draw").addEventListener("click", () => enqueue(drawGrid));
element("play").addEventListener("click", play);
element("folder").addEventListener("change", begin);
element("real").addEventListener("click", () => answer("real"));
element("synthetic").addEventListener("click", () => answer("synthetic"));
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey) return;
  const kind = { r: "real", s: "synthetic" }[event.key.toLowerCase()];
  if (kind && !element("answers").hidden) answer(kind);
});
for (const button of document.querySelectorAll("[data-save]")) {
  button.addEventListener("click", () => save(button.dataset.save));
}
start().catch((error) => {
  element("status").textContent =
    `The generator could not be loaded: ${error.message}. The page needs a file ` +
    "server; it does not work from file://.";
});
