"""The command line as a user has it: real processes, what they print, what they leave."""

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from kerasrnn.cli import command as cli
from kerasrnn.tasks import exporting
from kerasrnn.training.checkpoints import newest_checkpoint

TEXT = "It was a dark night, and the rain fell on the old town. No one saw it coming!\n" * 60
TRAIN = ["--preset", "tiny", "--epochs", "2", "--set", "units=24", "embedding=8", "window=25"]


def run(*arguments, code=0, seconds=300, **options) -> subprocess.CompletedProcess:
    """`kerasrnn ARGUMENTS` in a new process, killed after so many seconds."""
    command = [sys.executable, "-m", "kerasrnn.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, **options)
    assert done.returncode == code, done.stderr[-3000:]
    return done


def call(capsys, *arguments) -> tuple[int, str, str]:
    """The same in this process: exit code, stdout, stderr."""
    code = cli.main([str(a) for a in arguments])
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A text, a run trained on it, and its exports."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "text.txt").write_text(TEXT)
    done = run("train", "lm", "--text", folder / "text.txt", "--out", folder / "run", *TRAIN)
    assert re.fullmatch(rf"{folder}/run: best epoch \d, .*val_nats [\d.]+, .*\n", done.stdout)
    assert done.stderr.count("--- after epoch") == 2
    assert "epoch 1/2  compiling the first batches\n" in done.stderr
    done = run("export", folder / "run", "--out", folder / "export", "--streaming")
    names = ("model.onnx", "score.onnx", "saved_model", "encode.onnx", "step.onnx", "choose.onnx")
    assert done.stdout.splitlines() == [f"{folder}/export/{name}" for name in names]
    return folder


def test_generate_from_all_three(folder, capsys):
    options = ("--prompt", "It was", "--prompt", "No", "--length", 20, "--seed", 3)
    texts = []
    for model in ("run", "export/model.onnx", "export/saved_model"):
        code, out, _ = call(capsys, "generate", folder / model, *options)
        assert code == 0
        texts.append(out)
    assert texts[0] == texts[1] == texts[2]
    assert texts[0].startswith("It was") and "\nNo" in texts[0]
    code, out, _ = call(capsys, "generate", folder / "export/model.onnx", *options, "--json")
    assert [json.loads(line)["text"] for line in out.splitlines()][1].startswith("No")


def test_generate_from_nothing_and_greedily(folder, capsys):
    first = call(
        capsys, "generate", folder / "export/model.onnx", "--length", 9, "--temperature", 0
    )
    assert first[0] == 0 and len(first[1]) == 10
    again = call(capsys, "generate", folder / "export/model.onnx", "--length", 9, "--top-k", 1)
    assert again[1] == first[1]


def test_all_that_was_exported_is_verified(folder, capsys, monkeypatch):
    step = folder / "export" / "step.onnx"
    code, out, _ = call(capsys, "verify", folder / "run", step)
    assert (code, out) == (0, f"{step}: does what {folder}/run does\n")
    held = []
    monkeypatch.setattr(exporting, "verify_export", lambda model, path: held.append(path.name))
    assert call(capsys, "verify", folder / "run", folder / "export")[0] == 0
    assert held == ["model.onnx", "score.onnx", "encode.onnx", "saved_model"]


def without_tensorflow(*arguments) -> str:
    """What a command prints in a process of its own, where it must not load TensorFlow or Keras."""
    code = (
        "import sys; from kerasrnn.cli.command import main; code = main(sys.argv[1:]);"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules; sys.exit(code)"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


def test_an_onnx_file_needs_no_tensorflow(folder):
    without_tensorflow("generate", folder / "export" / "model.onnx", "--length", "3")


def test_evaluate(folder, capsys):
    code, out, _ = call(capsys, "evaluate", folder / "run", "--json")
    figures = json.loads(out)
    assert code == 0 and set(figures) == {
        "bits_per_character",
        "nats",
        "perplexity",
        "tokens",
        "unknown_in_text",
    }
    history = (folder / "run" / "history.csv").read_text().splitlines()
    column = history[0].split(",").index("val_nats")
    best = min(float(line.split(",")[column]) for line in history[1:])
    assert figures["nats"] == pytest.approx(best, abs=1e-5)
    code, out, _ = call(capsys, "evaluate", folder / "run", "--text", folder / "text.txt")
    assert code == 0 and f"tokens {len(TEXT) // 32 * 32}" in out
    for name in ("model.onnx", "saved_model"):
        exported = folder / "export" / name
        assert call(capsys, "evaluate", exported, "--text", folder / "text.txt")[1] == out
        assert refused(capsys, "evaluate", exported) == (
            "kerasrnn: --text: expected what to measure it on, got nothing; give --text"
        )


def test_a_quantized_export(folder, tmp_path, capsys):
    out = tmp_path / "small"
    options = ("--format", "onnx", "--out", out, "--quantize", "int8")
    code, written, err = call(capsys, "export", folder / "run", *options, "--json")
    small, figures = json.loads(written)["written"], json.loads(written)["measured"]
    names = ("model.onnx", "score.onnx", "model.int8.onnx", "score.int8.onnx")
    assert code == 0 and small == [f"{out}/{name}" for name in names]
    figures = figures[small[2]]
    assert figures["full_bytes"] == (out / "model.onnx").stat().st_size > figures["bytes"]
    # The same metric on the same text as `evaluate`, but in ONNX Runtime.
    evaluated = json.loads(call(capsys, "evaluate", folder / "run", "--json")[1])
    full, int8 = figures["full"], figures["int8"]
    assert full["tokens"] == int8["tokens"] == evaluated["tokens"]
    for name in ("nats", "bits_per_character", "perplexity"):
        assert full[name] == pytest.approx(evaluated[name], abs=2e-5)
    assert int8["nats"] != full["nats"] and int8["nats"] == pytest.approx(full["nats"], abs=0.05)
    told = f"nats {full['nats']:.6g} -> {int8['nats']:.6g}"
    assert f"of the full file; {told}" in err and f"on {full['tokens']} tokens" in err
    assert call(capsys, "generate", small[2], "--prompt", "It was", "--length", 9)[0] == 0
    code, said, _ = call(capsys, "verify", folder / "run", out)
    full, score, int8, costs = said.splitlines()
    assert [full, score] == [f"{path}: does what {folder}/run does" for path in small[:2]]
    for path, line in ((small[2], int8), (small[3], costs)):
        told = rf"{path}: quantized, the same answers as \S+run in \d of 8 cases"
        assert re.fullmatch(told, line)


def test_quantization_that_cannot_be(folder, tmp_path, capsys):
    command = ("export", folder / "run", "--out", tmp_path / "e")
    for options, message in (
        (
            ("--quantize", "int8", "--format", "saved_model"),
            "--quantize: expected --format onnx or all, got --format saved_model; change --format",
        ),
        (
            ("--text", "a.txt"),
            "--text: expected --quantize beside it, got a.txt; add --quantize, or leave it out",
        ),
        (
            ("--quantize", "int8", "--source", "a.txt"),
            "--source: expected --text for a language model, got a.txt; give --text",
        ),
        (
            ("--quantize", "int8", "--text", tmp_path / "no"),
            f"--text: expected a file that can be read, got {tmp_path}/no "
            "(No such file or directory); check it",
        ),
    ):
        assert refused(capsys, *command, *options) == f"kerasrnn: {message}"
    assert list(tmp_path.iterdir()) == []
    done = run(*command, "--quantize", "int4", code=2)
    assert "--quantize: expected one of int8, fp16, got int4; did you mean int8?" in done.stderr


@pytest.mark.slow
def test_stop_with_ctrl_c_and_go_on(folder, tmp_path, capsys):
    command = [sys.executable, "-m", "kerasrnn.cli", "train", "lm", "--text", folder / "text.txt"]
    train = ["400" if part == "2" else part for part in TRAIN]
    command += ["--out", tmp_path / "run", *train]
    process = subprocess.Popen(
        [str(c) for c in command], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    for line in process.stderr:
        if "--- after epoch 2" in line:
            break
    for more in ((), ("--overwrite",), ("--dropout", "0.5")):  # a second one is refused at once
        assert refused(capsys, *command[3:], *more) == (
            "kerasrnn: --out: expected a folder that no other process trains in, got "
            f"{tmp_path}/run, where process {process.pid} on {socket.gethostname()} trains; "
            "wait until it ends, or give another"
        )
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == cli.STOPPED
    assert "the same command goes on" in err.splitlines()[-1]
    done_before = len((tmp_path / "run" / "history.csv").read_text().splitlines()) - 1
    assert done_before >= 2
    process = subprocess.Popen([str(c) for c in command], stderr=subprocess.PIPE, text=True)
    said = []
    for line in process.stderr:
        said.append(line)
        if f"--- after epoch {done_before + 2}" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert any(f"going on in epoch {done_before + 1}, batch" in line for line in said)
    epochs = [r.split(",")[0] for r in (tmp_path / "run" / "history.csv").read_text().splitlines()]
    assert epochs[1:] == [str(i + 1) for i in range(len(epochs) - 1)]


def refused(capsys, *arguments) -> str:
    """The one line of a command that must be refused."""
    code, out, err = call(capsys, *arguments)
    lines = [line for line in err.splitlines() if line]
    assert code == 2 and out == "" and len(lines) == 1, (code, out, err)
    return lines[0]


def test_bad_text(tmp_path, capsys):
    def train(name):
        return refused(capsys, "train", "lm", "--text", tmp_path / name, "--out", tmp_path / "run")

    assert train("none.txt") == (
        f"kerasrnn: --text: expected a file that can be read, got {tmp_path}/none.txt "
        "(No such file or directory); check it"
    )
    (tmp_path / "empty.txt").touch()
    assert "--text: expected a file with text in it, got" in train("empty.txt")
    (tmp_path / "latin").write_bytes("gut\nschön\n".encode("latin-1") * 2)
    assert train("latin") == (
        f"kerasrnn: --text: expected UTF-8, got 2 faulty lines: {tmp_path}/latin:2 (not UTF-8), "
        f"{tmp_path}/latin:4 (not UTF-8); convert it: iconv -f LATIN1 -t UTF-8, or drop them with "
        "--drop-faulty"
    )
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("text", "It is a truth.\n" * 99)
    assert train("text.zip").startswith("kerasrnn: --text: expected ")
    (tmp_path / "short.txt").write_text("ab" * 40)
    assert train("short.txt") == (
        "kerasrnn: --text: expected a text whose last 10%, for validation, fills a window of 100, "
        "got 80 tokens in all; give more text, or a smaller --window"
    )
    (tmp_path / "one.txt").write_text("a" * 50_000)
    assert "tokenizer: expected a vocabulary of at least two tokens, got 1;" in train("one.txt")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_a_library_answers_with_an_error(number, code, monkeypatch, capsys):
    """TensorFlow does: it says TypeError where a signal interrupts its calls."""

    def generate(args):
        try:
            os.kill(os.getpid(), number)
        except BaseException:
            raise TypeError("Flatten") from None

    before = signal.getsignal(number)
    monkeypatch.setitem(cli.COMMANDS, "generate", generate)
    try:
        ended = cli.main(["generate", "run"])
    except SystemExit as stop:
        ended = stop.code
    assert ended == code and signal.getsignal(number) is before
    assert capsys.readouterr().err == ("kerasrnn: stopped\n" if code == 130 else "")


def test_bad_prompts(folder, capsys):
    for model in ("run", "export/model.onnx", "export/saved_model"):
        assert refused(capsys, "generate", folder / model, "--prompt", "It é") == (
            "kerasrnn: --prompt: expected text that the model knows, got 'It é', which it reads "
            "as 'It \ufffd'; leave out what stands as \ufffd"
        )
    model = folder / "export" / "model.onnx"
    assert refused(capsys, "generate", model, "--prompt", "") == (
        "kerasrnn: --prompt: expected some text, got an empty string; "
        "leave --prompt out to begin from nothing"
    )
    line = refused(capsys, "generate", model, "--prompt", "a\udcff")
    assert line == "kerasrnn: --prompt: expected UTF-8, got 'a\\udcff'; give it as UTF-8"
    for option, value, message in (
        ("--length", 0, "--length: expected 1 to 2147483647, got 0; correct it"),
        ("--length", 1 << 40, "--length: expected 1 to 2147483647, got 1099511627776; correct it"),
        ("--temperature", -1, "--temperature: expected 0 or more, finite, got -1.0; correct it"),
        ("--temperature", "inf", "--temperature: expected 0 or more, finite, got inf; correct it"),
        ("--top-k", -1, "--top-k: expected 0 to 2147483647, got -1; correct it"),
        ("--top-p", 0, "--top-p: expected above 0 and at most 1, got 0.0; correct it"),
        ("--seed", -1, "--seed: expected 0 to 2147483647, got -1; give one of them"),
    ):
        assert refused(capsys, "generate", model, f"{option}={value}") == f"kerasrnn: {message}"


def test_bad_models(folder, tmp_path, capsys):
    assert "MODEL: expected a run folder, an ONNX file or a SavedModel" in refused(
        capsys, "generate", tmp_path / "nothing"
    )
    (tmp_path / "x.onnx").write_bytes(b"not onnx")
    assert "MODEL: expected an exported model" in refused(capsys, "generate", tmp_path / "x.onnx")
    (tmp_path / "sm").mkdir()
    (tmp_path / "sm" / "saved_model.pb").write_bytes(b"no")
    assert "MODEL: expected an exported" in refused(capsys, "generate", tmp_path / "sm")
    (tmp_path / "run").mkdir()
    for command in ("evaluate", "generate"):
        assert "RUN: expected a run folder" in refused(capsys, command, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text("{")
    for text in ("{", "{}", "[]", "null"):
        (tmp_path / "run" / "config.json").write_text(text)
        line = refused(capsys, "evaluate", tmp_path / "run")
        assert "RUN: expected a run folder with a readable" in line
    line = refused(capsys, "generate", folder / "export")
    assert f"give {folder}/export/model.onnx or {folder}/export/saved_model" in line


def test_a_damaged_model_says_what_can_be_done(folder, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(folder / "run", run)
    os.truncate(run / "model.keras", 1000)
    copied = "copy it again, or train it again with --overwrite"
    damaged = f"RUN: expected a whole model, got {run}/model.keras (the file is damaged); {copied}"
    last = f"; `kerasrnn export {run} --checkpoint last` takes the last checkpoint"
    assert refused(capsys, "generate", run) == f"kerasrnn: {damaged}{last}"
    shutil.rmtree(run / "checkpoint")
    assert refused(capsys, "generate", run) == f"kerasrnn: {damaged}"
    assert refused(capsys, "export", run, "--out", tmp_path / "e", "--checkpoint", "last") == (
        f"kerasrnn: RUN: expected a run folder with a checkpoint, got {run}; train it first"
    )


def test_the_last_checkpoint_is_exported(folder, tmp_path, capsys, monkeypatch):
    exported = {}

    def export(model, out, formats, said, **_):
        exported.update(model=model, said=said)
        return []

    monkeypatch.setattr(exporting, "export", export)
    assert call(capsys, "export", folder / "run", "--out", tmp_path / "e", "--checkpoint", "last")
    assert exported["said"]["checkpoint"] == "last"
    last = keras.saving.load_model(newest_checkpoint(folder / "run").folder / "model.keras")
    for found, wanted in zip(exported["model"].get_weights(), last.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_an_export_folder_that_exists(folder, capsys, monkeypatch):
    monkeypatch.setattr(
        "kerasrnn.tasks.run_folder.load_model", None
    )  # it is not needed to see this
    before = (folder / "export" / "model.onnx").stat().st_mtime_ns
    line = refused(capsys, "export", folder / "run", "--out", folder / "export")
    assert "--out: expected a folder that does not exist yet" in line
    assert (folder / "export" / "model.onnx").stat().st_mtime_ns == before


@pytest.mark.slow
def test_one_line_is_all_that_a_user_error_prints(folder, tmp_path):
    """In a process of its own: nothing of TensorFlow's start is seen."""
    for arguments in (
        ("generate", tmp_path),
        ("train", "lm", "--text", tmp_path / "no", "--out", "x"),
    ):
        assert len(run(*arguments, code=2).stderr.splitlines()) == 1
    done = run("export", folder / "run", "--out", tmp_path / "e", "--format", "onnx")
    # TensorFlow 2.21 says this at its first operation on booleans, at any log level.
    assert [line for line in done.stderr.splitlines() if "DT_BOOL" not in line] == []


def test_evaluate_names_a_text_that_changed(folder, tmp_path, capsys):
    shutil.copytree(folder / "run", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["sha256"]["text"] = "0" * 64
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 2
    reading, line = capsys.readouterr().err.splitlines()
    assert reading.startswith(f"reading what {tmp_path}/run names: ")
    assert line.endswith("text.txt, changed since; give --text")


def test_the_disk_is_named_not_traced(folder, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli, "print_result", full)
    code, _, err = call(capsys, "evaluate", folder / "run")
    assert code == cli.FAILED and err.splitlines()[-1].endswith(
        "No space left on device; make room and give the same command again"
    )


def test_a_pipe_that_breaks(capsys, monkeypatch):
    """A reader of our results may leave; any other pipe is a fault."""
    generate, made = ("generate", "model.onnx"), "kerasrnn.tasks.lm.use.generate"
    monkeypatch.setattr(made, lambda *_, **__: ["a text"])
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        assert cli.main(generate) == 0
    assert capsys.readouterr().err == ""

    def broken(*_, **__):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe", "cache")

    monkeypatch.setattr(made, broken)
    code, _, err = call(capsys, *generate)
    assert (code, err) == (cli.FAILED, "kerasrnn: cache: Broken pipe\n")


def test_a_finished_run(folder, capsys):
    command = ("train", "lm", "--text", folder / "text.txt", "--out", folder / "run", *TRAIN)
    line = refused(capsys, *command)
    assert line.endswith("which is finished after 2; raise --epochs, or use --overwrite")
    other = ["units=25" if part == "units=24" else part for part in command]
    assert "units=25 where it was 24" in refused(capsys, *other)


def test_help_is_quick():
    begin = time.perf_counter()
    assert "demo" in run("--help").stdout
    modules = "import sys, kerasrnn.cli; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", modules], capture_output=True, text=True)
    assert done.stdout.strip() == "False", f"took {time.perf_counter() - begin:.1f} s"


@pytest.mark.slow
def test_demo(tmp_path):
    done = run("demo", "--out", tmp_path / "demo", seconds=1800)
    assert re.search(r"language model: 1\.\d+ nats per character", done.stdout)
    assert "The import statement" in done.stdout
    right = {name: float(share) for name, share in re.findall(r"(\w+): ([\d.]+)% of", done.stdout)}
    assert right["dates"] >= 95 and right["scenes"] >= 90
    for picture in ("attention.png", "scene.png"):
        assert (tmp_path / "demo" / picture).stat().st_size > 10_000
    line = run("demo", "--out", tmp_path / "demo", code=2).stderr.splitlines()[-1]
    assert "a folder that does not exist yet" in line
    assert Path(tmp_path / "demo" / "lm-export" / "model.onnx").exists()
