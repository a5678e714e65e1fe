"""Image files to pixels, by several processes.

Each of them imports this module, so it imports little.
"""

import hashlib
import io
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context, get_start_method, parent_process, set_start_method
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.Image import Resampling, Transpose

PROCESSES_FROM = 500  # images; for fewer, starting processes takes longer than they save
CHUNK = 8  # images per task: an interrupted job waits for those under way

# what undoes the EXIF tag "orientation"
ORIENTATION = 0x0112
UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


class Task(NamedTuple):
    """A file to decode into a row of the array; `digest` is the SHA-256 that its content must have."""

    row: int
    file: str
    digest: str


class ChangedError(Exception):
    """A file, named, whose content is not what it was."""


def decode(content: bytes, size: int, resize: str, mode: str = "RGB") -> NDArray[np.uint8]:
    """The pixels [C, size, size] of a file's content; `mode` is RGB, or L of one channel.

    Raises whatever Pillow does for one that is no image.
    """
    if not content:
        raise ValueError("empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of garbled metadata; pixels are what counts
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            pixels = _upright(_converted(image, mode), image)
    resized = np.asarray(_resized(pixels, size, resize))
    return resized[None] if mode == "L" else resized.transpose(2, 0, 1)


def decode_all(
    pixels: Path, tasks: Sequence[Task], size: int, resize: str, done: Callable[[int], None]
) -> dict[str, str]:
    """Decode every file into its row of the array in the file `pixels`.

    Returns what is wrong with unreadable ones, by digest; their rows stay as they are. `done` is called with
    the number of files worked on since. Raises OSError, ChangedError, or BrokenProcessPool if a process was
    killed.
    """
    chunks = [tasks[start : start + CHUNK] for start in range(0, len(tasks), CHUNK)]
    unreadable: dict[str, str] = {}
    if len(tasks) < PROCESSES_FROM:
        for chunk in chunks:
            unreadable |= _decode_chunk(pixels, chunk, size, resize)
            done(len(chunk))
        return unreadable
    # spawned: a fork of a process with torch's threads may hang
    pool = ProcessPoolExecutor(_cores(), get_context("spawn"), initializer=_end_with_parent)
    try:
        with _spawning():
            futures = {pool.submit(_decode_chunk, pixels, chunk, size, resize): chunk for chunk in chunks}
        for future in as_completed(futures):
            unreadable |= future.result()
            done(len(futures[future]))
    finally:
        pool.shutdown(cancel_futures=True)
    return unreadable


def _decode_chunk(pixels: Path, tasks: Sequence[Task], size: int, resize: str) -> dict[str, str]:
    rows = np.load(pixels, mmap_mode="r+")
    unreadable = {}
    for task in tasks:
        content = Path(task.file).read_bytes()
        if hashlib.sha256(content).hexdigest() != task.digest:
            raise ChangedError(task.file)
        try:
            rows[task.row] = decode(content, size, resize)
        except MemoryError:  # says nothing about the file
            raise
        except Exception as error:  # decoders raise whatever a broken file leads them to
            unreadable[task.digest] = reason(error)
    return unreadable


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """Channels of 8 bits; transparency is dropped. Raises ValueError for pixels of no known range."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        values = np.asarray(image).astype(np.uint32)  # 16 bits, which convert() would clip
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert(mode)
    if image.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits, whose range is not known; save it with 8 or 16")
    return image.convert(mode)


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """`pixels` turned as the EXIF data of `image` say."""
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # garbled, as in many files whose pixels are fine
        return pixels
    return pixels.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else pixels


def _resized(image: Image.Image, size: int, resize: str) -> Image.Image:
    """The whole image or, with `crop`, its middle once the shorter side is `size`; as torchvision does it."""
    width, height = image.size
    if resize == "squash":
        return image.resize((size, size), Resampling.BICUBIC)
    shorter = min(width, height)
    across, down = size * width // shorter, size * height // shorter
    left, top = round((across - size) / 2), round((down - size) / 2)
    x, y = width / across, height / down  # a pixel of the resized image, in pixels of the image
    # only the middle is computed, for the whole may be large: the shorter side may be of a pixel
    middle = (left * x, top * y, min((left + size) * x, width), min((top + size) * y, height))  # for rounding
    return image.resize((size, size), Resampling.BICUBIC, box=middle)


def reason(error: Exception) -> str:
    """Why a file cannot be decoded, in a line."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow knows"
    return (str(error) or type(error).__name__).splitlines()[0]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _spawning() -> Iterator[None]:
    """Processes are started in here, which is where executors do it: when tasks are submitted.

    They never see Ctrl-C or the end of the terminal, which come to the one that starts them as well; it sees
    them afterwards, and ends the others. They are told of a start method that they know: in joblib's workers
    the default is one of joblib's own.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    method = get_start_method(allow_none=True)
    set_start_method("spawn", force=True)
    try:
        yield
    finally:
        set_start_method(method, force=True)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _end_with_parent() -> None:
    """In a new process: end when the one that started it was killed, which would leave this one waiting."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
