"""The sections `method` and `chain`."""

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from kdsweep.config.code import takes
from kdsweep.config.component import component, not_finite
from kdsweep.config.network import Assistant
from kdsweep.config.section import Section
from kdsweep.system.foreign_errors import one_line

TEMPERATURE, ALPHA, REST = "temperature", "alpha", "1 - alpha"
WORDS = (TEMPERATURE, ALPHA, REST)  # that stand for the numbers at the top of a job


class Option(Section):
    """How tables, pictures and MLflow write a number that a method takes."""

    sign: str = Field(min_length=1)
    """symbol, such as T or β"""
    axis: Literal["linear", "log"] = "linear"
    """axis of the pictures that sweep it"""
    search: str | None = None
    """what a search draws it from, as on the command line: interval(1, 32), choice(1, 2)"""


def _is_weight(value: float | str) -> float | str:
    if isinstance(value, str) and value not in WORDS:
        raise PydanticCustomError("weight", f"must be a number, or one of {', '.join(WORDS)}")
    if not isinstance(value, str) and not (isfinite(value) and value >= 0):
        raise PydanticCustomError("weight", "must be 0 or more")
    return value


Names = str | list[str]


class Term(Section):
    """A summand of the loss by import path; further keys are options of the function or class."""

    model_config = ConfigDict(extra="allow")

    target: str = Field(alias="_target_", pattern=r"\.")
    """import path of a function or an nn.Module, as `kdsweep.methods` describes them"""
    weight: Annotated[float | str, AfterValidator(_is_weight)]
    """factor of the term; alpha, 1 - alpha and temperature stand for the job's numbers"""
    warmup: float | None = Field(default=None, ge=0)
    """epochs (below 1: a share of them) in which the weight rises to its value"""
    decay: float | None = Field(default=None, ge=0)
    """epoch (below 1: a share of them) from which the weight falls as half a cosine"""
    taps: Names | dict[Literal["student", "teacher"], Names] | None = None
    """where the term looks: embedding, map, stage2, stages, a module's path, or a list; null: logits"""
    standardize: bool = False
    """whether each image's logits are brought to mean 0 and standard deviation 1 before the term"""

    @field_validator("target")
    @classmethod
    def _is_there(cls, target: str) -> str:
        try:
            takes(target)
        except Exception as error:  # importing runs any code, the user's too
            raise PydanticCustomError("import", "{why}", {"why": one_line(error)}) from error
        return target

    @field_validator("taps")
    @classmethod
    def _taps_are_there(cls, taps: Any) -> Any:
        sides = list(taps.values()) if isinstance(taps, dict) else [taps]
        if [] in sides or (isinstance(taps, dict) and len(sides) < 2):
            raise PydanticCustomError(
                "taps", "must name a tap, such as embedding, map or stage2, or {student: …, teacher: …}"
            )
        return taps

    def describe(self, temperature: float, alpha: float) -> dict[str, Any]:
        """The term for a temperature and an alpha, without the options that play no part."""
        numbers = {TEMPERATURE: temperature, ALPHA: alpha, REST: 1 - alpha}
        given = self.model_dump(by_alias=True, exclude_none=True)
        for key in ("warmup", "standardize"):
            if not given.get(key):
                given.pop(key, None)
        return {key: _put_in(value, numbers) for key, value in given.items()}

    @property
    def words(self) -> set[str]:
        """The words in it that stand for a job's numbers."""
        given = self.model_dump(by_alias=True)
        return {word for word in WORDS if any(value == word for value in _leaves(given))}

    @property
    def takes_teacher(self) -> bool:
        return "teacher" in takes(self.target)


Joined = Annotated[dict[str, Any], AfterValidator(component("kdsweep.networks.reuse.TeachersHead"))]


class Method(Section):
    """The loss of a step: a weighted sum of terms."""

    name: str = Field(min_length=1)
    """its name in tables and runs"""
    terms: dict[str, Term] = Field(min_length=1)
    """the terms, by the names of their figures"""
    options: dict[str, Option]
    """how to write the numbers that it takes, by their keys"""
    network: Joined | None = None
    """the network that a taught student becomes, made of its own and its teacher's; null: its own"""

    @field_validator("terms")
    @classmethod
    def _options_are_finite(cls, terms: dict[str, Term]) -> dict[str, Term]:
        for name, term in terms.items():
            for key in not_finite(term.model_extra):
                raise PydanticCustomError("not_finite", f"{name}.{key} must be finite")
        return terms

    @property
    def has_teacher(self) -> bool:
        return any(term.takes_teacher for term in self.terms.values())

    def uses(self, key: str) -> bool:
        """Whether a term takes `temperature` or `alpha` from the top of the job."""
        words = {word for term in self.terms.values() for word in term.words}
        return key in words or (key == ALPHA and REST in words)


class Chain(Section):
    """What stands between teacher and student, and who teaches whom."""

    name: str = Field(min_length=1)
    """its name in tables and runs"""
    between: Literal["nothing", "assistants", "generations"]
    """what stands between teacher and student when chain_length > 1"""
    taught_by: Literal["previous", "all"]
    """each link's teachers: the previous link, or all links before it, averaged"""
    average: Literal["terms", "probabilities", "logits"] = "terms"
    """over several teachers: the losses of terms that meet each alone; or their probabilities, or logits"""
    assistants: list[Assistant]
    """networks between teacher and student, from large to small, instead of student.assistants"""
    ensemble: list[str]
    """links whose averaged outputs are evaluated too: teacher, generations (all after it), or single links"""


def _put_in(value: Any, numbers: Mapping[str, float]) -> Any:
    if isinstance(value, dict):
        return {key: _put_in(inner, numbers) for key, inner in value.items()}
    if isinstance(value, list):
        return [_put_in(inner, numbers) for inner in value]
    return numbers.get(value, value) if isinstance(value, str) else value


def _leaves(values: Any) -> Iterator[Any]:
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else None
    if inner is None:
        yield values
    else:
        for value in inner:
            yield from _leaves(value)
