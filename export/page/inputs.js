// What a person gives the model: a widget for each kind of input.

const LARGEST = 1024; // pixels of a picture's longer side; the model makes it smaller still

/**
 * The widgets of a form.
 *
 * ort: the module of the runtime.
 * takes: what model.json says of the inputs: name, kind, label and what the kind has.
 * page: made(tag, text, attributes) makes an element; changed() ends what runs; submit() answers.
 *
 * Gives `values` and `numbers`, the elements for inputs and for numbers that the user chooses;
 * `read()`, the tensors of the inputs by name; and `scalars()`, the numbers by name.
 */
export function inputs(ort, takes, page) {
  const widgets = takes.map((place) => ({ place, ...KINDS[place.kind](ort, place, page) }));
  const [numbers, values] = [true, false].map((is) => widgets.filter(({ place }) => (place.kind === "choice") === is));
  const all = (some) => Object.fromEntries(some.map(({ place, read }) => [place.name, read()]));
  return {
    values: values.map(({ element }) => element),
    numbers: numbers.map(({ element }) => element),
    read: () => all(values),
    scalars: () => all(numbers),
  };
}

const KINDS = { text, image, choice, number: numbers, series: numbers };

function labelled(made, place, control) {
  const element = made("p");
  element.append(made("label", place.label || place.name, { for: control.id }), control);
  return element;
}

function text(ort, place, { made }) {
  const area = made("textarea", "", { id: place.name, rows: 3, spellcheck: "false" });
  if (!place.lines) area.dataset.line = "true"; // Enter ends it
  // The runtime ends a string at a NUL; a tokenizer takes it for an unknown character.
  const read = () => new ort.Tensor("string", [area.value.replaceAll("\0", "\ufffd")], [1]);
  return { element: labelled(made, place, area), read };
}

function choice(ort, place, { made }) {
  const step = place.number === "int32" ? 1 : "any";
  const range = Object.fromEntries([["min", place.least], ["max", place.most]].filter(([, end]) => end !== null));
  const field = made("input", "", { id: place.name, type: "number", step, ...range, required: "" });
  field.value = place.default;
  return { element: labelled(made, place, field), read: () => field.valueAsNumber };
}

/** Numbers, of a series a line for each step. */
function numbers(ort, place, { made }) {
  const area = made("textarea", "", { id: place.name, rows: place.kind === "series" ? 6 : 1 });
  function read() {
    const rows = area.value.trim().split("\n").map((line) => line.trim().split(/[\s,;]+/).map(Number));
    const width = place.kind === "series" ? place.width : 1;
    if (rows.some((row) => row.length !== width || row.some((x) => !Number.isFinite(x)))) {
      throw new Error(`${place.label || place.name}: give ${width} numbers in each line.`);
    }
    const shape = place.kind === "series" ? [1, rows.length, width] : [1];
    return new ort.Tensor("float32", Float32Array.from(rows.flat()), shape);
  }
  return { element: labelled(made, place, area), read };
}

/** A picture: chosen, dropped or pasted. */
function image(ort, place, { made, changed, submit }) {
  const drop = made("div", "", { id: "drop" }), looking = made("div", "", { id: "looking" });
  const file = made("input", "", { id: "file", type: "file", accept: "image/*" });
  const canvas = made("canvas", "", { id: "picture", role: "img", "aria-label": "the picture" });
  const label = `${place.label}: choose, drop or paste one`;
  let picture = null;
  looking.append(canvas, made("canvas", "", { id: "veil", "aria-hidden": "true" }));
  looking.hidden = true;
  drop.append(labelled(made, { ...place, label }, file), looking);

  let failure = null;
  async function take(chosen) {
    changed();
    try {
      picture = await pixels(ort, canvas, chosen);
      looking.hidden = false;
    } catch (error) {
      failure = error;
    }
    await submit();
  }

  function read() {
    const error = failure ?? (picture ? null : new Error("Choose a picture first."));
    failure = null;
    if (error) throw error;
    return picture;
  }

  file.addEventListener("change", () => file.files[0] && take(file.files[0]));
  for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.toggle("over", over); });
  }
  drop.addEventListener("drop", (event) => event.dataTransfer.files[0] && take(event.dataTransfer.files[0]));
  document.addEventListener("paste", (event) => event.clipboardData.files[0] && take(event.clipboardData.files[0]));
  return { element: drop, read };
}

/** Show a picture and give its pixels, uint8 [1, height, width, 3]. */
async function pixels(ort, canvas, file) {
  const found = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name || "This"} is not a picture that this browser can read.`);
  });
  const scale = Math.min(1, LARGEST / Math.max(found.width, found.height));
  canvas.width = Math.max(1, Math.round(found.width * scale));
  canvas.height = Math.max(1, Math.round(found.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // behind what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(found, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const kept = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    for (let channel = 0; channel < 3; channel++) kept[to++] = data[from + channel];
  }
  return new ort.Tensor("uint8", kept, [1, canvas.height, canvas.width, 3]);
}
