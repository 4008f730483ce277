"""Writes a folder for any static server: a page, the model for use token by token, and its runtime.

The page is plain HTML, CSS and JavaScript (`page/`); it reads task and runtime from `model.json`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from kerasrnn.base.errors import InputError
from kerasrnn.export.forms import Onnx
from kerasrnn.export.metadata import read_metadata
from kerasrnn.export.runner import STREAMING
from kerasrnn.export.streaming import Streaming

NESTED = ("takes", "gives", "search", STREAMING)  # entries of the metadata that are JSON
INDEX, MODEL = "index.html", "model.json"
PAGE = Path(__file__).with_name("page")
VERSION = "1.30.0"  # of onnxruntime-web, by default
CDN = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist"
MODULE, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
BESIDE = Path("onnxruntime-web")


def form_of_page(served) -> Onnx:
    """The form of a served model that the page runs: token by token, where it can.

    Raises:
        InputError: when the tokens are subwords, or the model is an ensemble.
    """
    if any(tokenizer.level == "subword" for tokenizer in served.tokenizers):
        expected = "a model of characters or words: onnxruntime-web has no SentencePiece"
        step = "train one with --level word or char, or use --format onnx"
        raise InputError("format", expected, "web of a model of subwords", step)
    return Onnx(served) if served.stream is None else Streaming(served)


def check_runtime(given: str | Path | None) -> None:
    """Refuse a runtime that is not None, an address, or an npm package of onnxruntime-web.

    Raises:
        InputError: about the part that is missing.
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


def _is_address(runtime: str | Path) -> bool:
    """Whether the runtime is a web address, and not a folder."""
    return str(runtime).startswith(("https://", "http://"))


def write(folder: Path, form: Onnx, runtime: str | Path | None) -> None:
    """Turn the folder of an exported model into a page.

    Args:
        folder: where the files of `form` are.
        form: what `form_of_page` returned.
        runtime: as in `check_runtime`; two files of a package are copied, and None means `CDN`.
    """
    for file in PAGE.iterdir():
        shutil.copyfile(file, folder / file.name)
    settings = read_metadata(folder / form.file)
    nested = {name: json.loads(settings[name]) for name in NESTED if name in settings}
    settings = {**settings, **nested, "files": form.files}
    settings["onnxruntime_web"] = _runtime(folder, CDN if runtime is None else runtime)
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    (folder / MODEL).write_text(text, encoding="utf-8")


def _runtime(folder: Path, runtime: str | Path) -> dict[str, str]:
    """The places of the runtime's module and WebAssembly file, for the page."""
    if _is_address(runtime):
        base = str(runtime).rstrip("/")
        return {"module": f"{base}/{MODULE}", "wasm": f"{base}/{WASM}"}
    (folder / BESIDE).mkdir()
    # Some servers do not know that .mjs is JavaScript, and browsers then refuse the module.
    module = BESIDE / Path(MODULE).with_suffix(".js")
    for source, target in ((MODULE, module), (WASM, BESIDE / WASM)):
        shutil.copyfile(Path(runtime) / "dist" / source, folder / target)
    return {"module": module.as_posix(), "wasm": (BESIDE / WASM).as_posix()}
