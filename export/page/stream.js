// A model, one row at a time, on onnxruntime-web and onnxruntime-node alike.

/** The place of the greatest number, the first of equals. */
function likeliest(logits) {
  return logits.reduce((best, value, id) => (value > logits[best] ? id : best), 0);
}

/** Those of `tensors` that a session takes. */
function taken(session, tensors) {
  return Object.fromEntries(session.inputNames.map((name) => [name, tensors[name]]));
}

/**
 * Open the files of a model for use token by token.
 *
 * ort: the module of onnxruntime-web or onnxruntime-node.
 * said: what the files say of themselves as "streaming": their names, ids, what feeds what.
 * load: file name -> its bytes (Uint8Array).
 *
 * Gives `write(given, scalars)`, an asynchronous generator. `given` has the tensor of one text, one
 * prompt or one image by its name; `scalars` are numbers by name: `max_length`, and of a language
 * model `temperature`, `top_k`, `top_p`, `seed`. It yields first what there is before anything is
 * written, then once a token: { text, attention: tensor or null, sourceTokens: strings or null }.
 */
export async function open(ort, said, load) {
  const sessions = [];
  for (const name of said.files) {
    sessions.push(await ort.InferenceSession.create(await load(name)));
  }
  const [encode, step, choose] = sessions;
  const types = { temperature: "float32", top_p: "float32" };
  const scalar = (name, value) => new ort.Tensor(types[name] ?? "int32", [value], []);

  return async function* write(given, scalars = {}) {
    const numbers = { temperature: 1, top_k: 0, top_p: 1, seed: 0, ...scalars };
    const limit = scalars.max_length ?? said.max_length;
    const options = Object.entries(numbers).map(([name, value]) => [name, scalar(name, value)]);
    const fed = { ...Object.fromEntries(options), ...(await encode.run(taken(encode, given))) };
    let attention = null;
    for (let t = 0; ; t++) {
      const found = await step.run(taken(step, fed));
      const sourceTokens = fed.source_tokens?.data ?? null;
      yield { text: found.text.data[0], attention, sourceTokens };
      if (t >= limit) return;

      fed.logits = found.logits;
      fed.t = scalar("t", t);
      const id = choose ? (await choose.run(taken(choose, fed))).ids.data[0] : likeliest(found.logits.data);
      if (id === said.end || id === said.pad) return;
      for (const [output, name] of Object.entries(said.next)) fed[name] = found[output];
      const tokens = Int32Array.of(...fed.tokens.data, id);
      fed.tokens = new ort.Tensor("int32", tokens, [1, tokens.length]);
      attention = found.attention ?? null;
    }
  };
}

/**
 * Open a model that answers at once; `files` has its name. Gives `write` as `open` does; it yields
 * once: { text }, a line for each output.
 */
export async function whole(ort, [file], load) {
  const session = await ort.InferenceSession.create(await load(file));
  const kinds = { float32: Float32Array, int32: Int32Array };

  return async function* write(given, scalars = {}) {
    const numbers = {};
    for (const { name, type } of session.inputMetadata) {
      if (name in scalars) numbers[name] = new ort.Tensor(type, kinds[type].of(scalars[name]), []);
    }
    const found = await session.run({ ...given, ...numbers });
    const lines = Object.entries(found).map(([name, { data, dims }]) => `${name}: ${said(data, dims)}`);
    yield { text: lines.join("\n"), attention: null, sourceTokens: null };
  };
}

/** The values of the one row; of a series a line for each step. */
function said(data, dims) {
  const short = (value) => (typeof value === "number" ? String(+value.toPrecision(6)) : value);
  const width = dims.length > 2 ? dims.at(-1) : data.length;
  const rows = Array.from({ length: data.length / width }, (_, i) => Array.from(data.slice(i * width, (i + 1) * width), short).join(" "));
  return (rows.length > 1 ? "\n" : "") + rows.join("\n");
}
