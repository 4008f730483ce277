"""The images and captions of a captioner's training: read, checked, kept, changed at random."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from kerasrnn import distribution
from kerasrnn.base.errors import InputError
from kerasrnn.layers.images import resize
from kerasrnn.models.captioner import Captioner
from kerasrnn.pipelines import augmentation
from kerasrnn.pipelines.captions import Captioned, read_captions, split
from kerasrnn.pipelines.images import usable
from kerasrnn.pipelines.store import Store
from kerasrnn.tasks.captioner.task import Settings
from kerasrnn.tasks.session import TrainingSession

if TYPE_CHECKING:
    from kerasrnn.tasks.captioner.work import Job

IMAGES = "images"  # of the run folder: arrays made of the images


def digest_of(sides: Iterable[list[Captioned]]) -> str:
    """SHA-256 of the images' names and sizes, in order: reading all of them would take long."""
    digest = hashlib.sha256()
    for one in (one for side in sides for one in side):
        size = one.image.stat().st_size if one.image.exists() else None
        digest.update(f"{one.image.name}\0{size}\0".encode())
    return digest.hexdigest()


def sides_of(job: Job) -> tuple[list[Captioned], list[Captioned]]:
    """(for training, for validation), as the files have them; no image is looked at."""
    if not Path(job.images).is_dir():
        raise InputError("--images", "a folder", job.images, "check the path")

    def read(file):
        return read_captions(file, job.images, lowercase=job.settings.lowercase)

    if job.valid_captions:
        return read(job.captions), read(job.valid_captions)
    return split(read(job.captions), job.settings.valid_share)


def used(name: str, captioned: list[Captioned], strict: bool, say: Callable[[str], None]):
    """Those whose images can be used; the others are told of."""
    kept, report = usable(captioned, strict=bool(strict))
    say(f"{name}: {report}")
    return kept


def pixels_of(image: np.ndarray, size: int) -> tf.Tensor:
    """An image brought to a size, uint8 [1, size, size, 3]."""
    return tf.cast(resize(image[np.newaxis], size), tf.uint8)


def pixels_store(folder: Path, size: int) -> Store:
    """Where images are kept that are brought to a size."""
    return Store(folder, f"pixels-{size}", lambda image: pixels_of(image, size)[0].numpy())


def store_of(model: Captioner, job: Job, run: Path) -> Store:
    """Where what the decoder or the network trains on is kept: a frozen network's features, or
    images brought to its size."""
    encoder, size = model.encoder, model.encoder.image_size
    folder = Path(job.cache) if job.cache else run / IMAGES
    if not encoder.frozen:
        return pixels_store(folder, size)
    digest = hashlib.sha256()
    for weight in encoder.network.get_weights():
        digest.update(weight.tobytes())
    features = tf.function(encoder.features, autograph=False)
    name = f"{encoder.options['backbone']}-{size}-{digest.hexdigest()[:16]}"
    return Store(folder, name, lambda image: features(pixels_of(image, size))[0].numpy())


def filled_store(
    model: Captioner, job: Job, run: Path, session: TrainingSession, images: list[Path]
) -> Store:
    """`store_of` with what is made of these images."""
    store = store_of(model, job, run)
    # Without --cache each worker fills a folder of its own.
    with distribution.chief_first(session.strategy) if job.cache else contextlib.nullcontext():
        store.fill(images)
    return store


def augment_of(s: Settings, seed: int):
    """What changes images in training: dataset -> dataset, or None."""
    if not s.changes_images:
        return None
    stages = []
    if s.flip:
        stages.append(augmentation.flipped)
    if s.min_crop < 1:
        stages.append(functools.partial(augmentation.cropped, least=s.min_crop))
    if s.colour_jitter:
        stages.append(functools.partial(augmentation.coloured, most=s.colour_jitter))
    return lambda dataset: functools.reduce(lambda d, stage: stage(d, seed), stages, dataset)
