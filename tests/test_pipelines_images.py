"""Images as pixels: every fault named, nothing decoded that is too large; arrays made once."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.images import (
    MOST_PIXELS,
    ImageError,
    ImageReport,
    read_image,
    usable,
)
from kerasrnn.pipelines.store import Store


class One(NamedTuple):
    """All that `usable` looks at."""

    image: Path


def pixels(height=6, width=5, seed=0) -> np.ndarray:
    """Smooth, so that JPEG hardly changes it."""
    down, right = np.mgrid[:height, :width]
    down, right = down / height, right / width
    colours = [20 + 190 * down, 30 + seed + 170 * right, 90 + 60 * down + 70 * right]
    return np.stack(colours, 2).astype(np.uint8)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def packed(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *others: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        *others,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


RGB = Image.fromarray(pixels(64, 48))
FRAMES = {"save_all": True, "append_images": [RGB.rotate(90), RGB.rotate(180)]}
JPEG, PNG = packed(RGB, "JPEG", quality=95), packed(RGB, "PNG")
SIXTEEN = b"".join(b"\0" + struct.pack(">6H", *range(r, r + 6000, 1000)) for r in (1, 50_000))
HIGH = (np.array([range(r, r + 6000, 1000) for r in (1, 50_000)]) >> 8).astype(np.uint8)
HIGH = HIGH.reshape(2, 2, 3)
# what is wrong -> (the file's bytes, the reason)
FAULTY = {
    "zero bytes": (b"", "zero bytes"),
    "text": (b"This is no picture.\n" * 9, "not an image"),
    "one byte": (b"\xff", "not an image"),
    "html": (b"<html><body>404</body></html>", "not an image"),
    "bmp": (packed(RGB, "BMP"), "not JPEG or PNG"),
    "tiff": (packed(RGB, "TIFF"), "not JPEG or PNG"),
    "webp": (packed(RGB, "WEBP"), "not JPEG or PNG"),
    "still gif": (packed(RGB, "GIF"), "not JPEG or PNG"),
    "gif": (packed(RGB, "GIF", **FRAMES), "not JPEG or PNG"),
    "half a jpeg": (JPEG[: len(JPEG) // 2], "broken or truncated"),
    "almost a jpeg": (JPEG[:-40], "broken or truncated"),
    "a jpeg's beginning": (JPEG[:30], "broken or truncated"),
    "half a png": (PNG[: len(PNG) // 2], "broken or truncated"),
    "a png's beginning": (PNG[:20], "broken or truncated"),
    "a wrong png": (PNG[:60] + bytes(20) + PNG[80:], "broken or truncated"),
    "a png without pixels": (png(3, 2, 8, 2, b""), "broken or truncated"),
    "a bomb": (png(60_000, 60_000, 8, 2, b""), "too large"),
    "a smaller bomb": (png(9_500, 9_500, 8, 2, b""), "too large"),
}


def refused(call, kind=InputError) -> str:
    with pytest.raises(kind) as error:
        call()
    return str(error.value)


def text_of(path, reason) -> str:
    return f"image: expected a JPEG or PNG, got {path} ({reason}); mend it or leave it out"


# --- reading ---


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("shape", [(6, 5), (1, 1), (33, 70)])
def test_pixels_come_back(tmp_path, form, shape):
    wanted = pixels(*shape)
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    path = written(tmp_path / "any.name", packed(Image.fromarray(wanted), form, **options))
    found = read_image(str(path))
    assert found.dtype == np.uint8 and found.shape == (*shape, 3) and found.flags.writeable
    distance = np.abs(found.astype(int) - wanted).max()
    assert distance <= (3 if form == "JPEG" else 0)


def test_a_palette_becomes_its_colours(tmp_path):
    image = Image.fromarray(pixels()).quantize(7)
    found = read_image(written(tmp_path / "p.png", packed(image, "PNG")))
    np.testing.assert_array_equal(found, np.array(image.convert("RGB")))
    assert len(np.unique(found.reshape(-1, 3), axis=0)) > 3


def test_white_is_behind_what_is_transparent(tmp_path):
    alpha = np.array([[0, 128, 255]], np.uint8)
    colour = np.array([[[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8)
    image = Image.fromarray(np.concatenate([colour, alpha[..., None]], 2))
    found = read_image(written(tmp_path / "a.png", packed(image, "PNG")))
    share = alpha[..., None] / 255
    np.testing.assert_allclose(found, colour * share + 255 * (1 - share), atol=1)
    # a palette with a transparent colour, and a colour that is transparent wherever it is
    image = Image.fromarray(colour).quantize(3)
    keep = read_image(written(tmp_path / "p.png", packed(image, "PNG")))
    first = int(np.array(image)[0, 0])
    found = read_image(written(tmp_path / "q.png", packed(image, "PNG", transparency=first)))
    np.testing.assert_array_equal(found[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(found[0, 1:], keep[0, 1:])
    image = packed(Image.fromarray(colour), "PNG", transparency=(40, 50, 60))
    found = read_image(written(tmp_path / "r.png", image))
    np.testing.assert_array_equal(found, [[[10, 20, 30], [255] * 3, [70, 80, 90]]])


GREY = RGB.convert("L")
ALPHA = Image.merge("LA", [GREY, GREY.rotate(180)])
DEEP = np.asarray(GREY).astype(np.uint16) << 8 | 0x7F
WHITE = Image.new("RGBA", RGB.size, "white")
# a kind of picture -> (the file's bytes, what is seen, the most that JPEG may change)
CONVERTED = {
    "cmyk": (packed(RGB.convert("CMYK"), "JPEG", quality=100), RGB, 6),
    "grey jpeg": (packed(GREY, "JPEG", quality=100), GREY, 3),
    "grey png": (packed(GREY, "PNG"), GREY, 0),
    "grey with alpha": (
        packed(ALPHA, "PNG"),
        Image.alpha_composite(WHITE, ALPHA.convert("RGBA")),
        0,
    ),
    "black and white": (packed(GREY.convert("1"), "PNG"), GREY.convert("1"), 0),
    "16-bit grey": (packed(Image.fromarray(DEEP), "PNG"), GREY, 0),
    "16-bit colour": (png(2, 2, 16, 2, SIXTEEN), Image.fromarray(HIGH), 0),
    "apng": (packed(RGB, "PNG", **FRAMES), RGB, 0),
}


@pytest.mark.parametrize("kind", CONVERTED)
def test_every_kind_of_jpeg_and_png_becomes_rgb(tmp_path, kind):
    content, seen, most = CONVERTED[kind]
    found = read_image(written(tmp_path / "image", content))
    wanted = np.array(seen.convert("RGB"))
    assert found.dtype == np.uint8 and found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= most
    assert len(np.unique(found)) > 1


def test_exif_turns_nothing_and_a_preview_does_no_harm(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees
    turned = read_image(written(tmp_path / "t.jpg", packed(RGB, "JPEG", quality=95, exif=exif)))
    np.testing.assert_array_equal(turned, read_image(written(tmp_path / "a.jpg", JPEG)))
    both = packed(RGB, "MPO", quality=95, save_all=True, append_images=[RGB.resize((8, 8))])
    with Image.open(written(tmp_path / "m.jpg", both)) as image:
        assert image.format == "MPO" and image.n_frames == 2
    np.testing.assert_array_equal(read_image(tmp_path / "m.jpg"), turned)


# --- faults ---


@pytest.mark.parametrize("kind", FAULTY)
def test_each_fault_is_named(tmp_path, kind, recwarn):
    content, reason = FAULTY[kind]
    path = written(tmp_path / "image.jpg", content)
    assert refused(lambda: read_image(path), ImageError) == text_of(path, reason)
    with pytest.raises(ImageError) as error:
        read_image(str(path))
    assert (error.value.path, error.value.reason) == (path, reason)
    assert isinstance(error.value, ValueError)
    assert not recwarn.list


def test_files_that_are_not_there_or_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    written(tmp_path / "file", JPEG)
    for name, reason in (
        ("none.jpg", "missing"),
        ("file/none.jpg", "missing"),
        ("pipe", "cannot be read"),
        (".", "cannot be read"),
        ("x" * 300, "cannot be read"),
    ):
        path = tmp_path / name
        assert refused(lambda path=path: read_image(path), ImageError) == text_of(path, reason)


def test_what_is_too_large_is_never_decoded(tmp_path, monkeypatch):
    """By its header alone, also where the limit of Pillow was lifted; at the limit it is read."""
    loaded = []
    monkeypatch.setattr(Image.Image, "load", lambda self: loaded.append(self.size))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: loaded.append(self.size))
    assert Image.MAX_IMAGE_PIXELS == MOST_PIXELS == 89_478_485
    sizes = {(60_000, 60_000): 1, (9_500, 9_500): 1, (MOST_PIXELS + 1, 1): 1, (MOST_PIXELS, 1): 0}
    for most in (MOST_PIXELS, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        for size, large in sizes.items():
            path = written(tmp_path / "image.png", png(*size, 8, 2, b""))
            loaded.clear()
            if large:
                assert refused(lambda p=path: read_image(p)) == text_of(path, "too large")
                assert loaded == []
    monkeypatch.setattr(np, "array", lambda image: "decoded")
    monkeypatch.setattr(Image.Image, "convert", lambda self, mode: self)
    assert read_image(path) == "decoded" and loaded == [(MOST_PIXELS, 1)]


def test_what_pillow_stumbles_over_is_broken(tmp_path, monkeypatch):
    path = written(tmp_path / "image.jpg", JPEG)
    for error in (OSError, SyntaxError, ValueError, struct.error, zlib.error, OverflowError):

        def load(self, error=error):
            raise error("some parser")

        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
        assert refused(lambda: read_image(path)) == text_of(path, "broken or truncated")
    for error in (MemoryError, KeyboardInterrupt):

        def load(self, error=error):
            raise error

        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
        with pytest.raises(error):
            read_image(path)


# --- which images can be used ---


def folder_of(tmp_path, good: int) -> list[One]:
    """Faulty images, of each kind one, and between them good ones."""
    paths = [written(tmp_path / f"{n:02}.jpg", c) for n, (c, _) in enumerate(FAULTY.values())]
    paths.insert(0, tmp_path / "none.jpg")
    for n in range(good):
        image = packed(Image.fromarray(pixels(seed=n)), "PNG")
        paths.insert(2 * n, written(tmp_path / f"good{n}.png", image))
    return [One(path) for path in paths]


def test_faulty_images_are_dropped_and_counted(tmp_path):
    every = folder_of(tmp_path, 5)
    kept, report = usable(every)
    assert kept == [every[2 * n] for n in range(5)] and report.kept == 5
    reasons = ["missing", *(reason for _, reason in FAULTY.values())]
    assert report.dropped == {reason: reasons.count(reason) for reason in reasons}
    assert report.dropped["broken or truncated"] == 7 and report.dropped["too large"] == 2
    faulty = [one.image for one in every if one not in kept]
    for reason, places in report.places.items():
        of_it = [str(p) for p, r in zip(faulty, reasons, strict=True) if r == reason]
        assert places == of_it[:5]
    assert str(report).startswith(f"5 images; 19 dropped: 1 missing ({tmp_path / 'none.jpg'}), ")
    assert str(ImageReport(1200)) == "1,200 images"


def test_strict_refuses_at_the_first_faulty_image(tmp_path):
    every = folder_of(tmp_path, 3)
    assert refused(lambda: usable(every, strict=True)) == text_of(tmp_path / "none.jpg", "missing")
    good = [every[0], every[2], every[4]]
    assert usable(good, strict=True) == (good, ImageReport(3))


def test_no_image_left_is_refused(tmp_path):
    path = written(tmp_path / "other.png", FAULTY["bmp"][0])
    assert refused(lambda: usable([One(path), One(tmp_path / "none")])) == (
        f"images: expected images that can be used, got 0 images; 2 dropped: "
        f"1 not JPEG or PNG ({path}), "
        f"1 missing ({tmp_path / 'none'}); give others"
    )
    with pytest.raises(InputError, match="got 0 images; give others"):
        usable([])


def test_each_image_is_read_once(tmp_path, monkeypatch):
    every = folder_of(tmp_path, 5)
    read, seen = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda self: seen.append(self) or read(self))
    usable(every)
    assert sorted(seen) == sorted(one.image for one in every if one.image.exists())


def test_real_photos_are_all_usable_or_reported(shared_data):
    paths = sorted((shared_data / "flickr8k_1k" / "images").glob("*.jpg"))
    kept, report = usable([One(path) for path in paths])
    assert len(paths) == 900 and len(kept) == report.kept
    assert report.kept + sum(report.dropped.values()) == 900
    assert report.kept > 890, report


# --- the store ---


def photos(tmp_path, n: int) -> list[Path]:
    return [
        written(tmp_path / f"{k}.png", packed(Image.fromarray(pixels(4 + k, 5, seed=k)), "PNG"))
        for k in range(n)
    ]


class Means:
    """Something to make of images, which counts."""

    def __init__(self):
        self.shapes = []

    def __call__(self, image):
        self.shapes.append(image.shape)
        return image.mean(axis=(0, 1), dtype=np.float32)


def test_what_was_made_is_read_in_the_order_asked_for(tmp_path):
    paths, make = photos(tmp_path, 5), Means()
    store = Store(tmp_path / "store", "means", make)
    store.fill(paths)
    assert make.shapes == [(4 + k, 5, 3) for k in range(5)]
    found = store.read([paths[3], str(paths[0]), paths[3]])
    assert found.shape == (3, 3) and found.dtype == np.float32
    wanted = np.stack([pixels(4 + k, 5, seed=k).mean((0, 1)) for k in (3, 0, 3)])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    names = [path.name for path in (tmp_path / "store" / "means").iterdir()]
    assert len(names) == 5 and all(len(n) == 68 and n.endswith(".npy") for n in names)


def test_a_second_fill_computes_nothing(tmp_path):
    paths = photos(tmp_path, 4)
    first = Store(tmp_path / "store", "means", Means())
    first.fill(paths[:3])
    for store in (first, Store(str(tmp_path / "store"), "means", Means())):
        store.make = Means()
        store.fill(map(str, paths[:3] * 2))
        assert store.make.shapes == []
        np.testing.assert_array_equal(store.read(paths[:3]), first.read(paths[:3]))
    first.fill(paths)
    assert first.make.shapes == [(7, 5, 3)]
    other = Store(tmp_path / "store", "others", Means())
    other.fill(paths)
    assert len(other.make.shapes) == 4


def test_the_same_bytes_are_made_once_and_changed_bytes_again(tmp_path):
    paths, make = photos(tmp_path, 3), Means()
    paths[1].write_bytes(paths[0].read_bytes())
    store = Store(tmp_path / "store", "means", make)
    store.fill(paths)
    assert len(make.shapes) == 2
    before = store.read(paths)
    np.testing.assert_array_equal(before[0], before[1])
    paths[0].write_bytes(packed(Image.fromarray(pixels(9, 9)), "PNG"))
    np.testing.assert_array_equal(store.read(paths), before)
    store.fill(paths)
    assert make.shapes[2:] == [(9, 9, 3)]
    after = store.read(paths)
    np.testing.assert_allclose(after[0], pixels(9, 9).mean((0, 1)), rtol=1e-6)
    np.testing.assert_array_equal(after[1:], before[1:])


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_was_made_before_an_interruption_stays(tmp_path, monkeypatch, error):
    paths, save = photos(tmp_path, 5), np.save
    store = Store(tmp_path / "store", "means", Means())

    def half(path, array, **options):
        if len(store.make.shapes) == 3:
            Path(path).write_bytes(b"\x93NUMPY half")
            raise error
        save(path, array, **options)

    monkeypatch.setattr(np, "save", half)
    with pytest.raises(error):
        store.fill(paths)
    assert len(list((tmp_path / "store" / "means").iterdir())) == 2
    store.make = Means()
    monkeypatch.setattr(np, "save", save)
    store.fill(paths)
    assert store.make.shapes == [(4 + k, 5, 3) for k in (2, 3, 4)]
    assert store.read(paths).shape == (5, 3)


def test_two_may_fill_one_folder_at_once(tmp_path, monkeypatch):
    """The other one fills all of it while the first writes its first file."""
    paths, save = photos(tmp_path, 3), np.save
    stores = [Store(tmp_path / "store", "means", Means()) for _ in range(2)]

    def interrupted(path, array, **options):
        save(path, array, **options)
        monkeypatch.setattr(np, "save", save)
        stores[1].fill(paths)

    monkeypatch.setattr(np, "save", interrupted)
    stores[0].fill(paths)
    # Neither finds its files changed by the other.
    np.testing.assert_array_equal(stores[0].read(paths), stores[1].read(paths))
    assert len(list((tmp_path / "store" / "means").iterdir())) == 3
    assert [len(store.make.shapes) for store in stores] == [1, 3]


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from kerasrnn.pipelines.store import Store
def half(path, array, **options):
    Path(path).write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
np.save = half
Store(sys.argv[1], "reds", lambda image: image[0, 0]).fill(sys.argv[2:])
"""


def test_a_kill_half_way_leaves_no_half_file(tmp_path):
    paths = photos(tmp_path, 2)
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "store", *paths])
    assert done.returncode == -9
    folder = tmp_path / "store" / "reds"
    assert len(list(folder.iterdir())) == 1 and list(folder.glob("[!.]*")) == []
    store = Store(tmp_path / "store", "reds", lambda image: image[0, 0])
    store.fill(paths)
    assert store.read(paths).tolist() == [[20, 30, 90], [20, 31, 90]]
    assert len(list(folder.iterdir())) == 2 and not list(folder.glob(".*"))


def test_the_store_says_what_it_lacks(tmp_path):
    paths = photos(tmp_path, 3)
    store = Store(tmp_path / "store", "means", Means())
    store.fill(paths[:2])
    assert refused(lambda: store.read(paths)) == (
        f"image: expected one that the store was filled with, got {paths[2]}; fill it first"
    )
    other = written(tmp_path / "other.png", FAULTY["bmp"][0])
    assert refused(lambda: store.fill([paths[2], other]), ImageError) == text_of(
        other, "not JPEG or PNG"
    )
    whole = store.read(paths)
    files = sorted((tmp_path / "store" / "means").iterdir())
    next_step = f"remove {tmp_path / 'store' / 'means'} and fill again"
    for file, change in zip(files, ("truncate", "empty", "unlink"), strict=True):
        if change == "unlink":
            file.unlink()
        else:
            os.truncate(file, 0 if change == "empty" else file.stat().st_size - 3)
    messages = [refused(lambda path=path: store.read([path])) for path in paths]
    for message in messages:
        assert message.startswith("image: expected a file that stays as it was written, got ")
        assert message.endswith(next_step)
    another = Store(tmp_path / "store", "means", Means())
    another.fill(paths)  # what is not whole is made again
    np.testing.assert_array_equal(another.read(paths), whole)
    with files[0].open("ab") as file:
        file.write(b"more")
    another.fill(paths)  # what is there is not
    message = refused(lambda: another.read(paths))
    assert message.startswith(f"image: expected a whole file of the store, got {files[0]} (")
    assert message.endswith(next_step)
    assert any("(No such file or directory)" in message for message in messages)
