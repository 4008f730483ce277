"""A folder that any static server serves: a page, the model token by token, and its runtime.

The page is plain HTML, CSS and JavaScript (`page/`); it finds task and runtime in `model.json`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from kerasrnn.base.errors import InputError
from kerasrnn.export.metadata import read_metadata
from kerasrnn.export.runner import STREAMING
from kerasrnn.export.streaming import ENCODE, Stream, stream_of

INDEX, MODEL = "index.html", "model.json"
PAGE = Path(__file__).with_name("page")
VERSION = "1.30.0"  # of onnxruntime-web where none is given
CDN = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist"
MODULE, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
BESIDE = Path("onnxruntime-web")


def form(served) -> Stream:
    """A served model as the page runs it.

    Raises:
        InputError: when its tokens are subwords, or it is an ensemble.
    """
    if any(tokenizer.level == "subword" for tokenizer in served.tokenizers):
        expected = "a model of characters or words: onnxruntime-web has no SentencePiece"
        step = "train one with --level word or char, or use --format onnx"
        raise InputError("format", expected, "web of a model of subwords", step)
    return stream_of(served)


def check_runtime(given: str | Path | None) -> None:
    """Refuse what is neither None, nor an address, nor an npm package of onnxruntime-web.

    Raises:
        InputError: saying what is missing.
    """
    if given is None or _is_address(given):
        return
    argument, package = "--onnxruntime-web", Path(given) / "package.json"
    step = "npm install onnxruntime-web, and give node_modules/onnxruntime-web"
    expected = "the folder of the npm package onnxruntime-web, or an https address of its dist"
    try:
        name = json.loads(package.read_text(encoding="utf-8")).get("name")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(argument, expected, given, step) from error
    if name != "onnxruntime-web":
        raise InputError(argument, expected, f"{given}, which is {name}", step)
    for file in (MODULE, WASM):
        if not (Path(given) / "dist" / file).is_file():
            raise InputError(argument, f"a package with dist/{file}", given, step)


def _is_address(given: str | Path) -> bool:
    return str(given).startswith(("https://", "http://"))


def write(folder: Path, runtime: str | Path | None) -> None:
    """Make a page of the folder that `encode.onnx` stands in.

    Args:
        runtime: as in `check_runtime`; a package's two files are copied, None is `CDN`.
    """
    for file in PAGE.iterdir():
        shutil.copyfile(file, folder / file.name)
    said = read_metadata(folder / ENCODE)
    said = {**said, STREAMING: json.loads(said[STREAMING])}
    said["onnxruntime_web"] = _runtime(folder, CDN if runtime is None else runtime)
    text = json.dumps(said, indent=2, ensure_ascii=False)
    (folder / MODEL).write_text(text, encoding="utf-8")


def _runtime(folder: Path, given: str | Path) -> dict[str, str]:
    """Where the page finds the runtime's module and its WebAssembly."""
    if _is_address(given):
        base = str(given).rstrip("/")
        return {"module": f"{base}/{MODULE}", "wasm": f"{base}/{WASM}"}
    (folder / BESIDE).mkdir()
    # Not every server knows that .mjs is JavaScript, and browsers then refuse it.
    module = BESIDE / Path(MODULE).with_suffix(".js")
    for source, target in ((MODULE, module), (WASM, BESIDE / WASM)):
        shutil.copyfile(Path(given) / "dist" / source, folder / target)
    return {"module": module.as_posix(), "wasm": (BESIDE / WASM).as_posix()}
