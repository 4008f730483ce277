"""Real workers on loopback: Keras's `fit`, ours, a worker that dies, one that never comes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from kerasrnn.training.checkpoints import newest_checkpoint
from tests.conftest import lacking
from tests.workers import environment, finished, run, started

PLAIN = """
import json
from kerasrnn import distribution
strategy = distribution.strategy("auto", wait=60, heartbeat=10)
import keras, numpy as np, tensorflow as tf

random = np.random.default_rng(0)
x = random.normal(size=(64, 3)).astype("float32")
y = x @ random.normal(size=(3, 1)).astype("float32")
with strategy.scope():
    layers = [keras.Input((3,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)]
    model = distribution.enable(keras.Sequential(layers))
    model.compile(keras.optimizers.Adam(0.05, global_clipnorm=0.1), "mse", metrics=["mae"])
model.set_weights([random.normal(size=v.shape) for v in model.weights])
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
folder = FOLDER
write = keras.callbacks.ModelCheckpoint(folder + "/{epoch}.keras")
log = keras.callbacks.CSVLogger(folder + "/log.csv")
history = model.fit(data, validation_data=data, epochs=3, callbacks=[write, log], verbose=0).history
measured = model.evaluate(data, verbose=0, return_dict=True)
print(json.dumps({
    "chief": distribution.is_chief(), "replicas": strategy.num_replicas_in_sync,
    "history": history, "measured": measured, "predicted": model.predict(data, verbose=0).tolist(),
    "gathered": [len(b) for b in distribution.gather_bytes(
        b"x" * (1 + 300 * distribution.worker_index(strategy)), strategy)],
    "any": [distribution.any_worker(flag, strategy) for flag in (False, distribution.is_chief())],
    "weights": [w.tolist() for w in model.get_weights()],
}))
"""


def answers(folder, count, **options) -> list[dict]:
    folder.mkdir()
    source = PLAIN.replace("FOLDER", repr(str(folder)))
    done = run(source, count, **options)
    assert [d.code for d in done] == [0] * count, done
    return [json.loads(d.out.splitlines()[-1]) for d in done]


def assert_same(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        a, b = list(a.values()), list(b.values())
    if isinstance(a, list) and a and isinstance(a[0], list | dict):
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_two_workers_do_what_one_process_does(tmp_path):
    chief, other = answers(tmp_path / "two", 2, chief=True)
    [alone] = answers(tmp_path / "one", 1)
    assert [chief["chief"], other["chief"]] == [True, False]
    assert chief["replicas"] == other["replicas"] == 2
    assert chief["gathered"] == other["gathered"] == [1, 301]
    assert chief["any"] == other["any"] == [False, True]
    for name in ("history", "measured", "predicted", "weights"):
        assert_same(chief[name], alone[name])
        assert chief[name] == other[name]
    names = ["1.keras", "2.keras", "3.keras", "log.csv"]
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == names
    assert len((tmp_path / "two" / "log.csv").read_text().splitlines()) == 4


def trained(task: str, out, *changes: str, replicas: int = 1) -> list[str]:
    """A command that trains a small job of a task."""
    data = out.parent / f"data-{task}"
    options = ["--replicas", str(replicas), "--data", str(data)]
    return [sys.executable, "-m", "tests.train_under", task, str(out), *options, *changes]


def rows_of(done) -> list[dict]:
    assert done.code == 0, done.err[-2000:]
    rows = json.loads(done.out.splitlines()[-1])
    return [{name: float(row[name]) for name in ("epoch", "nats", "val_nats")} for row in rows]


CURVES = {  # task -> (replicas in one process, workers); 3 do not divide a batch of pairs
    "lm": ((1, 2, 4), (2, 3)),
    "translator": ((1, 3), (2,)),
    "captioner": ((1, 3), (2,)),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", CURVES)
def test_the_same_curve_on_any_number_of_replicas_and_workers(tmp_path, task):
    """50 steps of one global batch size; the last batches of the pairs are uneven."""
    curves, (in_one, in_several) = {}, CURVES[task]
    for replicas in in_one:
        command = trained(task, tmp_path / f"{replicas}", replicas=replicas)
        with started([command]) as processes:
            [done] = finished(processes, 600)
        curves[f"{replicas} replicas"] = rows_of(done)
    for count in in_several:
        with started([trained(task, tmp_path / f"workers{count}")] * count) as processes:
            done = finished(processes, 600)
        curves[f"{count} workers"] = rows_of(done[0])
    for curve in curves.values():
        for row, wanted in zip(curve, curves["1 replicas"], strict=True):
            assert row == pytest.approx(wanted, rel=1e-5)


LONG = ("epochs=400",)


def wait_for(condition, processes, seconds: float = 240) -> None:
    """Come back when the condition holds; a process that ended before fails the test with its
    words."""
    until = time.monotonic() + seconds
    while not condition():
        ended = next((p for p in processes if p.poll() is not None), None)
        assert ended is None, ended.communicate()[1][-3000:]
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.1)


def has_checkpoint(run) -> bool:
    """Whether one is written."""
    return any(not path.name.startswith(".") for path in run.glob("checkpoint/*"))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_worker_is_noticed_and_the_same_command_goes_on(tmp_path, victim):
    out = tmp_path / "run"
    with started([trained("lm", out, *LONG)] * 2) as processes:
        wait_for(
            lambda: has_checkpoint(out) and newest_checkpoint(out).progress.epoch > 0, processes
        )
        processes[victim].send_signal(signal.SIGKILL)
        _, said = processes[1 - victim].communicate(timeout=90)
    assert processes[1 - victim].returncode == 1
    assert f"worker {victim} (127.0.0.1:" in said
    assert "start all workers again with the same command" in said
    before = newest_checkpoint(out).progress
    assert before.epoch > 0 and before.replicas == 2
    with started([trained("lm", out, *LONG)] * 2) as processes:
        wait_for(lambda: newest_checkpoint(out).progress.epoch > before.epoch, processes)
        processes[1].send_signal(signal.SIGTERM)  # any worker may be told
        done = finished(processes, 60)
    assert [d.code for d in done] == [0, 0], done
    assert f"going on in epoch {before.epoch + 1}, batch {before.batch + 1}" in done[0].err
    assert "the same command goes on" in done[0].err


# --- two machines, as far as the network goes ---


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


@contextlib.contextmanager
def two_hosts() -> Iterator[dict[str, str]]:
    """Two network namespaces, joined by a cable: name -> address. They go at the end."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if shutil.which("ip") is None:
        lacking("no ip (iproute2)")
    hosts = {f"kr{os.getpid()}{side}": f"10.77.0.{n}" for n, side in enumerate("ab", 1)}
    first, second = hosts
    try:
        for host in hosts:
            try:
                ip("netns", "add", host)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespaces here: {error.stderr.decode()}")
        cable = ("veth0", "netns", first, "type", "veth", "peer", "name", "veth0", "netns", second)
        ip("link", "add", *cable)
        for host, address in hosts.items():
            ip("-n", host, "addr", "add", f"{address}/24", "dev", "veth0")
            for device in ("lo", "veth0"):
                ip("-n", host, "link", "set", device, "up")
        yield hosts
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host], capture_output=True, timeout=20)


def on(hosts: dict[str, str], command: list[str]):
    """The command as the worker of each host."""
    commands = [["ip", "netns", "exec", host, *command] for host in hosts]
    return started(commands, addresses=[f"{address}:2222" for address in hosts.values()])


@pytest.mark.slow
def test_two_hosts_train_as_one_process_does(tmp_path):
    with started([trained("lm", tmp_path / "alone")]) as processes:
        wanted = rows_of(finished(processes, 300)[0])
    with two_hosts() as hosts, on(hosts, trained("lm", tmp_path / "run")) as processes:
        found = rows_of(finished(processes, 300)[0])
    assert len(found) == len(wanted) == 5
    for row, other in zip(found, wanted, strict=True):
        assert row == pytest.approx(other, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("side", [0, 1])
def test_a_cut_cable_is_noticed_on_both_hosts(tmp_path, side):
    """No reset comes through it, as one does from a host whose process died."""
    out = tmp_path / "run"
    with two_hosts() as hosts, on(hosts, trained("lm", out, *LONG)) as processes:
        wait_for(lambda: has_checkpoint(out), processes)
        ip("-n", list(hosts)[side], "link", "set", "veth0", "down")
        done = finished(processes, 90)
    for one, other in zip(done, reversed([*enumerate(hosts.values())]), strict=True):
        lost = "worker {} ({}:2222) is gone".format(*other)
        assert one.code == 1, one.err[-3000:]
        assert one.err.endswith(f"{lost}; start all workers again with the same command\n")


@pytest.mark.slow
def test_stopped_workers_equal_workers_never_stopped(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with started([trained("lm", whole)] * 2) as processes:
        wanted = rows_of(finished(processes, 300)[0])
    with started([trained("lm", parts)] * 2) as processes:
        wait_for(lambda: has_checkpoint(parts), processes)
        processes[0].send_signal(signal.SIGTERM)
        finished(processes, 120)
    assert not newest_checkpoint(parts).progress.finished
    with started([trained("lm", parts)] * 2) as processes:
        assert rows_of(finished(processes, 300)[0]) == wanted


@pytest.mark.slow
def test_a_worker_that_never_comes(tmp_path):
    source = "from kerasrnn import distribution; distribution.strategy('auto', wait=5)"
    with started([[sys.executable, "-c", source], ["sleep", "0"]]) as processes:
        [done, _] = finished(processes, 60)
    assert done.code == 1 and "no sign of worker 1 (127.0.0.1:" in done.err


def test_the_environment_of_a_worker_is_quiet():
    assert environment(A="1")["A"] == "1" and os.environ.get("A") is None
