"""What is said of a training that runs, by a clock of the test's own."""

import pytest

from kerasrnn.training.progress import CLEAR, ProgressReport


def said(batch_seconds, *, epochs=2, batches=4, first=0, in_place=False):
    """What is written while batches take these seconds, and validation always 10."""
    now, written, rows, seconds = [0.0], [], [], iter(batch_seconds)
    options = {"batches": batches, "epochs": epochs, "tokens_per_batch": 300, "first": first}
    report = ProgressReport(
        rows, **options, in_place=in_place, write=written.append, clock=lambda: now[0]
    )
    for epoch in range(epochs):
        report.on_epoch_begin(epoch)
        for batch in range(first if epoch == 0 else 0, batches):
            now[0] += next(seconds)
            report.on_train_batch_end(batch)
        report.on_test_begin()
        now[0] += 10.0
        report.on_test_end()
        rows.append({"epoch": epoch + 1, "val_nats": 1.25, "seconds": 123456.789})
        report.on_epoch_end(epoch)
    return "".join(written)


def test_a_line_every_thirty_seconds_and_one_for_each_epoch():
    # Compiling takes 100 s. Then a batch takes 20 s: 15 tokens a second.
    assert said([100, 20, 20, 20, 20, 20, 20, 20]) == (
        "epoch 1/2  compiling the first batches\n"
        "epoch 1/2  50%  15 tokens/s  epoch 0:40 left, training 2:00 left\n"
        "epoch 1/2  val_nats 1.25  seconds 123457\n"
        "epoch 2/2  50%  15 tokens/s  epoch 0:40 left, training 0:50 left\n"
        "epoch 2/2  val_nats 1.25  seconds 123457\n"
    )


def test_in_a_terminal_on_one_line():
    text = said([100, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25], in_place=True)
    parts = [part for part in text.split(CLEAR) if part]
    assert parts == [
        "epoch 1/2  compiling the first batches",
        "epoch 1/2  50%  1,200 tokens/s  epoch 0:00 left, training 0:02 left",
        "epoch 1/2  validating",
        "epoch 1/2  val_nats 1.25  seconds 123457\n",
        "epoch 2/2  50%  1,200 tokens/s  epoch 0:00 left, training 0:10 left",
        "epoch 2/2  validating",
        "epoch 2/2  val_nats 1.25  seconds 123457\n",
    ]
    assert text.count("\n") == 2


def test_an_epoch_that_goes_on_has_the_rest_left():
    lines = said([100, 40, 1], epochs=1, first=1).splitlines()
    assert lines[1] == "epoch 1/1  75%  8 tokens/s  epoch 0:40 left, training 0:40 left"


@pytest.mark.parametrize("in_place", [True, False])
def test_batches_that_take_no_time_divide_by_nothing(in_place):
    assert "tokens/s" not in said([0.0] * 8, in_place=in_place)


def test_what_is_said_when_training_stops_begins_a_line():
    written = []
    options = {"batches": 4, "epochs": 1, "tokens_per_batch": 300, "in_place": True}
    report = ProgressReport([], **options, write=written.append)
    report.on_epoch_begin(0)
    report.clear()
    assert written[-1] == CLEAR
