"""Files and folders that appear whole or not at all."""

import os

import pytest

from kerasrnn.base.files import creating, recover, remove_abandoned, replacing


def tree(folder) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_a_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "a.keras"
    with replacing(target) as beside:
        assert beside.parent == tmp_path and beside.suffix == ".keras"
        beside.write_text("one")
        assert not target.exists()
    assert tree(tmp_path) == {"a.keras": "one"}
    with replacing(str(target)) as beside:
        beside.write_text("two")
        assert target.read_text() == "one"
    assert tree(tmp_path) == {"a.keras": "two"}


def test_a_folder_is_replaced_with_all_that_is_in_it(tmp_path):
    target = tmp_path / "run"
    for name in ("old", "new"):
        with replacing(target) as beside:
            beside.mkdir()
            (beside / name).write_text(name)
    assert tree(tmp_path) == {"run/new": "new"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("folder", [False, True])
def test_what_stood_there_stays_when_the_block_fails(tmp_path, error, folder):
    target = tmp_path / "run"
    if folder:
        target.mkdir()
    (target / "kept" if folder else target).write_text("before")
    with pytest.raises(error), replacing(target) as beside:
        if folder:
            beside.mkdir()
        (beside / "half" if folder else beside).write_text("half")
        raise error
    assert tree(tmp_path) == {"run/kept" if folder else "run": "before"}
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_appears_when_the_first_block_fails(tmp_path):
    with pytest.raises(OSError), replacing(tmp_path / "a") as beside:
        beside.write_text("half")
        raise OSError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_stays_when_nothing_was_written_to_replace_it(tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    (target / "kept").write_text("before")
    with pytest.raises(FileNotFoundError), replacing(target):
        pass
    assert tree(tmp_path) == {"run/kept": "before"}


@pytest.mark.parametrize("killed_before", ["rename", "replace", "rmtree"])
def test_a_kill_at_any_moment_leaves_the_old_folder_or_the_new(
    tmp_path, monkeypatch, killed_before
):
    """A process that is killed runs no `finally`: what it left is taken up by `recover`."""
    target, beside, before = tmp_path / "run", tmp_path / ".partial.run", tmp_path / ".before.run"
    target.mkdir()
    (target / "old").write_text("old")
    beside.mkdir()
    (beside / "new").write_text("new")
    if killed_before != "rename":
        os.rename(target, before)
    if killed_before == "rmtree":
        os.replace(beside, target)
    recover(target)
    wanted = {"run/new": "new"} if killed_before == "rmtree" else {"run/old": "old"}
    assert tree(tmp_path) == wanted
    with replacing(target) as beside:
        beside.mkdir()  # nothing of the killed process's stands there
        (beside / "newest").write_text("newest")
    assert tree(tmp_path) == {"run/newest": "newest"}


def test_what_a_killed_writer_left_does_not_get_into_the_next_folder(tmp_path):
    (tmp_path / ".partial.run").mkdir()
    (tmp_path / ".partial.run" / "stale").write_text("stale")
    with replacing(tmp_path / "run") as beside:
        beside.mkdir()
        (beside / "new").write_text("new")
    assert tree(tmp_path) == {"run/new": "new"}


def test_recover_leaves_a_whole_file_and_strange_places_alone(tmp_path):
    (tmp_path / "a").write_text("whole")
    recover(tmp_path / "a")
    recover(tmp_path / "a" / "below a file")
    recover(tmp_path / "nowhere" / "b")
    assert tree(tmp_path) == {"a": "whole"}


def test_a_linked_folder_gives_way_and_its_target_stays(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "kept").write_text("kept")
    (tmp_path / "run").symlink_to(tmp_path / "real")
    with replacing(tmp_path / "run") as beside:
        beside.mkdir()
        (beside / "new").write_text("new")
    assert tree(tmp_path) == {"real/kept": "kept", "run/new": "new"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["real", "run"]


@pytest.mark.parametrize("links", [True, False])
def test_what_another_process_created_first_stays(tmp_path, monkeypatch, links):
    def none(*_):
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", none)
    for text in ("first", "second"):
        with creating(tmp_path / "a.npy") as beside:
            assert beside.suffix == ".npy"
            beside.write_text(text)
    assert tree(tmp_path) == {"a.npy": "first"}


def test_only_what_dead_processes_left_is_abandoned(tmp_path):
    with creating(tmp_path / "mine") as mine:
        mine.write_text("mine")
        dead = mine.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-")  # above Linux's highest
        for name in (dead, dead.replace(".partial.", ".partial.elsewhere")):
            (tmp_path / name).touch()
        remove_abandoned(tmp_path)
        assert not (tmp_path / dead).exists() and len(list(tmp_path.iterdir())) == 2
    assert (tmp_path / "mine").read_text() == "mine"
