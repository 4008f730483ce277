// The page: one form for the task that model.json names; the text appears token by token.
import { open } from "./stream.js";

const LARGEST = 1024; // pixels of a picture's longer side; the model makes it smaller still
const FRAME = 16; // milliseconds that the browser may wait for a new picture of the page
const TITLES = { translator: "Translate", captioner: "Caption a picture", "language model": "Go on with a text" };

const $ = (id) => document.getElementById(id);
let ort, write, task, picture = null;
let run = 0; // which run is on; another number ends it

function show(state, text = "") {
  document.body.dataset.state = state;
  $("status").textContent = text;
  const writing = state === "writing";
  $("stop").disabled = !writing;
  $("text").setAttribute("aria-busy", String(writing));
}

/** A file as a Response, or an error that says what to do. */
async function fetched(url) {
  const response = await fetch(url).catch((error) => {
    throw new Error(`${url} could not be fetched (${error.message}). Is the server running?`);
  });
  if (response.ok) return response;
  throw new Error(`${url} is missing (HTTP ${response.status}). Copy the whole folder that was exported.`);
}

async function bytes(url) {
  return new Uint8Array(await (await fetched(url)).arrayBuffer());
}

async function runtime({ module, wasm }) {
  const advice = "Look at the network, or export again with --onnxruntime-web node_modules/onnxruntime-web";
  try {
    const found = await import(new URL(module, document.baseURI));
    found.env.wasm.numThreads = 1;
    found.env.wasm.wasmBinary = await bytes(wasm);
    return found;
  } catch (error) {
    throw new Error(`onnxruntime-web could not be loaded: ${error.message} — ${advice}`);
  }
}

async function begin() {
  const said = await (await fetched("model.json")).json();
  task = said.task;
  document.title = $("title").textContent = TITLES[task];
  $("go").textContent = TITLES[task].split(" ")[0];
  for (const part of document.querySelectorAll("[data-task]")) part.hidden = part.dataset.task !== task;
  ort = await runtime(said.onnxruntime_web);
  write = await open(ort, said.streaming, async (name) => {
    show("loading", `Loading ${name} …`);
    return bytes(name);
  });
  $("form").hidden = false;
  show("ready");
}

// --- what goes in ---

function given() {
  if (task === "captioner") return picture;
  const text = (task === "translator" ? $("source") : $("prompt")).value;
  // The runtime ends a string at a NUL; a tokenizer takes it for an unknown character.
  return new ort.Tensor("string", [text.replaceAll("\0", "\ufffd")], [1]);
}

function scalars() {
  if (task !== "language model") return {};
  const names = ["max_length", "temperature", "top_k", "seed"];
  return Object.fromEntries(names.map((name) => [name, $(name).valueAsNumber]));
}

/** Show a picture and keep its pixels, uint8 [1, height, width, 3]. */
async function take(file) {
  run++;
  const image = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name || "This"} is not a picture that this browser can read.`);
  });
  const scale = Math.min(1, LARGEST / Math.max(image.width, image.height));
  const canvas = $("picture");
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // behind what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const pixels = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    for (let channel = 0; channel < 3; channel++) pixels[to++] = data[from + channel];
  }
  picture = new ort.Tensor("uint8", pixels, [1, canvas.height, canvas.width, 3]);
  $("looking").hidden = false;
  await answer();
}

// --- what comes out ---

async function answer() {
  const mine = ++run;
  if (task === "captioner" && !picture) return show("ready", "Choose a picture first.");
  const draw = task === "captioner" ? words() : matrix();
  $("text").textContent = "";
  show("writing");
  let before = null, painted = performance.now();
  for await (const { text, attention, sourceTokens } of write(given(), scalars())) {
    if (mine !== run) return;
    $("text").textContent = text;
    if (attention) draw(text.slice(before.length), attention, sourceTokens);
    before = text;
    if (performance.now() - painted > FRAME) {
      await new Promise((go) => setTimeout(go)); // let the browser draw
      painted = performance.now();
    }
    if (mine !== run) return;
  }
  show("done");
}

/** White space as marks that can be seen. */
function visible(piece) {
  return piece.trim() || piece.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥");
}

function made(kind, text = "", attributes = {}) {
  const element = document.createElement(kind);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** A table: a column for each token of the source, a row for each token written. */
function matrix() {
  const table = made("table"), body = made("tbody");
  $("attention").replaceChildren(made("p", "Where it looked for each token: the stronger the colour, the more"), table);
  $("attention").hidden = true;
  return (piece, attention, sourceTokens) => {
    if (!body.isConnected) {
      const head = made("tr");
      head.append(made("td"), ...Array.from(sourceTokens, (token) => made("th", visible(token), { scope: "col" })));
      const top = made("thead");
      top.append(head);
      table.append(top, body);
      $("attention").hidden = false;
    }
    const row = made("tr");
    row.append(made("th", visible(piece), { scope: "row" }));
    for (const weight of attention.data) {
      const cell = made("td", "", { title: `${Math.round(100 * weight)} %` });
      cell.style.setProperty("--weight", weight);
      row.append(cell);
    }
    body.append(row);
  };
}

/** A button for each word, which shows where the model looked for it. */
function words() {
  const place = $("attention"), veil = $("veil");
  place.replaceChildren(made("p", "Choose a word to see where the model looked for it."));
  place.hidden = true;
  veil.width = veil.height = 1;
  return (piece, attention) => {
    const button = made("button", visible(piece), { type: "button" });
    const look = () => {
      for (const other of place.querySelectorAll("button")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      darken(veil, attention);
    };
    button.addEventListener("click", look);
    place.append(button);
    place.hidden = false;
    look();
  };
}

/** Darken the picture where the model did not look; the browser smooths the grid. */
function darken(veil, { data, dims }) {
  [veil.height, veil.width] = dims.slice(1);
  const context = veil.getContext("2d"), shade = context.createImageData(veil.width, veil.height);
  const most = Math.max(...data, 1e-9);
  data.forEach((weight, i) => { shade.data[4 * i + 3] = 170 * (1 - weight / most); });
  context.putImageData(shade, 0, 0);
}

// --- what the user does ---

/** A handler whose errors are shown on the page. */
function safely(handler) {
  return async (event) => {
    try {
      await handler(event);
    } catch (error) {
      show("failed", error.message);
    }
  };
}

function stop() {
  run++;
  show("done", "Stopped.");
}

function listen() {
  $("form").addEventListener("submit", safely((event) => { event.preventDefault(); return answer(); }));
  $("stop").addEventListener("click", stop);
  $("file").addEventListener("change", safely((event) => event.target.files[0] && take(event.target.files[0])));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.body.dataset.state === "writing") stop();
    const enter = event.key === "Enter" && !event.isComposing && event.target.tagName === "TEXTAREA";
    if (enter && (event.ctrlKey || event.metaKey || (event.target.id === "source" && !event.shiftKey))) {
      event.preventDefault();
      $("form").requestSubmit();
    }
  });
  const drop = $("drop");
  for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.toggle("over", over); });
  }
  drop.addEventListener("drop", safely((event) => event.dataTransfer.files[0] && take(event.dataTransfer.files[0])));
  document.addEventListener("paste", safely((event) => {
    const file = task === "captioner" && event.clipboardData.files[0];
    return file && take(file);
  }));
}

listen();
safely(begin)();
