"""Strategies by name, TF_CONFIG, shards dealt to replicas, and waiting with a limit."""

import json
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import distribution
from kerasrnn.base.errors import InputError
from kerasrnn.compat.fit import SumsBeforeClipping
from kerasrnn.distribution import multi_worker
from kerasrnn.distribution.cluster import Cluster, meet
from tests.workers import free_ports, tf_config

EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", …]}, "task": {"type": "worker", "index": 0}}'


def test_names(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    one = distribution.strategy("one-device")
    assert one is distribution.strategy("auto") is tf.distribute.get_strategy()
    assert distribution.is_chief(one) and not distribution.is_multi_worker(one)
    with pytest.raises(InputError) as error:
        distribution.strategy("gpu")
    assert str(error.value) == (
        "--strategy: expected one of auto, mirrored, multi-worker, one-device, got gpu; choose one "
        "of them"
    )
    with pytest.raises(InputError) as error:
        distribution.strategy("multi-worker")
    assert str(error.value) == (
        "--strategy multi-worker: expected TF_CONFIG with several workers, got none; set it for "
        "each worker"
    )


@pytest.mark.parametrize("chief", [False, True])
@pytest.mark.parametrize("index", [0, 2])
def test_tf_config(monkeypatch, chief, index):
    addresses = ["a:1", "b:2", "c:3"]
    monkeypatch.setenv("TF_CONFIG", tf_config(addresses, index, chief))
    cluster = Cluster.from_environment()
    assert cluster == Cluster(("a:1", "b:2", "c:3"), index)
    assert cluster.is_chief == (index == 0)


def config(cluster, kind="worker", index=0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "3",
        "{}",
        config({"worker": ["a:1", "b:2"]}, index=2),
        config({"worker": ["a:1", "b:2"]}, index=-1),
        config({"worker": ["a:1", "b"]}),
        config({"worker": ["a:1", "a:1"]}),
        config({"worker": ["a:1"], "ps": ["b:2"]}),
        config({"worker": ["a:1"]}, kind="evaluator"),
        config({"chief": ["a:1", "b:2"], "worker": ["c:3"]}, kind="chief"),
    ],
)
def test_a_wrong_tf_config(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError) as error:
        distribution.strategy("auto")
    assert str(error.value) == (f"TF_CONFIG: expected JSON like {EXAMPLE}, got {text}; correct it")


def test_of_one_worker_there_is_nothing_to_wait_for(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config({"worker": ["a:1"]}))
    assert distribution.strategy("auto") is tf.distribute.get_strategy()


# --- meeting ---


def test_all_meet_and_a_stranger_does_no_harm():
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(3))
    came = []

    def come(index):
        meet(Cluster(addresses, index), seconds=20)
        came.append(index)

    threads = [threading.Thread(target=come, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    stranger = _connected(addresses[0])
    stranger.sendall(b"GET / HTTP/1.1\r\n")
    time.sleep(0.5)
    assert came == []  # one is missing
    come(2)
    for thread in threads:
        thread.join(20)
    assert sorted(came) == [0, 1, 2]
    stranger.close()


def _connected(address):
    import socket

    host, port = address.split(":")
    for _ in range(100):
        try:
            return socket.create_connection((host, int(port)))
        except OSError:
            time.sleep(0.05)
    raise AssertionError("nobody listens")


@pytest.mark.parametrize(("index", "missing"), [(0, (1, 2)), (1, (0,))])
def test_who_does_not_come_is_named(index, missing):
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(3))
    begin = time.monotonic()
    with pytest.raises(InputError) as error:
        meet(Cluster(addresses, index), seconds=1)
    names = ", ".join(f"worker {i} ({addresses[i]})" for i in missing)
    assert str(error.value) == (
        f"TF_CONFIG: expected all 3 workers within 1 seconds, got no sign of {names}; start all of "
        "them"
    )
    assert time.monotonic() - begin < 5


def test_a_port_in_use():
    import socket

    with socket.create_server(("", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=r"^TF_CONFIG: expected a free port, got 127.0.0.1:"):
            meet(Cluster((address, "127.0.0.1:1"), 0), seconds=1)


def test_the_lost_worker_is_another_one(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config({"worker": ["a:1", "b:2", "c:3"]}))
    error = RuntimeError("/job:worker/replica:0/task:0 tells: /job:worker/task:1 is unhealthy")
    assert str(multi_worker.WorkerLost(error)) == (
        "worker 1 (b:2) is gone; start all workers again with the same command"
    )
    assert str(multi_worker.WorkerLost(RuntimeError("?"))).startswith("a worker is gone (Runtime")


@pytest.mark.parametrize(("index", "lost"), [(0, "worker 1 (b:2)"), (1, "worker 0 (a:1)")])
def test_the_lost_worker_of_two_is_the_other_whatever_the_error_says(monkeypatch, index, lost):
    monkeypatch.setenv("TF_CONFIG", config({"worker": ["a:1", "b:2"]}, index=index))
    for text in ("?", f"Collective ops is aborted by: /job:worker/task:{index}"):
        assert str(multi_worker.WorkerLost(RuntimeError(text))).startswith(f"{lost} is gone;")


# --- several replicas in this process ---


def test_each_replica_is_dealt_its_own_shard(mirrored):
    def make(shard):
        index, count = shard
        return tf.data.Dataset.range(index, 8, count).map(lambda n: n * 10)

    dealt = distribution.distribute(make, mirrored)
    seen = [[int(v) for v in mirrored.experimental_local_results(x)] for x in dealt]
    assert seen == [[0, 10], [20, 30], [40, 50], [60, 70]]
    assert dealt.cardinality == 4
    alone = distribution.distribute(make, tf.distribute.get_strategy())
    assert [int(n) for n in alone] == [0, 10, 20, 30, 40, 50, 60, 70]


def line_model(**limit) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(1.0, **limit), "mse")
    return model


def steps_of(strategy, enable=True, **limit) -> np.ndarray:
    """The kernel after two steps; gradients of the two halves of a batch differ much."""
    x = np.array([[1, 2, 3], [-4, 5, 0.5], [2, 0, 1], [0.1, 0.2, -7]], "float32")
    y = np.array([[1, 0], [50, -20], [0, 3], [-1, 1]], "float32")
    with strategy.scope():
        model = line_model(**limit)
    if enable:
        assert distribution.enable(model) is model
    model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return model.get_weights()[0]


@pytest.mark.parametrize("limit", ["global_clipnorm"])
def test_gradients_are_summed_before_they_are_clipped(mirrored, limit):
    one = steps_of(tf.distribute.get_strategy(), **{limit: 0.5})
    np.testing.assert_allclose(steps_of(mirrored, **{limit: 0.5}), one, rtol=1e-5)
    assert np.abs(steps_of(mirrored, enable=False, **{limit: 0.5}) - one).max() > 0.01, (
        "Keras does it itself: `SumsBeforeClipping` can go"
    )


def test_an_enabled_model_is_saved_as_what_it_was(mirrored, tmp_path):
    with mirrored.scope():
        model = distribution.enable(line_model(global_clipnorm=1.0))
    assert isinstance(model, multi_worker.FitsOnManyWorkers)
    assert isinstance(model.optimizer, SumsBeforeClipping)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert type(again) is keras.Sequential and type(again.optimizer) is keras.optimizers.SGD
    with pytest.raises(InputError) as error:
        distribution.enable("model")
    assert str(error.value) == "model: expected a Keras model, got str; give one"


def test_an_enabled_model_of_a_registered_class_is_loaded_as_that_class(mirrored, tmp_path):
    @keras.saving.register_keras_serializable("theirs", "OtherName")
    class Own(keras.Sequential):
        pass

    @keras.saving.register_keras_serializable("theirs")
    class OwnSGD(keras.optimizers.SGD):
        pass

    with mirrored.scope():
        model = Own([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(OwnSGD(global_clipnorm=1.0), "mse")
        distribution.enable(model).save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert type(again) is Own and type(again.optimizer) is OwnSGD


def test_a_worker_that_is_no_chief_leaves_out_what_writes(tmp_path):
    stop, backup = keras.callbacks.EarlyStopping(), keras.callbacks.BackupAndRestore(tmp_path)
    left = multi_worker.without_writers(
        [
            keras.callbacks.ModelCheckpoint(tmp_path / "m.keras"),
            stop,
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.TensorBoard(tmp_path),
            backup,
        ]
    )
    assert left[0] is stop and left[1].callback is backup and len(left) == 2
    assert multi_worker.without_writers(None) == []
    assert multi_worker.without_writers(stop) == [stop]
