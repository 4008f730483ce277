"""The wheel and the sdist: one import name, complete, usable outside the checkout."""

import subprocess
import sys
import tarfile
import zipfile

import pytest

from tests.conftest import ROOT
from tests.test_export import bare_environment

CODE = (
    "import kerasrnn, kerasrnn.pipelines.text, kerasrnn.export, importlib.util as u;"
    "assert u.find_spec('pipelines') is None and u.find_spec('export') is None;"
    "from kerasrnn.export import artifact, runner; from kerasrnn.tasks.lm import work;"
    "print(kerasrnn.__file__)"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(sdist, wheel made from that sdist)."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def sources() -> set[str]:
    folders = {
        "kerasrnn": "kerasrnn",
        "pipelines": "kerasrnn/pipelines",
        "export": "kerasrnn/export",
    }
    return {
        str(target / path.relative_to(ROOT / folder))
        for folder, name in folders.items()
        for target in [ROOT.__class__(name)]
        for path in (ROOT / folder).rglob("*.py")
    }


def test_the_wheel_holds_one_name_and_every_file(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    modules = {name for name in names if name.endswith(".py")}
    assert modules == sources()
    page = {f"kerasrnn/export/page/{path.name}" for path in (ROOT / "export" / "page").iterdir()}
    assert page <= names and len(page) == 5
    assert {name.split("/")[0].split("-")[0] for name in names} == {"kerasrnn"}


def test_the_sdist_holds_what_the_wheel_needs(built):
    names = tarfile.open(built[0]).getnames()
    for wanted in ("setup.py", "README.md", "pipelines/text.py", "export/graphs/onnx_file.py"):
        assert any(name.endswith(f"/{wanted}") for name in names), wanted


def test_the_wheel_works_outside_the_checkout(built, tmp_path):
    ours = ("kerasrnn", "__editable__")
    python = bare_environment(tmp_path / "venv", lambda name: not name.startswith(ours))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--quiet", built[1]], check=True, capture_output=True)
    done = subprocess.run([python, "-c", CODE], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(str(tmp_path / "venv"))
    program = python.with_name("kerasrnn")
    done = subprocess.run([program, "generate", "nothing"], capture_output=True, text=True)
    assert done.returncode == 2 and "MODEL: expected a run folder" in done.stderr


def test_the_checkout_is_installed_editable():
    import kerasrnn
    import kerasrnn.export
    import kerasrnn.pipelines

    for module, folder in (
        (kerasrnn, "kerasrnn"),
        (kerasrnn.pipelines, "pipelines"),
        (kerasrnn.export, "export"),
    ):
        assert module.__file__ == str(ROOT / folder / "__init__.py")


def test_the_linter_finds_a_private_function_that_is_defined_twice():
    twice = "def _verify(one):\n    return one\n\n\ndef _verify(two):\n    return two\n"
    command = [sys.executable, "-m", "ruff", "check", "--stdin-filename", ROOT / "twice.py", "-"]
    done = subprocess.run(command, input=twice, capture_output=True, text=True)
    assert done.returncode == 1 and "F811 Redefinition of unused `_verify`" in done.stdout
