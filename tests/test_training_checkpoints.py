"""The folder of checkpoints among what others put there."""

from kerasrnn.training import checkpoints
from kerasrnn.training.checkpoints import Progress


def test_hidden_files_of_others_stay_and_do_no_harm(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in (".DS_Store", ".hidden", "._000001-000000000", ".partial.", "notes.txt"):
        (folder / name).touch()
    (folder / ".partial.000000-000000009").mkdir()  # a kill left it
    for epoch in range(3):
        progress = Progress(epoch=epoch)
        checkpoints.write(tmp_path, progress, lambda path: path.write_bytes(b"m"), [])
    assert checkpoints.newest_checkpoint(tmp_path).progress.epoch == 2
    names = {path.name for path in folder.iterdir()}
    assert {".DS_Store", ".hidden", "._000001-000000000", "notes.txt"} <= names
    assert ".partial.000000-000000009" not in names
    assert {name for name in names if name[0].isdigit()} == {
        "000001-000000000",
        "000002-000000000",
    }
