"""Asking training to stop, by signals and where there are none."""

import builtins
import os
import signal
import threading

import pytest

from kerasrnn.training.interruption import NO_SIGNALS, STOPPING, StopRequest, watch_signals


def test_a_signal_asks_and_the_second_stops_at_once(monkeypatch, capfd):
    """It may come in the middle of a `print`, which cannot be called again then."""

    def reentrant(*_, **__):
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")

    asked, before = StopRequest(), signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(builtins, "print", reentrant)
    with watch_signals(asked, None):
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err == STOPPING.decode()


def test_another_thread_trains_without_signals_and_says_so():
    said, ended = [], []

    def train():
        with watch_signals(StopRequest(), said.append):
            ended.append(True)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert (said, ended) == ([NO_SIGNALS], [True])
