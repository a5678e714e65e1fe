"""The picture of a confusion matrix.

Pillow draws it in milliseconds: every network has one, and matplotlib takes a tenth of a second.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

CELL, SMALLEST_CELL = 48, 8  # pixels
SMALLEST, LARGEST = 200, 2000  # pixels of all cells, a side
MOST_NUMBERS, MOST_LABELS = 25, 60  # classes; more would make them too small, or overlap
BLUE, BLACK, WHITE = (8, 81, 156), (0, 0, 0), (255, 255, 255)
GAP = 8  # pixels between labels and cells


def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], file: Path) -> None:
    """Draw a confusion matrix: true classes as rows with their shares of right answers."""
    file.write_bytes(_drawn(tuple(map(tuple, matrix)), tuple(classes)))


@lru_cache(maxsize=16)  # jobs of one process share teachers and baselines
def _drawn(matrix: tuple[tuple[int, ...], ...], classes: tuple[str, ...]) -> bytes:
    shares = [[count / max(1, sum(row)) for count in row] for row in matrix]
    count = len(classes)
    cell = max(SMALLEST_CELL, SMALLEST // count, min(CELL, LARGEST // count))
    font, title = _font(13), _font(15)
    named = count <= MOST_LABELS
    rows = [f"{name}  {shares[i][i]:.0%}" for i, name in enumerate(classes)] if named else []
    upright = max(map(len, classes)) < 5
    left = 3 * GAP + 20 + max((font.getlength(label) for label in rows), default=0)
    below = 3 * GAP + 20 + (0 if not named else 14 if upright else max(map(font.getlength, classes)))
    side = count * cell
    picture = Image.new("RGB", (round(left + side + 2 * GAP), round(2 * GAP + side + below)), WHITE)
    draw = ImageDraw.Draw(picture)

    for row, counts in enumerate(matrix):
        for column, number in enumerate(counts):
            x, y, share = left + column * cell, 2 * GAP + row * cell, shares[row][column]
            colour = tuple(round(255 + share * (channel - 255)) for channel in BLUE)
            draw.rectangle((x, y, x + cell, y + cell), fill=colour)
            if number and count <= MOST_NUMBERS:
                ink = WHITE if share > 0.5 else BLACK
                draw.text((x + cell / 2, y + cell / 2), str(number), ink, font, anchor="mm")
    draw.rectangle((left, 2 * GAP, left + side, 2 * GAP + side), outline=BLACK)
    for i, label in enumerate(rows):
        middle = (i + 0.5) * cell
        draw.text((left - GAP, 2 * GAP + middle), label, BLACK, font, anchor="rm")
        at = (left + middle, 3 * GAP + side)
        if upright:
            draw.text(at, classes[i], BLACK, font, anchor="mt")
        else:
            _upwards(picture, at, classes[i], font)
    draw.text((left + side / 2, picture.height - GAP), "predicted", BLACK, title, anchor="mb")
    _upwards(picture, (GAP + 8, 2 * GAP + side / 2), "true, and share recognised", title, middle=True)
    png = BytesIO()
    picture.save(png, format="PNG")
    return png.getvalue()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font of matplotlib, which has more letters than Pillow's own."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _upwards(
    picture: Image.Image,
    at: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont,
    middle: bool = False,
) -> None:
    """Draw text that reads upwards, centred on `at` from left to right; it ends or has its middle there."""
    left, top, right, bottom = font.getbbox(text)
    strip = Image.new("RGB", (round(right - left) + 2, round(bottom - top) + 2), WHITE)
    ImageDraw.Draw(strip).text((1 - left, 1 - top), text, BLACK, font)
    turned = strip.rotate(90, expand=True)
    down = turned.height / 2 if middle else 0
    picture.paste(turned, (round(at[0] - turned.width / 2), round(at[1] - down)))
