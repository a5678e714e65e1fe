"""How dataclasses are read from JSON: no unknown keys, no conversions, no NaN."""

from typing import Any

STRICT: dict[str, Any] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
