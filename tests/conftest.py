"""Shared set-up: the CPU as two logical devices, seeds, and where real data may lie."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import pytest
import tensorflow as tf

CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


def lacking(what: str) -> None:
    """Skip a test that needs something the machine has not; fail where `.ci/run` saw to it that
    all is there, for nobody reads what was skipped."""
    if os.environ.get("KERASRNN_PROGRAMS") == "required":
        pytest.fail(f"{what}, though .ci/run installs all that the tests want")
    pytest.skip(what)


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(7)


@pytest.fixture
def shared_data() -> Path:
    if not SHARED.exists():
        pytest.skip(f"no real data at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def mirrored():
    """One for all tests: the collective keys of two in one process collide."""
    return tf.distribute.MirroredStrategy(("CPU:0", "CPU:1"))
