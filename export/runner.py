"""Runs an exported artifact. Imports onnxruntime or tensorflow and numpy only, nothing of ours.

As a program, `python runner.py ARTIFACT INPUTS.npz OUTPUTS.npz` answers every case in a fresh
process, as `write_cases` and `read_cases` have them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

CONTRIB = "ai.onnx.contrib"
GRAPH = "saved_model.pb"  # the file by which a SavedModel is known
STREAMING = "streaming"  # what the files of a model token by token say under this name


def load(path: str | Path):
    """The artifact as a function: a dict of input arrays -> a dict of output arrays.

    Its attribute `inputs` has their names; a SavedModel takes the inputs of any of its signatures.
    Any file of a model token by token stands for all of them, driven until each row has ended.
    """
    path = Path(path)
    return _saved_model(path) if path.is_dir() else _onnx(path)


def _onnx(path: Path):
    session = _session(path)
    said = session.get_modelmeta().custom_metadata_map
    if STREAMING in said:
        return _stream(streamed(path, said), json.loads(said[STREAMING]))
    return _function(session)


def _session(path: Path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:
        if CONTRIB not in str(error):  # "Fatal error: ai.onnx.contrib:… is not a registered op"
            raise
    from onnxruntime_extensions import get_library_path

    options.register_custom_ops_library(get_library_path())
    return onnxruntime.InferenceSession(path, options, providers=providers)


def _function(session):
    names = [output.name for output in session.get_outputs()]

    def run(inputs: dict) -> dict:
        return dict(zip(names, session.run(None, inputs), strict=True))

    run.inputs = [given.name for given in session.get_inputs()]
    return run


def streamed(path: Path, metadata: dict[str, str]) -> list[Path]:
    """The files of a model token by token, of which `path` is one."""
    return [path.with_name(name) for name in json.loads(metadata[STREAMING])["files"]]


def _stream(files: list[Path], said: dict):
    """Encode, then a step for each token: the likeliest, or as `choose.onnx` draws."""
    encode, step, *choose = (_function(_session(file)) for file in files)

    def run(inputs: dict) -> dict:
        feed = encode({name: inputs[name] for name in encode.inputs})
        limit, begun = int(inputs.get("max_length", said["max_length"])), feed["tokens"].shape[1]
        score, looked, ended = np.zeros(len(feed["tokens"]), np.float32), [], False
        while not ended:
            given = step({name: feed[name] for name in step.inputs})
            if len(looked) == limit:
                break
            ids = given["logits"].argmax(-1)
            if choose:
                feed |= {**inputs, "logits": given["logits"], "t": np.array(len(looked), np.int32)}
                ids = choose[0]({name: feed[name] for name in choose[0].inputs})["ids"]
            score += _log_probability(given["logits"], ids)
            looked.append(given.get("attention"))
            feed |= {name: given[output] for output, name in said["next"].items()}
            feed["tokens"] = np.append(feed["tokens"], ids[:, np.newaxis].astype(np.int32), axis=1)
            ended = np.isin(ids, [said["pad"], said["end"]]).all()
        tokens = feed["tokens"][:, begun:]
        found = {"text": given["text"], "score": score, "tokens": tokens * (tokens != said["end"])}
        found |= {name: feed[name] for name in ("source_tokens",) if name in feed}
        if "attention" in given:
            weights = np.stack([*looked, np.zeros_like(given["attention"])], axis=1)[:, :-1]
            weights[found["tokens"] == said["pad"]] = 0.0
            found["attention"] = weights
        return trimmed(found)

    run.inputs = encode.inputs
    run.streams = True
    return run


def _log_probability(logits, ids):
    """log p of `ids` [B] under `logits` [B, V], which may be -inf."""
    shifted = logits - logits.max(-1, keepdims=True)
    chosen = np.take_along_axis(shifted, ids[:, np.newaxis], axis=-1)[:, 0]
    return chosen - np.log(np.exp(shifted).sum(-1))


def trimmed(found: dict) -> dict:
    """`tokens` [..., T] and `attention` [B, T, ...] without the steps at which no row writes."""
    tokens = found["tokens"]
    written = np.flatnonzero(tokens.any(axis=tuple(range(tokens.ndim - 1))))
    T = written[-1] + 1 if written.size else 0
    cut = {"tokens": tokens[..., :T]}
    if "attention" in found:
        cut["attention"] = found["attention"][:, :T]
    return {**found, **cut}


def _saved_model(path: Path):
    import tensorflow as tf

    if (path / "assets.extra" / "needs_tensorflow_text").exists():
        import tensorflow_text  # noqa: F401  (registers the operators)
    loaded = tf.saved_model.load(str(path))
    by_inputs = {frozenset(s.structured_input_signature[1]): s for s in loaded.signatures.values()}

    def run(inputs: dict) -> dict:
        answer = by_inputs[frozenset(inputs)](**_tensors(inputs))
        return {name: decoded(value.numpy()) for name, value in answer.items()}

    run.inputs = list(loaded.signatures["serving_default"].structured_input_signature[1])
    run.keep = loaded  # the signature alone does not keep its variables alive
    return run


def _tensors(inputs: dict) -> dict:
    import tensorflow as tf

    return {
        name: tf.constant(value.tolist(), tf.string)
        if value.dtype == object
        else tf.constant(value)
        for name, value in inputs.items()
    }


def decoded(value: np.ndarray) -> np.ndarray:
    """Bytes as the strings that ONNX Runtime gives."""
    if value.dtype != object:
        return value
    return np.array([v.decode("utf-8") for v in value.ravel()], object).reshape(value.shape)


def write_cases(path: str | Path, cases: list[dict]) -> None:
    """Arrays by name, of each case, as one .npz file.

    NumPy would pickle strings, and a pickle is a program: their bytes, the length of each, and
    which of them are text stand in three arrays.
    """
    arrays = {"cases": np.array(len(cases))}
    for i, case in enumerate(cases):
        for name, value in case.items():
            value = np.asarray(value)
            parts = _unpickled(value) if value.dtype == object else {"": value}
            arrays |= {f"{i}/{name}{part}": array for part, array in parts.items()}
    np.savez(path, **arrays)


def _unpickled(strings: np.ndarray) -> dict[str, np.ndarray]:
    given = strings.ravel().tolist()
    raw = [s.encode("utf-8", "surrogatepass") if isinstance(s, str) else s for s in given]
    lengths = np.array([len(s) for s in raw], np.int64).reshape(strings.shape)
    is_text = np.array([isinstance(s, str) for s in given], bool)
    return {
        "/bytes": np.frombuffer(b"".join(raw), np.uint8),
        "/lengths": lengths,
        "/text": is_text,
    }


def read_cases(path: str | Path) -> list[dict]:
    r"""What `write_cases` wrote; strings are arrays of objects again.

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
    content, lengths = parts["bytes"].tobytes(), parts["lengths"]
    ends = np.cumsum(lengths.ravel()).tolist()
    strings = np.empty(len(ends), object)
    for i, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        raw = content[start:end]
        strings[i] = raw.decode("utf-8", "surrogatepass") if parts["text"][i] else raw
    return strings.reshape(lengths.shape)


def main(artifact: str, inputs: str, outputs: str) -> None:
    run = load(artifact)
    write_cases(outputs, [run(case) for case in read_cases(inputs)])


if __name__ == "__main__":
    main(*sys.argv[1:])
