"""The chief writes, then all workers read: real workers, of which the chief is slow."""

import json
import sys

import pytest

from tests.workers import finished, run, started

SHARED = """
import json, os, sys, time
from kerasrnn import distribution
strategy = distribution.strategy("auto", wait=60, heartbeat=10)
import keras, numpy as np
from kerasrnn.training.averaging import AveragedEpochs
from kerasrnn.pipelines.store import Store
from pathlib import Path

folder, chief = Path(FOLDER), distribution.is_chief()

class Slow(AveragedEpochs):
    def _keep(self, epoch):
        time.sleep(1.0)  # a slow disk: the others would read what is not there yet
        super()._keep(epoch)

made = []
store = Store(folder, "means", lambda image: made.append(1) or image.mean())
with distribution.chief_first(strategy):
    if chief:
        time.sleep(1.0)
    store.fill([folder / "a.png", folder / "b.png"])

x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
with strategy.scope():
    layers = [keras.Input((3,)), keras.layers.Dense(1)]
    model = distribution.enable(keras.Sequential(layers))
    model.compile("sgd", "mse")
model.set_weights([np.ones((3, 1)), np.zeros(1)])
rows = []
measure = lambda: {"sum": float(sum(np.abs(w).sum() for w in model.get_weights()))}
mean = Slow(folder / "epochs", 2, 3, measure, rows.append)
import tensorflow as tf
data = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(16 * 3)
model.fit(data, epochs=3, callbacks=[mean], verbose=0)
print(json.dumps({"made": len(made), "rows": rows}))
"""


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_all_workers_average_the_same_epochs_and_only_the_chief_fills(tmp_path, count):
    import keras
    import numpy as np

    random = np.random.default_rng(0)
    for name in "ab":
        keras.utils.save_img(tmp_path / f"{name}.png", random.uniform(size=(4, 4, 3)))
    done = run(SHARED.replace("FOLDER", repr(str(tmp_path))), count)
    assert [one.code for one in done] == [0] * count, done
    answers = [json.loads(one.out.splitlines()[-1]) for one in done]
    assert [answer["made"] for answer in answers] == [2] + [0] * (count - 1)
    assert answers[0]["rows"][0]["averaged"] == 2
    assert all(answer["rows"] == answers[0]["rows"] for answer in answers)


LOST = """
import os
from kerasrnn import distribution
strategy = distribution.strategy("auto", wait=60, heartbeat=5)
if not distribution.is_chief():
    os._exit(3)
try:
    distribution.wait_for_all(strategy)
except distribution.WorkerLost as lost:
    print(lost, flush=True)
    os._exit(4)
"""


@pytest.mark.slow
def test_waiting_for_a_worker_that_is_gone_ends(tmp_path):
    with started([[sys.executable, "-c", LOST]] * 2) as processes:
        chief, other = finished(processes)
    assert (chief.code, other.code) == (4, 3), chief
    assert "start all workers again with the same command" in chief.out
