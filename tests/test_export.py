"""Exports: the same text from Keras, ONNX and SavedModel, checked, whole or not at all."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

import kerasrnn
from kerasrnn.base.errors import InputError
from kerasrnn.export import export, forms, load, read_metadata, runner, verify_export
from kerasrnn.export.forms import answer as answer_of
from kerasrnn.export.verify import VerificationError, differences, run_fresh, verify
from kerasrnn.kinds import described
from kerasrnn.models import LanguageModel
from kerasrnn.models.serving.language_model import CHOICES
from kerasrnn.text.tokenizers import CharTokenizer, SentencePieceTokenizer, WordTokenizer

TEXT = "The quick brown fox, it's said, jumps over the lazy dog!\nDon't (ever) stop; go on. " * 20
SEALED = "\n".join(
    [
        "import sys, importlib.util",
        "for name in {blocked!r}:",
        "    assert importlib.util.find_spec(name) is None, name",
        "sys.argv = sys.argv[1:]",
        "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')",
    ]
)

SERVED = "a model with a method `served`, as those of kerasrnn.models have"
GIVE_ONE = "give it one (kerasrnn.models.serving.Served), or use kerasrnn.export.onnx"


def make(level: str, cell: str = "lstm", **options) -> LanguageModel:
    tokenizer = {
        "char": lambda: CharTokenizer.from_texts([TEXT]),
        "word": lambda: WordTokenizer.from_texts([TEXT]),
        "subword": lambda: SentencePieceTokenizer.from_texts([TEXT], 60),
    }[level]()
    return LanguageModel(
        tokenizer, **{"cell": cell, "units": 16, "layers": 2, "embedding": 8, **options}
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A character model and the folder it was exported to."""
    model = make("char")
    out = tmp_path_factory.mktemp("export") / "lm"
    export(model, out, metadata={"license": "CC0"})
    return model, out


def feed(prompt: list[str], length=25, temperature=0.9, top_k=0, top_p=1.0, seed=11) -> dict:
    values = zip(CHOICES, (length, temperature, top_k, top_p, seed), strict=True)
    numbers = {place.name: np.array(value, place.kind.dtype) for place, value in values}
    return {"prompt": np.array(prompt, object), **numbers}


def test_no_prompt_at_all(exported):
    """A SavedModel answers with nothing; ONNX Runtime's tokenizer refuses."""
    _, out = exported
    assert load(out / "saved_model")(feed([]))["text"].shape == (0,)
    with pytest.raises(Exception, match="Pad node"):
        load(out / "model.onnx")(feed([]))


def test_bytes_that_are_no_text(exported):
    """Each invalid sequence is one unknown character, as in Keras; ONNX takes strings only."""
    model, out = exported
    broken = [b"a\xff\xfeb", b"a\xe3\x81", b"\xc0\x80", b"\xed\xa0\x80x"]
    case = feed(broken, 3, 0.0)
    expected = answer_of(model.served(), case)
    found = load(out / "saved_model")(case)
    assert differences(expected, found) == []
    heads = ("a\ufffd\ufffdb", "a\ufffd", "\ufffd\ufffd", "\ufffd\ufffd\ufffdx")
    assert all(t.startswith(h) for t, h in zip(found["text"], heads, strict=True))
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        load(out / "model.onnx")(feed(["a\ud800"]))
    with pytest.raises(ValueError, match="unicode string"):
        load(out / "saved_model")(feed(["a\ud800"]))


@pytest.mark.parametrize(
    ("level", "cell", "options"),
    [
        ("word", "gru", {"tied": True, "embedding": 16}),
        pytest.param("subword", "simple_rnn", {"embedding": "one-hot"}, marks=pytest.mark.slow),
    ],
)
def test_every_level_and_cell(tmp_path, level, cell, options):
    """`export` compares 8 cases of every kind and raises when one differs."""
    model = make(level, cell, **options)
    written = export(model, tmp_path / "out")
    assert [p.name for p in written] == ["model.onnx", "saved_model"]
    assert all(p.exists() for p in written)


def test_all_runtimes_write_the_same_text(exported):
    model, out = exported
    prompts = ["", "The ", "Don't (ever", "x" * 200, "é日🦉", "a\r\n\tb\u2028c"]
    for case in (feed(prompts), feed(["go on"], 300, 1.0, 7, 0.8, 2), feed(["", ""], 0)):
        expected = answer_of(model.served(), case)
        assert differences(expected, load(out / "model.onnx")(case)) == []
        assert differences(expected, load(out / "saved_model")(case)) == []


def test_the_signature(exported):
    _, out = exported
    session = onnxruntime.InferenceSession(out / "model.onnx")
    kinds = {i.name: (i.type, len(i.shape)) for i in session.get_inputs()}
    assert kinds == {
        "prompt": ("tensor(string)", 1),
        "max_length": ("tensor(int32)", 0),
        "temperature": ("tensor(float)", 0),
        "top_k": ("tensor(int32)", 0),
        "top_p": ("tensor(float)", 0),
        "seed": ("tensor(int32)", 0),
    }
    assert {o.name: o.type for o in session.get_outputs()} == {
        "text": "tensor(string)",
        "tokens": "tensor(int32)",
        "score": "tensor(float)",
    }


def test_the_file_says_what_it_is(exported):
    model = onnx.load(exported[1] / "model.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata == {
        "task": "lm",
        "title": "Go on with a text",
        "takes": json.dumps(described(exported[0].served().takes), ensure_ascii=False),
        "gives": json.dumps(described(exported[0].served().gives), ensure_ascii=False),
        "scores": json.dumps(described(exported[0].served().scoring.takes)),
        "tokenizer": "char",
        "search": "{}",
        "opset": "20",
        "license": "CC0",
        # The nightly Keras is a distribution of another name, so the module says its version.
        **{module.__name__: module.__version__ for module in (kerasrnn, keras, tf)},
    }
    for name in ("model.onnx", "saved_model"):
        assert read_metadata(exported[1] / name).items() >= metadata.items()
    domains = {opset.domain for opset in model.opset_import}
    assert domains <= {"", "ai.onnx.ml", "com.microsoft"}, "stock ONNX Runtime has no others"


@pytest.mark.slow
def test_an_export_is_held_against_its_model_later(exported, tmp_path):
    model, out = exported
    keras.utils.set_random_seed(8)  # the other one has other weights
    other = make("char")
    for path in (out / "model.onnx", out / "saved_model"):
        verify_export(model, path)
        with pytest.raises(VerificationError, match=rf"^{path.name}: .*the inputs were"):
            verify_export(other, path)
    (tmp_path / "half.onnx").write_bytes((out / "model.onnx").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"^EXPORT: expected a whole ONNX file, got .*half\.onnx"):
        verify_export(model, tmp_path / "half.onnx")
    (tmp_path / "m.onnx").write_bytes(b"")
    for path in (tmp_path, tmp_path / "m.onnx"):
        with pytest.raises(InputError) as error:
            verify_export(model, path)
        assert str(error.value) == (
            f"EXPORT: expected what `kerasrnn export` wrote, got {path}; export it again"
        )


def bare_environment(folder: Path, keep) -> Path:
    """A virtual environment with what `keep(name)` says of this one, by links."""
    venv.create(folder, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    target = folder / "lib" / version / "site-packages"
    for entry in Path(np.__file__).parent.parent.iterdir():
        if keep(entry.name) and entry.suffix != ".pth":
            (target / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def answers_from(python: Path, blocked: list[str], out: Path, case: dict, tmp_path) -> dict:
    inputs, outputs = tmp_path / "in.npz", tmp_path / "out.npz"
    runner.write_cases(inputs, [case])
    code = SEALED.format(blocked=blocked)
    command = [python, "-c", code, runner.__file__, out, inputs, outputs]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    [answer] = runner.read_cases(outputs)
    return answer


def test_onnx_runs_where_there_is_only_onnxruntime_and_numpy(exported, tmp_path):
    model, out = exported
    kept = ("onnxruntime", "numpy")
    python = bare_environment(tmp_path / "venv", lambda name: name.startswith(kept))
    case = feed(["The ", ""])
    blocked = ["kerasrnn", "tensorflow", "keras", "onnx", "tensorflow_text"]
    answer = answers_from(python, blocked, out / "model.onnx", case, tmp_path)
    assert differences(answer_of(model.served(), case), answer) == []


def test_saved_model_runs_with_plain_tensorflow(exported, tmp_path):
    model, out = exported
    ours = ("kerasrnn", "__editable__", "tensorflow_text", "tf2onnx", "onnx", "sentencepiece")
    python = bare_environment(tmp_path / "venv", lambda name: not name.startswith(ours))
    case = feed(["The ", ""])
    blocked = ["kerasrnn", "tensorflow_text", "sentencepiece", "onnxruntime"]
    answer = answers_from(python, blocked, out / "saved_model", case, tmp_path)
    assert differences(answer_of(model.served(), case), answer) == []


@pytest.mark.slow
def test_only_what_needs_tensorflow_text_says_so(exported, tmp_path):
    marker = Path("assets.extra") / "needs_tensorflow_text"
    assert not (exported[1] / "saved_model" / marker).exists()
    [path] = export(make("word", "gru"), tmp_path / "words", ["saved_model"])
    assert (path / marker).exists()


@pytest.mark.slow
def test_an_artifact_that_differs_is_not_written(tmp_path, monkeypatch):
    model = make("char")
    right = forms.answer

    def wrong(served, case):
        answer = right(served, case)
        return {**answer, "score": answer["score"] + (len(case["prompt"]) == 4)}

    monkeypatch.setattr(forms, "answer", wrong)
    with pytest.raises(
        VerificationError, match=r"^model.onnx: score is off by .*; the inputs were"
    ):
        export(model, tmp_path / "out", ["onnx"])
    assert list(tmp_path.iterdir()) == []


def test_a_broken_writer_leaves_nothing(tmp_path, monkeypatch):
    def fail(form, path, metadata):
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(forms.Onnx, "write", fail)
    with pytest.raises(KeyboardInterrupt):
        export(make("char"), tmp_path / "out", ["onnx"])
    assert list(tmp_path.iterdir()) == []


def test_what_export_refuses(tmp_path, exported):
    model, out = exported
    before = sorted(out.rglob("*"))
    for arguments, message in (
        (
            (model, out),
            f"--out: expected a folder that does not exist yet, got {out}; give another name",
        ),
        (
            (model, tmp_path / "x", ["onx"]),
            "format: expected one of onnx, saved_model, score, streaming, web, got onx; choose one "
            "of them",
        ),
        (
            (3, tmp_path / "x"),
            f"model: expected {SERVED}, got int; {GIVE_ONE}",
        ),
    ):
        with pytest.raises(InputError) as error:
            export(*arguments)
        assert str(error.value) == message
    assert sorted(out.rglob("*")) == before and not (tmp_path / "x").exists()


def test_differences_name_what_differs():
    a = {"text": np.array(["a", "b"], object), "score": np.array([1.0, -200.0], np.float32)}
    assert differences(a, dict(a)) == []
    assert differences(a, {"text": a["text"]}) == ["output score is missing"]
    near = {**a, "score": np.array([1.0, -200.01], np.float32)}
    assert differences(a, near) == []
    far = {**a, "score": np.array([1.0, -200.1], np.float32)}
    assert differences(a, far) == ["score is off by 0.0005"]
    none = {"score": np.array([1.0, -np.inf], np.float32)}
    assert differences(none, dict(none)) == []
    assert differences(none, {"score": a["score"]}) == ["score is off by nan"]
    unknown = {**a, "score": np.array([1.0, np.nan], np.float32)}
    assert differences(a, unknown) == ["score is off by nan"]
    assert differences(a, {**a, "text": np.array(["a", "c"], object)}) == [
        "text[1] is 'c', not 'b'"
    ]
    assert differences(a, {**a, "text": a["text"][:1]}) == ["text has shape [1], not [2]"]


def test_a_file_that_does_not_run_is_named(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not an onnx file")
    with pytest.raises(VerificationError, match=r"broken.onnx does not run in a fresh process: "):
        run_fresh(broken, [feed([""])])


def test_the_runner_imports_nothing_of_ours(exported):
    code = (
        "import sys, runpy; runpy.run_path(sys.argv[1])['load'](sys.argv[2]);"
        "import json; print(json.dumps([m for m in sys.modules if m.split('.')[0] in "
        "('kerasrnn', 'tensorflow', 'keras')]))"
    )
    command = [sys.executable, "-c", code, runner.__file__, exported[1] / "model.onnx"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_verify_passes_what_is_right(exported):
    model, out = exported
    cases = [feed(["The "]), feed(["", "a"], 3, 0.0)]
    expected = [answer_of(model.served(), case) for case in cases]
    verify(out / "model.onnx", cases, expected)
    with pytest.raises(VerificationError):
        verify(out / "model.onnx", cases, expected[::-1])
