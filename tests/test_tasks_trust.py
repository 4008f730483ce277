"""A `.keras` file of somebody else runs, reads, writes and fills nothing: one line says why."""

import contextlib
import io
import json
import shutil
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.base.errors import NEVER
from kerasrnn.cli import command as cli
from kerasrnn.layers import ImageEncoder
from kerasrnn.tasks import run_folder, trust

FOREIGN = """
from pathlib import Path
import keras
Path(__file__).with_name("imported").touch()
@keras.saving.register_keras_serializable(package="lab")
class Loss(keras.losses.SparseCategoricalCrossentropy):
    pass
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A whole `model.keras`."""
    tokenizer = kerasrnn.CharTokenizer.from_texts(["abc"])
    made = kerasrnn.LanguageModel(tokenizer, cell="gru", units=4, layers=1, embedding=2)
    made.compile()
    path = tmp_path_factory.mktemp("whole") / "model.keras"
    made.save(path)
    return path


@pytest.fixture
def run(model, tmp_path):
    """The run folder of a stranger."""
    config = {"format": run_folder.FORMAT, "task": "lm", "settings": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(model, tmp_path)
    return tmp_path


@contextlib.contextmanager
def members(run):
    """The files in `model.keras`, by name, to be changed."""
    with zipfile.ZipFile(run / "model.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    yield parts
    with zipfile.ZipFile(run / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def with_loss(run, loss) -> None:
    with members(run) as parts:
        config = json.loads(parts["config.json"])
        config["compile_config"]["loss"] = loss
        parts["config.json"] = json.dumps(config)


@contextlib.contextmanager
def weights(run):
    with members(run) as parts:
        file = io.BytesIO(parts["model.weights.h5"])
        with h5py.File(file, "a") as opened:
            yield opened
        parts["model.weights.h5"] = file.getvalue()


def refused(run, capsys, *options) -> str:
    """What the command says, behind the model's name."""
    assert cli.main(["generate", str(run), "--prompt", "a", "--length", "3", *options]) == 2
    said = capsys.readouterr()
    beginning = "kerasrnn: RUN: expected a model of classes of kerasrnn and Keras, got "
    assert said.out == "" and said.err.count("\n") == 1
    return said.err.removeprefix(f"{beginning}{run / 'model.keras'}, ").removesuffix("\n")


def one(module, name, config=None, **more) -> dict:
    config = {} if config is None else config
    return {"module": module, "class_name": name, "config": config, **more}


def test_a_model_that_nobody_changed_is_loaded(run, capsys):
    with_loss(run, one("keras.losses", "SparseCategoricalCrossentropy", registered_name=None))
    assert cli.main(["generate", str(run), "--prompt", "a", "--length", "3"]) == 0
    assert capsys.readouterr().out.startswith("a")


ATTACKS = {
    "a program": (one("os", "system", {"command": "id"}), "which names os.system"),
    "a function": (one("os", "function", "system"), "which names os.system"),
    "a download": (one("keras.utils", "function", "get_file"), "which names keras.utils.get_file"),
    "behind a dot": (one("keras", "utils.get_file"), "which names keras.utils.get_file"),
    "a module of Keras": (one("keras.src.utils.file_utils", "get_file"), None),
    "not loaded": (one("keras.src.nothing", "Dense"), "which names keras.src.nothing.Dense"),
    "a lambda": (one("keras.layers", "Lambda"), "which names keras.layers.Lambda"),
    "Python code": (
        one("builtins", "__lambda__", {"value": "4wAAAAA="}),
        "which names builtins.__lambda__",
    ),
    "a graph": (one("keras.layers", "TFSMLayer"), "which names keras.layers.TFSMLayer"),
    "a pickle": (
        one("keras.layers", "TorchModuleWrapper"),
        "which names keras.layers.TorchModuleWrapper",
    ),
    "a type": (one("builtins", "__typespec__", []), "which names builtins.__typespec__"),
    "a file of words": (
        one("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}),
        "whose StringLookup would read /etc/passwd",
    ),
    "weights of the network": (
        one("x", "x", {"weights": "imagenet"}, registered_name="kerasrnn>ImageEncoder"),
        "whose x would read imagenet",
    ),
    "no name": (one("keras.layers", {"a": 1}), "whose configuration names {'a': 1}"),
    "codes of a terminal": (one("a\nb", "\x1b[2J"), r"which names a\nb.\x1b[2J"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_the_configuration_names_is_refused(run, capsys, name):
    loss, reason = ATTACKS[name]
    reason = reason or "which names keras.src.utils.file_utils.get_file"
    with_loss(run, {"deep": [loss]})
    assert refused(run, capsys) == f"{reason}; {NEVER}"


@pytest.fixture
def lab(tmp_path_factory, monkeypatch):
    """A package of somebody else that can be imported, and has not been."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "labwork").mkdir()
    (folder / "labwork" / "__init__.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(trust, "_packages", set(trust._packages))
    yield folder / "labwork" / "imported"
    sys.modules.pop("labwork", None)
    keras.saving.get_custom_objects().pop("lab>Loss", None)


def test_an_optimizer_that_was_extended_in_place_is_one_of_keras(run):
    """As workers have it, which sum gradients before they clip them."""
    with members(run) as parts:
        config = json.loads(parts["config.json"])
        optimizer = config["compile_config"]["optimizer"]
        optimizer["module"] = type(keras.optimizers.AdamW()).__module__
        optimizer |= {"class_name": "AdamW", "registered_name": "AdamW"}
        parts["config.json"] = json.dumps(config)
    trust.check_model(run / "model.keras")


def test_classes_of_a_package_wait_for_its_name(run, capsys, lab):
    with_loss(run, one("labwork", "Loss", registered_name="lab>Loss"))
    expected = "which needs Loss of the package labwork; say --import labwork if you trust it"
    assert refused(run, capsys) == expected and not lab.exists()
    command = ["generate", str(run), "--prompt", "a", "--length", "3", "--import", "labwork"]
    assert cli.main(command) == 0 and lab.exists() and capsys.readouterr().out
    with_loss(run, one("labwork", "Gain", registered_name="lab>Gain"))
    reason = "which needs Gain of the package labwork, which has none"
    assert refused(run, capsys) == f"{reason}; {NEVER}"


def test_classes_that_happen_to_be_loaded_wait_too(run, capsys, lab):
    import labwork  # noqa: F401

    expected = "of the package labwork; say --import labwork if you trust it"
    with_loss(run, one("keras.losses", "Loss", registered_name="lab>Loss"))
    assert refused(run, capsys) == f"which needs Loss {expected}"
    with_loss(run, "lab>Loss")
    assert refused(run, capsys) == f"which needs Loss {expected}"


def test_a_package_that_is_not_there(run, capsys):
    assert cli.main(["generate", str(run), "--import", "labwork"]) == 2
    assert capsys.readouterr().err == (
        "kerasrnn: --import: expected a package that Python can import, got labwork (No module "
        "named 'labwork'); install it\n"
    )


def test_a_class_of_ours_that_there_is_not(run, capsys):
    with_loss(run, one("kerasrnn.losses", "Loss", registered_name="kerasrnn>Gain"))
    reason = "which needs Gain of the package kerasrnn, which has none"
    assert refused(run, capsys) == f"{reason}; {NEVER}"


LINKS = {
    "elsewhere": (
        lambda file: h5py.ExternalLink("/etc/passwd", "x"),
        "whose weights trap are a ExternalLink",
    ),
    "a name": (lambda file: h5py.SoftLink("/x"), "whose weights trap are a SoftLink"),
}


@pytest.mark.parametrize("name", LINKS)
def test_links_in_weights_are_refused(run, capsys, name):
    link, reason = LINKS[name]
    with weights(run) as file:
        file["trap"] = link(file)
    assert refused(run, capsys) == f"{reason}; {NEVER}"


def outside(file):
    file.create_dataset("trap", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("trap", layout)


def words(file):
    file.create_dataset("trap", data=["a"], dtype=h5py.string_dtype())


def test_weights_of_a_network_are_looked_through_too(tmp_path):
    file = tmp_path / "network.weights.h5"
    with h5py.File(file, "w") as opened:
        outside(opened)
    for network in ("small", "MobileNetV3Small"):
        with pytest.raises(kerasrnn.InputError) as error:
            ImageEncoder(network, image_size=32, weights=file)
        assert str(error.value) == (
            f"--cnn-weights: expected weights alone, got {file}, whose weights trap lie in another "
            f"file; {NEVER}"
        )


def endless(file):
    file.create_dataset("trap", (10**10,), "f4", chunks=(1000,), compression="gzip")


DATASETS = {
    outside: "whose weights trap lie in another file",
    virtual: "whose weights trap lie in another file",
    words: "whose weights trap are object",
}


@pytest.mark.parametrize("trap", DATASETS)
def test_weights_that_lie_elsewhere_are_refused(run, capsys, trap):
    with weights(run) as file:
        trap(file)
    assert refused(run, capsys) == f"{DATASETS[trap]}; {NEVER}"


def test_weights_larger_than_what_is_stored_are_refused(run, capsys):
    with weights(run) as file:
        endless(file)
    said = refused(run, capsys)
    assert said.startswith("whose weights would fill 40,000,00") and said.endswith(f"; {NEVER}")


@pytest.mark.parametrize(
    "name", ["assets/../../slip", "../slip", "/tmp/slip", "assets\\..\\slip", "model.weights.npz"]
)
def test_members_of_other_names_are_refused(run, capsys, name):
    with members(run) as parts:
        parts[name] = b"x"
    assert refused(run, capsys).replace("\\\\", "\\") == f"which holds {name}; {NEVER}"
    assert not list(run.parent.glob("slip")) and not list(run.glob("slip"))


def test_a_link_among_the_members_is_refused(run, capsys):
    with zipfile.ZipFile(run / "model.keras", "a") as archive:
        link = zipfile.ZipInfo("assets/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    assert refused(run, capsys) == f"which holds assets/link; {NEVER}"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused(run, capsys):
    """Two readers may each take another one."""
    with zipfile.ZipFile(run / "model.keras", "a") as archive:
        archive.writestr("config.json", "{}")
    assert refused(run, capsys) == f"which holds config.json twice; {NEVER}"


def test_a_zip_bomb_is_refused(run, capsys):
    with members(run) as parts:
        parts["assets/zeros"] = bytes(50_000_000)
    said = refused(run, capsys)
    assert said.startswith("which would unpack to 50,0")
    assert said.endswith(f" bytes, more than 10 times its own; {NEVER}")


def damaged_sizes(run):
    """The directory says less than what unpacks."""
    with members(run) as parts:
        parts["assets/zeros"] = bytes(50_000_000)
    content = (run / "model.keras").read_bytes()
    small, large = ((n).to_bytes(4, "little") for n in (50, 50_000_000))
    (run / "model.keras").write_bytes(content.replace(large, small))


def too_deep(run):
    with members(run) as parts:
        parts["config.json"] = b"[" * 100_000


def no_weights(run):
    with members(run) as parts:
        del parts["model.weights.h5"]


def no_object(run):
    with members(run) as parts:
        parts["config.json"] = b"[]"


@pytest.mark.parametrize("damage", [damaged_sizes, too_deep, no_weights, no_object])
def test_what_no_tool_writes_ends_with_one_line(run, capsys, damage):
    damage(run)
    assert cli.main(["generate", str(run), "--prompt", "a"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("kerasrnn: RUN: expected a whole model, got ") and said.count("\n") == 1


def test_arrays_of_no_weights_fill_nothing(run, capsys):
    """Many small datasets of one array are one array."""
    with weights(run) as file:
        file.create_dataset("more", data=np.zeros(1000))
        for number in range(50):
            file[f"more{number}"] = file["more"]
    assert cli.main(["generate", str(run), "--prompt", "a", "--length", "3"]) == 0
