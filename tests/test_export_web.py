"""The page and the JavaScript runtimes: Node.js and Chromium write what the Keras model writes."""

import functools
import json
import os
import re
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerasrnn.base.errors import InputError
from kerasrnn.cli.command import main
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.export import export, web
from kerasrnn.export.forms import answer as answer_of
from tests import test_export as lm
from tests import test_export_translator as translators
from tests.conftest import lacking
from tests.test_export_captioner import photos
from tests.test_export_streaming import captioner
from tests.test_readme import README

HERE = Path(__file__).parent
PACKAGES = {
    "onnxruntime-web": web.VERSION,
    "onnxruntime-node": web.VERSION,
    "playwright-core": "1.65.1",
}
LONGEST = 9
SOURCES = ["that Żubr sat", "the cat, the dog and the Łoś!", "", "a b cd 🦉"]
PROMPTS = [("The quick", 11), ("", 3), ("é日🦉 (", 5)]


@pytest.fixture
def package(tmp_path) -> Path:
    """A folder that looks like the npm package, its files as good as empty."""
    folder = tmp_path / "node_modules" / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "onnxruntime-web"}')
    for name in (web.MODULE, web.WASM, "ort.webgpu.mjs"):
        (folder / "dist" / name).write_text(name)
    return folder


def test_the_folder_is_whole(tmp_path, package):
    out = tmp_path / "out"
    model = lm.make("char", layers=1)
    assert export(model, out, ["web"], onnxruntime_web=package) == [
        out / "encode.onnx",
        out / "step.onnx",
        out / "choose.onnx",
        out / "index.html",
    ]
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {
        *("encode.onnx", "step.onnx", "choose.onnx", "model.json"),
        *("index.html", "page.css", "page.js", "inputs.js", "stream.js"),
        *("onnxruntime-web/ort.wasm.bundle.min.js", f"onnxruntime-web/{web.WASM}"),
    }
    said = json.loads((out / "model.json").read_text(encoding="utf-8"))
    assert said["task"] == "lm" and said["streaming"]["files"][2] == "choose.onnx"
    assert said["onnxruntime_web"] == {
        "module": "onnxruntime-web/ort.wasm.bundle.min.js",
        "wasm": f"onnxruntime-web/{web.WASM}",
    }
    assert (out / "onnxruntime-web" / "ort.wasm.bundle.min.js").read_text() == web.MODULE


@pytest.mark.parametrize("given", [None, "https://example.org/ort/dist/"])
def test_a_runtime_at_an_address(tmp_path, given):
    base = (given or web.CDN).rstrip("/")
    assert f"onnxruntime-web@{web.VERSION}/" in web.CDN
    assert f"jsDelivr (version {web.VERSION})" in README
    assert web._runtime(tmp_path, given or web.CDN) == {
        "module": f"{base}/{web.MODULE}",
        "wasm": f"{base}/{web.WASM}",
    }
    web.check_runtime(given)
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused(tmp_path, package):
    model, out, npm = lm.make("char"), tmp_path / "out", "npm install onnxruntime-web"
    npm += ", and give node_modules/onnxruntime-web"
    expected = "the folder of the npm package onnxruntime-web, or an https address of its dist"
    other = tmp_path / "other"
    other.mkdir()
    (other / "package.json").write_text('{"name": "onnxruntime-node"}')
    (package / "dist" / web.WASM).unlink()
    for options, message in (
        ({"onnxruntime_web": tmp_path}, f"expected {expected}, got {tmp_path}; {npm}"),
        (
            {"onnxruntime_web": other},
            f"expected {expected}, got {other}, which is onnxruntime-node; {npm}",
        ),
        (
            {"onnxruntime_web": package},
            f"expected a package with dist/{web.WASM}, got {package}; {npm}",
        ),
        (
            {"onnxruntime_web": package, "formats": ["onnx"]},
            "expected --format web beside it, got onnx; leave it out",
        ),
    ):
        with pytest.raises(InputError) as error:
            export(model, out, **{"formats": ["web"], **options})
        assert str(error.value) == f"--onnxruntime-web: {message}"
    with pytest.raises(InputError) as error:
        export(lm.make("subword"), out, ["web"])
    assert str(error.value) == (
        "format: expected a model of characters or words: onnxruntime-web has no SentencePiece, "
        "got web of a model of subwords; train one with --level word or char, or use --format onnx"
    )
    assert not out.exists()


def test_streaming_goes_with_onnx(tmp_path, capsys):
    for format, step in (
        ("saved_model", "use --format onnx"),
        ("web", "a page has these files anyway"),
    ):
        command = ["export", str(tmp_path), "--out", str(tmp_path / "o"), "--streaming"]
        assert main([*command, "--format", format]) == 2
        assert capsys.readouterr().err == (
            f"kerasrnn: --streaming: expected --format onnx or all beside it, got {format}; "
            f"{step}\n"
        )


# --- on real runtimes ---


@pytest.fixture(scope="module")
def npm(pytestconfig) -> Path:
    """A folder with the packages from npm, kept from one session to the next."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            lacking(f"no {program}")
    folder = pytestconfig.cache.mkdir("npm")
    wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
    if not all(_installed(folder / "node_modules" / n) == v for n, v in PACKAGES.items()):
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
        command = ["npm", "install", *options, *wanted]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            lacking(f"npm install failed: {done.stderr.strip()[-200:]}")
    return folder


def _installed(package: Path) -> str | None:
    try:
        return json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
    except OSError:
        return None


@pytest.fixture(scope="module")
def pages(npm, tmp_path_factory) -> dict:
    """task -> (model, the folder with its page and its model.onnx)."""
    folder, found = tmp_path_factory.mktemp("pages"), {}
    models = {
        "translate": (translators.make("word"), {"max_length": LONGEST}),
        "caption": (captioner("gated"), {"max_length": LONGEST}),
        "generate": (lm.make("char"), {}),
    }
    for task, (model, options) in models.items():
        runtime = npm / "node_modules" / "onnxruntime-web"
        export(model, folder / task, ["onnx", "web"], onnxruntime_web=runtime, **options)
        found[task] = (model, folder / task)
    return found


def greedy(model, case: dict) -> dict:
    rules = BeamRules(beam=1, banned=model.banned_ids)
    return answer_of(model.served(rules, LONGEST), case)


def searched(model, sources: list[str]) -> dict:
    return answer_of(model.served(None, LONGEST), {"source": np.array(sources, object)})


def generated(model, prompt: str, seed: int, length: int = 30) -> str:
    return model.generate([prompt], length, temperature=0.8, top_k=7, seed=seed)[0]


def on_node(npm: Path, package: str, folder: Path, requests: list[dict]) -> list[dict]:
    file = folder.parent / "requests.json"
    file.write_text(json.dumps(requests))
    command = ["node", HERE / "node.mjs", folder, package, file]
    done = subprocess.run(command, capture_output=True, text=True, cwd=npm, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def strings(texts: list[str]) -> dict:
    return {"type": "string", "data": texts, "dims": [len(texts)]}


RUNTIMES = ["onnxruntime-node", "onnxruntime-web"]


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_node_translates(npm, pages, runtime):
    model, folder = pages["translate"]
    rows = [{"given": {"source": strings([source])}} for source in SOURCES]
    whole = {"inputs": {"source": strings(SOURCES)}}
    *found, together = on_node(npm, runtime, folder, [*rows, whole])
    expected = searched(model, SOURCES)
    assert together["text"] == expected["text"][:, 0].tolist()
    for source, answer in zip(SOURCES, found, strict=True):
        right = greedy(model, {"source": np.array([source], object)})
        assert answer["texts"][-1] == right["text"][0, 0]
        steps = len(answer["attention"])
        assert len(answer["texts"]) == steps + 1
        wanted = right["attention"][0, :steps]
        assert np.allclose(np.reshape(answer["attention"], wanted.shape), wanted, atol=1e-4)


@pytest.mark.slow
def test_the_readmes_example_translates_on_node(npm, pages, tmp_path):
    [code] = re.findall(r"```js\n(.*?)```", README, re.S)
    model, folder = pages["translate"]
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "words").symlink_to(folder)
    (tmp_path / "translate.cjs").write_text(code)
    done = subprocess.run(
        ["node", "translate.cjs"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "NODE_PATH": str(npm / "node_modules")},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    sources = json.loads(re.search(r"sources = (.*);", code)[1])
    right = searched(model, sources)
    wanted = [f"{s} -> {t} " for s, t in zip(sources, right["text"][:, 0], strict=True)]
    lines = done.stdout.splitlines()
    assert all(line.startswith(w) for line, w in zip(lines, wanted, strict=True)), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_node_generates_and_captions(npm, pages, runtime):
    model, folder = pages["generate"]
    numbers = {"max_length": 30, "temperature": 0.8, "top_k": 7}
    requests = [
        {"given": {"prompt": strings([prompt])}, "scalars": {**numbers, "seed": seed}}
        for prompt, seed in PROMPTS
    ]
    found = on_node(npm, runtime, folder, requests)
    for (prompt, seed), answer in zip(PROMPTS, found, strict=True):
        assert answer["texts"][-1] == generated(model, prompt, seed)
    model, folder = pages["caption"]
    [case] = photos(1)
    given = {"type": "uint8", "data": case["image"].ravel().tolist(), "dims": case["image"].shape}
    [answer] = on_node(npm, runtime, folder, [{"given": {"image": given}}])
    assert answer["texts"][-1] == greedy(model, case)["text"][0, 0]


@pytest.fixture(scope="module")
def served(pages) -> str:
    """The address of a plain static server of all pages."""
    folder = pages["translate"][1].parent

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browse(npm):
    """A function that opens a page in headless Chromium, uses it and says what it shows."""
    chromium = shutil.which("chromium")
    if chromium is None:
        lacking("no chromium")

    def use(url: str, **request) -> dict:
        request = json.dumps({"url": url, **request})
        command = ["node", HERE / "browser.mjs", chromium, request]
        done = subprocess.run(command, capture_output=True, text=True, cwd=npm, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return use


@pytest.mark.slow
def test_the_page_translates(pages, served, browse, tmp_path):
    model, _ = pages["translate"]
    source, shot = SOURCES[1], tmp_path / "page.png"
    request = {"fill": {"source": source}, "enter": "Enter", "shot": str(shot)}
    found = browse(f"{served}/translate/", **request)
    right = greedy(model, {"source": np.array([source], object)})
    assert (found["state"], found["said"], found["unlabelled"]) == ("done", [], [])
    assert found["text"] == right["text"][0, 0]
    assert found["columns"] == right["source_tokens"][0].tolist()
    T = len(found["rows"])
    assert found["rows"] == right["target_tokens"][0, :T].tolist() and T > 3
    assert np.allclose(found["weights"], right["attention"][0, :T], atol=1e-4)
    assert len(found["texts"]) >= T and found["texts"][-1] == found["text"], "token by token"
    assert Image.open(shot).size[0] == 800


@pytest.mark.slow
def test_the_page_captions(pages, served, browse, tmp_path):
    model, _ = pages["caption"]
    for number, case in enumerate(photos(3)):
        file = tmp_path / f"{number}.png"
        Image.fromarray(case["image"][0]).save(file)
        found = browse(f"{served}/caption/", file=str(file), dark=bool(number))
        right = greedy(model, case)
        assert (found["state"], found["said"], found["unlabelled"]) == ("done", [], [])
        assert found["text"] == right["text"][0, 0]
        assert " ".join(found["words"]) == found["text"]
    (tmp_path / "none.png").write_text("no picture")
    found = browse(f"{served}/caption/", file=str(tmp_path / "none.png"))
    assert found["status"] == "none.png is not a picture that this browser can read."


@pytest.mark.slow
def test_the_page_generates_what_python_generates(pages, served, browse):
    model, _ = pages["generate"]
    for prompt, seed in PROMPTS:
        numbers = {"max_length": "30", "temperature": "0.8", "top_k": "7", "seed": str(seed)}
        fill = {"prompt": prompt, **numbers}
        phone = {"width": 360, "height": 700}
        found = browse(f"{served}/generate/", fill=fill, enter="Control+Enter", size=phone)
        assert (found["state"], found["said"], found["unlabelled"]) == ("done", [], [])
        assert found["text"] == generated(model, prompt, seed)
        assert not found["wider"], "it does not fit a phone"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("step.onnx", "step.onnx is missing (HTTP 404). Copy the whole folder that was exported."),
        ("model.json", "model.json is missing (HTTP 404). Copy the whole folder"),
        (f"onnxruntime-web/{web.WASM}", f"onnxruntime-web/{web.WASM} is missing (HTTP 404)."),
        ("onnxruntime-web/ort.wasm.bundle.min.js", "onnxruntime-web could not be loaded: "),
        ("stream.js", "page.js, inputs.js or stream.js could not be loaded. Copy the whole folder"),
    ],
)
def test_a_missing_file_is_named_on_the_page(pages, served, browse, missing, message):
    folder = pages["generate"][1]
    (folder / missing).rename(folder / "away")
    try:
        found = browse(f"{served}/generate/")
    finally:
        (folder / "away").rename(folder / missing)
    assert found["state"] == "failed" and message in found["status"]


@pytest.mark.slow
def test_a_page_opened_from_a_disk_says_what_to_do(pages, browse):
    found = browse((pages["generate"][1] / "index.html").as_uri())
    assert found["state"] == "failed"
    assert found["status"].startswith("A browser runs this page from a server only, not from a")
