// The controls of the page and what they draw. See index.html.

import { connect } from "./game.js";
import { generate, load, model, show } from "./generator.js";
import { toPng } from "./png.js";
import { latent, onArc } from "./random.js";

const GRID = 16; // images that "Draw" draws
const element = (id) => document.getElementById(id);
const pause = (milliseconds) => new Promise((end) => setTimeout(end, milliseconds));

const drawn = {}; // part of the page -> settings of its pictures
let queue = Promise.resolve(); // drawings run one after the other
let waiting = false; // whether a redrawing is in the queue
let walk = null; // token of the walk that plays

/** What the controls say; throws an Error if a number is out of range. */
function settings() {
  const inputs = [...document.querySelectorAll("input[type=number]")];
  if (!inputs.every((input) => input.value !== "" && input.checkValidity())) {
    throw new Error("seeds and numbers must be integers from 0 to 4294967295");
  }
  const ids = ["class", "seed", "number", "truncation", "target", "position"];
  return Object.fromEntries(ids.map((id) => [id, Number(element(id).value)]));
}

const latentOf = (at, number = at.number) => latent(at.seed, number, model.latent_size);
const nameOf = (at, label = at.class, number = at.number) =>
  `Synthetic chest radiograph, ${model.class_names[label]}, seed ${at.seed}, number ${number}`;

/** Shows pictures, and remembers their settings for saving. */
function put(part, entries, at) {
  show(element(part), entries);
  drawn[part] = at;
}

async function drawImage(at) {
  const image = await generate(latentOf(at), at.class, at.truncation);
  put("image", [{ image, name: nameOf(at) }], at);
  const name = JSON.stringify(model.class_names[at.class]);
  element("python").textContent =
    `cxr_gan.sample(params, [${name}], ${at.seed}, start=${at.number}, ` +
    `truncation=${at.truncation})`;
}

async function drawPair(at) {
  const [base, ...others] = model.class_names;
  const entries = [];
  for (const [label, caption] of model.class_names.entries()) {
    const image = await generate(latentOf(at), label, at.truncation);
    entries.push({ image, name: nameOf(at, label), caption });
  }
  const first = entries[0].image;
  for (const [i, name] of others.entries()) {
    const image = entries[i + 1].image.map((x, j) => 0.5 + (x - first[j]) / 2);
    const caption = `${name} − ${base}`;
    entries.push({ image, name: `Difference: ${caption}`, caption });
  }
  put("pair", entries, at);
}

async function drawStep(at) {
  const z = onArc(latentOf(at), latentOf(at, at.target), at.position);
  const image = await generate(z, at.class, at.truncation);
  const name = `${nameOf(at)}, ${at.position} of the way to number ${at.target}`;
  put("step", [{ image, name }], at);
}

async function drawGrid(at) {
  const begin = performance.now();
  const entries = [];
  for (let i = 0; i < GRID; i++) {
    const label = i % model.class_names.length;
    const number = (at.number + i) % 2 ** 32;
    const image = await generate(latentOf(at, number), label, at.truncation);
    const caption = model.class_names[label];
    entries.push({ image, name: nameOf(at, label, number), caption });
    put("grid", entries, at);
    await pause(0); // lets the page react
  }
  const seconds = (performance.now() - begin) / 1000;
  element("speed").textContent = `${(GRID / seconds).toFixed(1)} images a second`;
}

/** Runs a drawing after those before it; false, with a message, if it fails. */
function enqueue(work) {
  const result = queue.then(async () => {
    try {
      await work();
      element("status").textContent = "";
      return true;
    } catch (error) {
      element("status").textContent = `No image was generated: ${error.message}.`;
      return false;
    }
  });
  queue = result;
  return result;
}

/** Redraws what depends on the controls; requests in between are joined. */
function redraw() {
  if (waiting) return queue;
  waiting = true;
  return enqueue(async () => {
    waiting = false;
    const at = settings();
    element("truncation-value").textContent = at.truncation;
    element("position-value").textContent = at.position;
    await drawImage(at);
    await drawStep(at);
    await drawPair(at);
  });
}

/** Walks to the end and back until it is stopped, or a drawing fails. */
async function play() {
  const own = walk ? null : {};
  walk = own;
  element("play").textContent = own ? "Stop" : "Play";
  for (let step = 0; own && walk === own; step++) {
    const phase = (step % 100) / 50;
    element("position").value = phase < 1 ? phase : 2 - phase;
    element("position-value").textContent = element("position").value;
    if (!(await enqueue(() => drawStep(settings())))) walk = null;
    await pause(20);
  }
  if (!walk) element("play").textContent = "Play";
}

/** Saves the pictures of a part of the page side by side, marked as synthetic. */
async function save(part) {
  const at = drawn[part];
  if (!at) return;
  const sources = [...element(part).querySelectorAll("canvas")];
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
    Seed: String(at.seed),
    Truncation: String(at.truncation),
    Software: model.software,
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(png);
  link.download = `synthetic_${part}_seed${at.seed}_number${at.number}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Connects the controls. */
function listen() {
  for (const id of ["class", "seed", "number", "truncation", "target", "position"]) {
    element(id).addEventListener("input", redraw);
  }
  element("next").addEventListener("click", () => {
    element("number").value = (Number(element("number").value) + 1) % 2 ** 32;
    redraw();
  });
  element("draw").addEventListener("click", () => enqueue(() => drawGrid(settings())));
  element("play").addEventListener("click", play);
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => save(button.dataset.save));
  }
  connect(enqueue);
}

/** Loads the model, then draws. */
async function start() {
  await load();
  for (const [label, name] of model.class_names.entries()) {
    element("class").add(new Option(name, label));
  }
  element("note").textContent = model.note;
  element("model").textContent =
    `Model ${model.model_hash}, ${model.resolution} px, ${model.software}. ` +
    `${model.licence} ${model.people}`;
  document.querySelector("main").hidden = false;
  listen();
  await redraw();
}

start().catch((error) => {
  element("status").textContent = `The generator could not be loaded: ${error.message}.`;
});
