"""Arrays as short texts, for JSON."""

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pack_bits(values: "NDArray[Any]") -> str:
    """Booleans [N], eight in a byte."""
    import numpy as np

    return b64encode(np.packbits(values).tobytes()).decode()


def unpack_bits(text: str, count: int) -> "NDArray[Any]":
    """The inverse of `pack_bits`, bool [count]. Raises ValueError if the text holds fewer."""
    import numpy as np

    bits = np.unpackbits(np.frombuffer(b64decode(text), np.uint8))
    if len(bits) < count:
        raise ValueError(f"{len(bits)} bits for {count} values")
    return bits[:count].astype(bool)


def pack_floats(values: "NDArray[Any]") -> str:
    """Numbers [N] as float32."""
    import numpy as np

    return b64encode(np.asarray(values, "<f4").tobytes()).decode()


def unpack_floats(text: str) -> "NDArray[Any]":
    """The inverse of `pack_floats`, float64 [N]."""
    import numpy as np

    return np.frombuffer(b64decode(text), "<f4").astype(np.float64)
