"""Runs an exported artifact. It imports onnxruntime or tensorflow, and numpy, but not kerasrnn.

As a program, `python runner.py ARTIFACT INPUTS.npz OUTPUTS.npz` answers every case in a fresh
process; `write_cases` and `read_cases` define the format of both files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

CONTRIB = "ai.onnx.contrib"
GRAPH = "saved_model.pb"  # the file that marks a folder as a SavedModel
METADATA = Path("assets.extra") / "kerasrnn.json"  # of a SavedModel
NEXT = "next_"  # before the name of a state, what one call hands to the next
STREAMING = "streaming"  # the metadata key of the files for use token by token


def load(path: str | Path):
    """Load an artifact as a function from a dict of input arrays to a dict of output arrays.

    Its attribute `inputs` has the names of the inputs, and `metadata` what the artifact says of
    itself, strings by name. A SavedModel takes the inputs of any of its
    signatures. Of the files for use token by token any one stands for all: the function runs them
    until every row has ended.
    """
    path = Path(path)
    return _load_saved_model(path) if path.is_dir() else _load_onnx(path)


def _load_onnx(path: Path):
    session = _open_session(path)
    metadata = session.get_modelmeta().custom_metadata_map
    if STREAMING in metadata:
        run = _stream_function(load_streaming(path, metadata), json.loads(metadata[STREAMING]))
    else:
        run = _function(session)
    run.metadata = metadata
    return run


def _open_session(path: Path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:
        # The extensions are loaded only where a graph needs them.
        if CONTRIB not in str(error):  # "Fatal error: ai.onnx.contrib:… is not a registered op"
            raise
    from onnxruntime_extensions import get_library_path

    options.register_custom_ops_library(get_library_path())
    return onnxruntime.InferenceSession(path, options, providers=providers)


def _function(session):
    names = [output.name for output in session.get_outputs()]

    def run(inputs: dict) -> dict:
        return dict(zip(names, session.run(None, inputs), strict=True))

    run.inputs = [tensor.name for tensor in session.get_inputs()]
    return run


def load_streaming(path: Path, metadata: dict[str, str]) -> list[Path]:
    """All files of a model for use token by token; `path` is one of them."""
    return [path.with_name(name) for name in json.loads(metadata[STREAMING])["files"]]


def _stream_function(files: list[Path], protocol: dict):
    """A function that encodes, and then writes one id per step.

    The id is the likeliest, or the one that `choose.onnx` draws.
    """
    encode, step, *choose = (_function(_open_session(file)) for file in files)

    def run(inputs: dict) -> dict:
        feed = encode({name: inputs[name] for name in encode.inputs})
        limit = int(inputs.get("max_length", protocol["max_length"]))
        prefix, end = feed["tokens"].shape[1], protocol["end"]
        score, attention, ended = np.zeros(len(feed["tokens"]), np.float32), [], False
        while not ended:
            outputs = step({name: feed[name] for name in step.inputs})
            if len(attention) == limit:  # this one step more gave the text with the last id
                break
            logits = outputs["logits"]
            ids = logits.argmax(-1)
            if choose:
                feed |= {**inputs, "logits": logits, "t": np.array(len(attention), np.int32)}
                ids = choose[0]({name: feed[name] for name in choose[0].inputs})["ids"]
            score += _log_probability(logits, ids)
            attention.append(outputs.get("attention"))
            feed |= {name: outputs[output] for output, name in protocol["next"].items()}
            feed["tokens"] = np.append(feed["tokens"], ids[:, np.newaxis].astype(np.int32), axis=1)
            ended = np.isin(ids, [protocol["pad"], end]).all()
        tokens = feed["tokens"][:, prefix:]
        answer = {"text": outputs["text"], "score": score, "tokens": tokens * (tokens != end)}
        answer |= {name: feed[name] for name in ("source_tokens",) if name in feed}
        if "attention" in outputs:
            weights = np.stack([*attention, np.zeros_like(outputs["attention"])], axis=1)[:, :-1]
            weights[answer["tokens"] == protocol["pad"]] = 0.0
            answer["attention"] = weights
        return trim(answer)

    run.inputs = encode.inputs
    run.streams = True
    return run


def _log_probability(logits, ids):
    """log p of `ids` [B] under `logits` [B, V]; logits may be -inf."""
    shifted = logits - logits.max(-1, keepdims=True)
    chosen = np.take_along_axis(shifted, ids[:, np.newaxis], axis=-1)[:, 0]
    return chosen - np.log(np.exp(shifted).sum(-1))


def trim(found: dict) -> dict:
    """Cut `tokens` [..., T] and `attention` [B, T, ...] after the last step that any row wrote."""
    tokens = found["tokens"]
    written = np.flatnonzero(tokens.any(axis=tuple(range(tokens.ndim - 1))))
    T = written[-1] + 1 if written.size else 0
    cut = {"tokens": tokens[..., :T]}
    if "attention" in found:
        cut["attention"] = found["attention"][:, :T]
    return {**found, **cut}


def _load_saved_model(path: Path):
    import tensorflow as tf

    if (path / "assets.extra" / "needs_tensorflow_text").exists():
        import tensorflow_text  # noqa: F401  (registers the operators)
    loaded = tf.saved_model.load(str(path))
    by_inputs = {frozenset(s.structured_input_signature[1]): s for s in loaded.signatures.values()}

    def run(inputs: dict) -> dict:
        outputs = by_inputs[frozenset(inputs)](**_tensors(inputs))
        return {name: decode_strings(value.numpy()) for name, value in outputs.items()}

    said = path / METADATA
    run.metadata = json.loads(said.read_text(encoding="utf-8")) if said.exists() else {}
    run.inputs = list(loaded.signatures["serving_default"].structured_input_signature[1])
    run.keep = loaded  # the signature alone does not keep its variables alive
    return run


def _tensors(inputs: dict) -> dict:
    """Arrays as tensors; arrays of objects are strings."""
    import tensorflow as tf

    return {
        name: tf.constant(value.tolist(), tf.string)
        if value.dtype == object
        else tf.constant(value)
        for name, value in inputs.items()
    }


def decode_strings(value: np.ndarray) -> np.ndarray:
    """Decode bytes to strings, as ONNX Runtime returns them."""
    if value.dtype != object:
        return value
    return np.array([v.decode("utf-8") for v in value.ravel()], object).reshape(value.shape)


def write_cases(path: str | Path, cases: list[dict]) -> None:
    """Write the arrays of each case, by name, to one .npz file.

    NumPy would pickle strings, and loading a pickle can run code. So an array of strings is stored
    as three arrays: all bytes, the length of each string, and whether it is text.
    """
    arrays = {"cases": np.array(len(cases))}
    for i, case in enumerate(cases):
        for name, value in case.items():
            value = np.asarray(value)
            parts = _unpickled(value) if value.dtype == object else {"": value}
            arrays |= {f"{i}/{name}{part}": array for part, array in parts.items()}
    np.savez(path, **arrays)


def _unpickled(strings: np.ndarray) -> dict[str, np.ndarray]:
    """An array of strings or bytes as three plain arrays."""
    values = strings.ravel().tolist()
    encoded = [s.encode("utf-8", "surrogatepass") if isinstance(s, str) else s for s in values]
    lengths = np.array([len(s) for s in encoded], np.int64).reshape(strings.shape)
    is_text = np.array([isinstance(s, str) for s in values], bool)
    return {
        "/bytes": np.frombuffer(b"".join(encoded), np.uint8),
        "/lengths": lengths,
        "/text": is_text,
    }


def read_cases(path: str | Path) -> list[dict]:
    r"""Read what `write_cases` wrote; strings are arrays of objects again.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "cases.npz"
    >>> write_cases(path, [{"a": np.array([["é\0", b"1"]], object)}, {}])
    >>> read_cases(path)
    [{'a': array([['é\x00', b'1']], dtype=object)}, {}]
    """
    with np.load(path) as arrays:
        cases: list[dict] = [{} for _ in range(int(arrays["cases"]))]
        for key in arrays.files[1:]:
            case, name, *part = key.split("/")
            cases[int(case)].setdefault(name, {})["".join(part)] = arrays[key]
    return [{n: _strings(v) if "bytes" in v else v[""] for n, v in c.items()} for c in cases]


def _strings(parts: dict[str, np.ndarray]) -> np.ndarray:
    """The array of strings or bytes that `_unpickled` stored."""
    content, lengths = parts["bytes"].tobytes(), parts["lengths"]
    ends = np.cumsum(lengths.ravel()).tolist()
    strings = np.empty(len(ends), object)
    for i, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        raw = content[start:end]
        strings[i] = raw.decode("utf-8", "surrogatepass") if parts["text"][i] else raw
    return strings.reshape(lengths.shape)


def main(artifact: str, inputs: str, outputs: str) -> None:
    """Answer the cases of one file, and write the answers to another.

    What an answer calls next_NAME is the NAME of the next case, where that does not say it.
    """
    run, answers, handed = load(artifact), [], {}
    for case in read_cases(inputs):
        answers.append(run({**handed, **case}))
        names = [name for name in answers[-1] if name.startswith(NEXT)]
        handed = {name[len(NEXT) :]: answers[-1][name] for name in names}
    write_cases(outputs, answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
