// node node.mjs FOLDER PACKAGE REQUESTS: run exports on a JavaScript runtime, print what they give.
// A request is { inputs: {name: {type, data, dims}} } for a whole model.onnx, or has `given`, such
// tensors by name, and `scalars`, for a model token by token.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, name, requests] = process.argv.slice(2);
const ort = createRequire(`${process.cwd()}/`)(name);
if (ort.env.wasm) ort.env.wasm.numThreads = 1;
const load = async (file) => new Uint8Array(await readFile(`${folder}/${file}`));
const tensor = ({ type, data, dims }) =>
  new ort.Tensor(type, type === "string" ? data : { uint8: Uint8Array, int32: Int32Array, float32: Float32Array }[type].from(data), dims);
const tensors = (given) => Object.fromEntries(Object.entries(given).map(([name, value]) => [name, tensor(value)]));
const opened = {};

async function whole({ inputs }) {
  opened.whole ??= await ort.InferenceSession.create(await load("model.onnx"));
  return { text: (await opened.whole.run(tensors(inputs))).text.data };
}

async function stream({ given, scalars }) {
  const said = JSON.parse(await readFile(`${folder}/model.json`));
  const { open } = await import(pathToFileURL(`${folder}/stream.js`));
  opened.stream ??= await open(ort, said.streaming, load);
  const texts = [], attention = [];
  for await (const now of opened.stream(tensors(given), scalars)) {
    texts.push(now.text);
    if (now.attention) attention.push(Array.from(now.attention.data));
  }
  return { texts, attention };
}

const found = [];
for (const request of JSON.parse(await readFile(requests))) {
  found.push(await (request.given ? stream(request) : whole(request)));
}
console.log(JSON.stringify(found));
