// The page: a form made from what model.json says; text appears token by token.
import { inputs } from "./inputs.js";
import { open, whole } from "./stream.js";

const FRAME = 16; // milliseconds that the browser may wait for a new picture of the page

const $ = (id) => document.getElementById(id);
let said, ort, form, write;
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
  said = await (await fetched("model.json")).json();
  document.title = $("title").textContent = said.title;
  $("go").textContent = said.title.split(" ")[0];
  ort = await runtime(said.onnxruntime_web);
  form = inputs(ort, said.takes, { made, changed: () => { run++; }, submit: safely(answer) });
  $("inputs").replaceChildren(...form.values);
  $("numbers").replaceChildren(...form.numbers);
  write = await (said.streaming ? open : whole)(ort, said.streaming ?? said.files, async (name) => {
    show("loading", `Loading ${name} …`);
    return bytes(name);
  });
  $("form").hidden = false;
  show("ready");
}

// --- what comes out ---

async function answer() {
  const mine = ++run;
  const given = form.read();
  const looked = said.gives.find(({ kind }) => kind === "attention");
  const draw = looked?.over === "image" ? words() : matrix();
  $("text").textContent = "";
  show("writing");
  let before = "", painted = performance.now();
  for await (const { text, attention, sourceTokens } of write(given, form.scalars())) {
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
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.body.dataset.state === "writing") stop();
    const enter = event.key === "Enter" && !event.isComposing && event.target.tagName === "TEXTAREA";
    if (enter && (event.ctrlKey || event.metaKey || (event.target.dataset.line && !event.shiftKey))) {
      event.preventDefault();
      $("form").requestSubmit();
    }
  });
}

listen();
safely(begin)();
