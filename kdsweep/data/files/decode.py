"""A file's content to pixels; kdsweep-predict imports this, so it imports little."""

import hashlib
import io
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base
from PIL.Image import Resampling

from kdsweep.data.files.names import printable
from kdsweep.errors import DataError
from kdsweep.system.foreign_errors import first_line

# Other formats are never opened: Pillow would start Ghostscript for PostScript, whatever a file's name.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")
Image.preinit()  # imports the first five formats; Pillow imports the others when a file needs them

WHITE = (255, 255, 255)
DEEP = (0, 65535)  # the values of 16 bits that become black and white, unless the data say otherwise
FULL_RANGE = ("PPM", "JPEG2000")  # formats that state the range of their values; Pillow scales it to 16 bits
BITS = (8, 10, 12, 14, 16)  # of scanners and cameras


class Look(NamedTuple):
    """How files become pixels: transparent images are composed onto `background`, and the values `deep` of 16
    bits become 0 and 255 if the format does not state its range."""

    size: int
    resize: str
    mode: str = "RGB"  # or L, of one channel
    background: tuple[int, int, int] = WHITE
    deep: tuple[int, int] = DEEP


class Decoded(NamedTuple):
    pixels: NDArray[np.uint8]  # [C, size, size]
    transparent: bool  # whether the background shows
    extremes: tuple[int, int] | None  # of 16 bits: the values that they take, or that the format states


class Facts(NamedTuple):
    """Why a file is unreadable, or whether it is transparent, and its extremes if it has 16 bits."""

    error: str = ""
    transparent: bool = False
    extremes: tuple[int, int] | None = None


def decode(content: bytes, look: Look) -> Decoded:
    """Decode a file's content. Raises what Pillow raises if it is not an image."""
    if not content:
        raise ValueError("empty file")
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        image.load()
        pixels, extremes = _eight_bits(image, look.deep)
        pixels, transparent = _composed(pixels, look)
        pixels = _upright(pixels, image)
    resized = np.asarray(_resized(pixels, look.size, look.resize))
    resized = resized[None] if look.mode == "L" else resized.transpose(2, 0, 1)
    return Decoded(resized, transparent, extremes)


def decode_into(image: NDArray[np.uint8], file: Path, content_digest: str, look: Look) -> Facts:
    """Decode a file into its place [3, S, S], which an unreadable file leaves as it is.

    Pillow decodes and resizes without Python's lock, so threads use all cores.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{printable(str(file))}: cannot be read ({error.strerror or error})") from error
    if hashlib.sha256(content).hexdigest() != content_digest:
        raise DataError(
            f"{printable(str(file))}: its content changed while it was read, or without a new size or time; "
            "touch it and start again"
        )
    try:
        decoded = decode(content, look)
    except MemoryError:  # the file may be fine
        raise
    except Exception as error:  # decoders raise many types for broken files
        return Facts(error=reason(error))
    image[:] = decoded.pixels
    return Facts("", decoded.transparent, decoded.extremes)


def deep_range(extremes: Collection[tuple[int, int]]) -> tuple[int, int]:
    """The range of the fewest bits that hold all values of 16-bit files, given the extremes of each."""
    if not extremes:
        return DEEP
    low, high = min(each[0] for each in extremes), max(each[1] for each in extremes)
    if low < 0:
        bits = next(bits for bits in BITS if -(2 ** (bits - 1)) <= low and high < 2 ** (bits - 1))
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2 ** next(bits for bits in BITS if high < 2**bits) - 1


def _eight_bits(image: Image.Image, deep: tuple[int, int]) -> tuple[Image.Image, tuple[int, int] | None]:
    """Channels of 8 bits, and the extremes of 16 bits. Raises ValueError if the range is unknown."""
    signed = image.mode == "I" and image.format == "TIFF" and _bits(image) == 16
    if image.mode.startswith("I;16") or signed or (image.mode == "I" and image.format in ("PNG", "PPM")):
        values = np.asarray(image).astype(np.int64)  # convert() would clip them
        low, high = DEEP if image.format in FULL_RANGE else deep
        scaled = ((values.clip(low, high) - low) * 255 + (high - low) // 2) // (high - low)
        pixels = Image.fromarray(scaled.astype(np.uint8))
        transparent = image.info.get("transparency")
        if transparent is not None:
            pixels.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
        if image.format in FULL_RANGE:
            return pixels, None
        twelve = image.format == "TIFF" and _bits(image) == 12
        return pixels, (0, 4095) if twelve else (int(values.min()), int(values.max()))
    if image.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits, whose range is unknown; save it with 8 or 16")
    return image, None


def _bits(image: Image.Image) -> int:
    """TIFF's bits per sample."""
    bits = image.tag_v2.get(258, 1)  # type: ignore[attr-defined]  # of images of this format
    return int(bits[0] if isinstance(bits, tuple) else bits)


def _composed(image: Image.Image, look: Look) -> tuple[Image.Image, bool]:
    """The image in the look's mode, composed onto the background, and whether the background shows."""
    if not image.has_transparency_data:
        return image.convert(look.mode), False
    with_alpha = image.convert("RGBA")
    if with_alpha.getchannel("A").getextrema()[0] == 255:
        return image.convert(look.mode), False
    canvas = Image.new("RGBA", image.size, look.background)
    return Image.alpha_composite(canvas, with_alpha).convert(look.mode), True


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """`pixels`, turned as the EXIF data of `image` demand."""
    try:
        orientation = image.getexif().get(Base.Orientation)
    except Exception:  # Pillow raises many types for garbled data, as in many files whose pixels are fine
        return pixels
    pixels.info.clear()  # nothing but the orientation has to be readable
    pixels.getexif()[Base.Orientation] = orientation
    ImageOps.exif_transpose(pixels, in_place=True)
    return pixels


def _resized(image: Image.Image, size: int, resize: str) -> Image.Image:
    """The whole image or, with `crop`, its middle after the shorter side became `size`, as in torchvision."""
    width, height = image.size
    if resize == "squash":
        return image.resize((size, size), Resampling.BICUBIC)
    shorter = min(width, height)
    across, down = size * width // shorter, size * height // shorter
    left, top = round((across - size) / 2), round((down - size) / 2)
    x, y = width / across, height / down  # a pixel of the resized image, in pixels of the image
    # only the middle is computed: the whole may be huge if the shorter side is one pixel (min() for rounding)
    middle = (left * x, top * y, min((left + size) * x, width), min((top + size) * y, height))
    return image.resize((size, size), Resampling.BICUBIC, box=middle)


def reason(error: Exception) -> str:
    """Why a file cannot be decoded, in a line."""
    if isinstance(error, UnidentifiedImageError):
        return f"not an image of a known format ({', '.join(FORMATS)})"
    return getattr(error, "strerror", None) or first_line(error)
