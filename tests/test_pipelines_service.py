"""Batches read by two workers of a tf.data service in other processes, and a service that fails."""

import dataclasses
import socket
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasrnn.base.errors import InputError
from kerasrnn.cli import command as cli
from kerasrnn.pipelines import augmentation, captions
from kerasrnn.pipelines.batching import batches
from kerasrnn.pipelines.captions import Examples
from kerasrnn.pipelines.dataset import Position, original_errors
from kerasrnn.pipelines.pairs import Pairs
from kerasrnn.pipelines.service import Service, ServiceLost
from kerasrnn.pipelines.store import Store
from kerasrnn.pipelines.text import IdStream, contiguous, shuffled
from kerasrnn.training.checkpoints import newest_checkpoint
from tests.data_service import serving
from tests.id_files import file_of
from tests.test_distribution_multi_worker import has_checkpoint, rows_of, trained, wait_for
from tests.workers import finished, started


@pytest.fixture(scope="module")
def service():
    with serving(2) as served:
        yield Service.at(f"grpc://{served.address}")


def stream(folder) -> IdStream:
    random = np.random.default_rng(1)
    return IdStream(file_of(folder / "ids", random.integers(4, 300, 2000), "uint16"), 7, 1600)


def pairs_of(folder) -> Pairs:
    random = np.random.default_rng(2)
    lengths = random.integers(1, 40, [2, 45]).astype(np.int32)
    ids = random.integers(4, 200, int(lengths.sum()))
    return Pairs(file_of(folder / "pairs", ids, "uint8"), *lengths)


def images_of(folder, features: bool) -> tuple[Examples, Store]:
    random = np.random.default_rng(3)
    paths = [folder / f"{number}.png" for number in range(5)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, [10, 9, 3]).astype(np.uint8)).save(path)
    make = (lambda p: p[0].astype(np.float32) / 7) if features else (lambda p: p[:8, :8])
    store = Store(folder, "arrays", make)
    store.fill(paths)
    ids = [random.integers(4, 50, n).astype(np.int32) for n in random.integers(1, 20, 21)]
    return Examples([paths[i % 5] for i in range(21)], ids), store


def text_windows(folder, **where):
    return contiguous(stream(folder), 6, 11, **where)


def whole_text(folder, **where):
    return contiguous(stream(folder), 6, 11, whole=True, **where)


def shuffled_windows(folder, **where):
    return shuffled(stream(folder), 6, 11, seed=3, **where)


def pairs_by_tokens(folder, **where):
    return batches(pairs_of(folder), batch_size=100, by="tokens", seed=3, **where)


def pairs_in_order(folder, **where):
    return batches(pairs_of(folder), batch_size=2, **where)


def features(folder, **where):
    return captions.batches(*images_of(folder, True), batch_size=4, seed=3, **where)


def augmented(folder, **where):
    def augment(dataset):
        return augmentation.coloured(augmentation.cropped(dataset, 5), 5)

    options = {"batch_size": 4, "seed": 3, "augment": augment}
    return captions.batches(*images_of(folder, False), **options, **where)


FAST = (text_windows, shuffled_windows, pairs_by_tokens, augmented)


def passes(dataset, position) -> list:
    """The batches of two epochs."""
    found = []
    for position.epoch in (2, 3):
        found += [tf.nest.map_structure(lambda t: t.numpy(), batch) for batch in dataset]
    return found


CASES = [
    *[pytest.param(kind, (1, 2), id=kind.__name__) for kind in FAST],
    *[
        pytest.param(kind, shard, id=f"{kind.__name__}-{shard}", marks=pytest.mark.slow)
        for kind in (*FAST, whole_text, pairs_in_order, features)
        for shard in ((0, 1), (2, 3))
    ],
]


@pytest.mark.parametrize(("make", "shard"), CASES)
def test_the_same_batches_in_the_same_order(service, tmp_path, make, shard):
    found = []
    for one in (None, service):
        position = Position(batch=1)
        dataset = make(tmp_path, position=position, shard=shard, service=one)
        found.append(passes(dataset, position))
        assert len(found[-1]) == 2 * len(dataset) > 2
    for ours, wanted in zip(*map(tf.nest.flatten, found[::-1]), strict=True):
        np.testing.assert_array_equal(ours, wanted)
        assert ours.dtype == wanted.dtype


def test_other_processes_read_them(service, tmp_path):
    dataset = text_windows(tmp_path, position=Position(), service=service)
    (tmp_path / "ids").unlink()
    with pytest.raises(ServiceLost) as error, original_errors():
        next(iter(dataset))
    assert f"{tmp_path}/ids; No such file or directory" in str(error.value)


def test_a_pass_that_is_left_early_leaves_no_thread_waiting(service, tmp_path):
    before = threading.active_count()
    for _ in text_windows(tmp_path, service=service):
        break
    until = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["lm", "translator", "captioner"])
def test_training_is_the_same_with_and_without(service, tmp_path, task):
    kinds = {"without": [], "with": ["--data-service", service.address]}
    rows = {}
    for name, options in kinds.items():
        command = trained(task, tmp_path / name, *options, "epochs=3", "dropout=0.2")
        with started([command]) as processes:
            rows[name] = rows_of(finished(processes, 300)[0])
    assert rows["with"] == rows["without"] and len(rows["with"]) == 3


@pytest.mark.slow
def test_a_service_that_dies_in_training_and_comes_again(tmp_path):
    out, command = tmp_path / "run", ["epochs=40", "dropout=0.2"]
    with started([trained("lm", tmp_path / "whole", *command)]) as processes:
        wanted = rows_of(finished(processes, 300)[0])
    with serving(1) as served:
        options = ["--data-service", served.address, "--wait", "10"]
        with started([trained("lm", out, *options, *command)]) as processes:
            wait_for(lambda: has_checkpoint(out), processes)
            served.workers[0].kill()
            served.dispatcher.kill()
            [done] = finished(processes, 90)
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith(f"lost the data service at {served.address}: ")
    assert not newest_checkpoint(out).progress.finished
    with serving(1) as served:
        options = ["--data-service", served.address]
        with started([trained("lm", out, *options, *command)]) as processes:
            assert rows_of(finished(processes, 300)[0]) == wanted


# --- a service that fails ---


def failed(folder, service: Service) -> tuple[str, float]:
    """What reading raises, and after how long."""
    begin = time.monotonic()
    with pytest.raises(ServiceLost) as error, original_errors():
        list(text_windows(folder, position=Position(), service=service))
    return str(error.value), time.monotonic() - begin


HINT = "see to its workers and start again with the same command"


@pytest.mark.slow
def test_a_dispatcher_without_workers_and_one_that_dies(tmp_path):
    with serving(0) as served:
        service = Service(served.address, wait=2)
        text, seconds = failed(tmp_path, service)
        served.dispatcher.kill()
        dead, later = failed(tmp_path, service)
    wanted = f"lost the data service at {served.address}: batch 1 did not come within 2 seconds"
    assert text == dead == f"{wanted}; {HINT}"
    assert seconds < 10 and later < 10


@pytest.mark.slow
def test_something_else_that_listens(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        service = Service.at(f"127.0.0.1:{server.getsockname()[1]}")
        text, seconds = failed(tmp_path, dataclasses.replace(service, wait=2))
    assert "batch 1 did not come within 2 seconds" in text and seconds < 10


@pytest.mark.parametrize("address", ["5050", "host:", "host:99999", "host:port", ":5050", ""])
def test_an_address_that_is_none(address):
    with pytest.raises(InputError) as error:
        Service.at(address)
    wanted = f"--data-service: expected host:port, got {address}; correct it"
    assert str(error.value) == wanted


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(InputError) as error:
        Service.at(f"grpc://{address}")
    assert str(error.value) == (
        f"--data-service: expected a dispatcher that listens, got {address} ([Errno 111] Connection"
        " refused); start it first"
    )


def test_the_command_line_says_it_in_one_line(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("abc " * 200)
    command = ["train", "lm", "--text", tmp_path / "a.txt", "--out", tmp_path / "run"]
    code = cli.main([*map(str, command), "--data-service", "nowhere"])
    wanted = "kerasrnn: --data-service: expected host:port, got nowhere; correct it\n"
    assert (code, capsys.readouterr().err) == (2, wanted)
    assert not (tmp_path / "run").exists()
