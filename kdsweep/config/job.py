"""The whole config of a job."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from kdsweep.config.dataset import Dataset
from kdsweep.config.hardware import Hardware
from kdsweep.config.method import Chain, Method
from kdsweep.config.network import EXPORTED, Assistant, Network, Student, Teacher, is_file
from kdsweep.config.search import Objective, Search
from kdsweep.config.section import APART, OF_SWEEP, Fraction, Section
from kdsweep.config.training import Training


def _is_kept(uri: str) -> str:
    if uri.startswith("sqlite:") and (uri.count("/") < 3 or ":memory:" in uri or uri.endswith("/")):
        raise PydanticCustomError("memory", "memory keeps no run; name a file, such as sqlite:///mlflow.db")
    return _is_plain_path(uri)


def _is_plain_path(value: str) -> str:
    """Only the command expands ~; elsewhere it would create a folder of that name."""
    if value.removeprefix("sqlite:///").startswith("~"):
        raise PydanticCustomError("home", "~ is not known here; give the path from / on, or ${oc.env:HOME}/…")
    return value


class Tracking(Section):
    uri: Annotated[str, AfterValidator(_is_kept)] = Field(min_length=1)
    """MLflow's database (sqlite:///FILE) or server (http://HOST:PORT)"""
    experiment: str = Field(min_length=1)
    """MLflow's experiment, created if it is missing"""


def _is_model_name(value: str) -> str:
    if not value.strip() or value in (".", "..") or set(value) & set("/:"):
        raise PydanticCustomError("model_name", "must be a name without / and :")
    return value


ModelName = Annotated[str, AfterValidator(_is_model_name)]


class Config(Section):
    """A job: one student, one MLflow run, one number (or several for a search with several objectives)."""

    temperature: float = Field(gt=0)
    """softens the outputs of teacher and student"""
    alpha: Fraction
    """weight of the labels' cross-entropy; the teacher gets 1 - alpha"""
    chain_length: int = Field(ge=1, le=1000)
    """distillation steps from teacher to student; above 1 for chains with networks in between"""
    seed: int = Field(ge=0, lt=2**32)
    """initial weights, batch order, augmentation and dropout"""
    objective: Objective = Field(json_schema_extra=OF_SWEEP)
    """the number that a job returns to the sweeper, none without validation images; a list: several"""
    baseline: bool = Field(json_schema_extra=OF_SWEEP)
    """also train the student alone, for comparison"""
    confirm: int | None = Field(ge=2, le=1000, json_schema_extra=OF_SWEEP)
    """afterwards train the chosen recipe and the student alone with this many fresh seeds; null: none"""
    tune: int | None = Field(ge=1, le=1000, json_schema_extra=OF_SWEEP)
    """trials of each method, drawn from its own search space; `confirm` then compares the best; null: none"""
    store: Annotated[str, AfterValidator(_is_plain_path)] = Field(min_length=1, json_schema_extra=APART)
    """folder of all trained networks; delete it to train them again"""
    store_budget: float | None = Field(gt=0, json_schema_extra=APART)
    """GB; a job fails before it trains if the store is larger without kept answers; null: no limit"""
    answers_gb: float = Field(default=2.0, ge=0, json_schema_extra=APART)
    """GB that the store keeps of each teacher's answers to each seed's augmented images; 0: none"""
    plan: bool = Field(json_schema_extra=APART)
    """only print what would be trained, and about how long that takes"""
    debug: bool = Field(json_schema_extra=APART)
    """show tracebacks"""
    register_as: ModelName | None = Field(
        default=None,
        alias="register",  # which is a method of the class
        json_schema_extra=APART,
    )
    """a name in MLflow's registry: the best student becomes a version, with alias best if it leads"""
    tracking: Tracking = Field(json_schema_extra=APART)
    """MLflow"""
    dataset: Dataset
    """the images"""
    teacher: Teacher
    """the network that teaches"""
    teachers: dict[str, Teacher]
    """further teachers beside it, by names of your own; recipes say what differs from the first's"""
    student: Student
    """the network that is taught"""
    method: Method
    """the loss, a weighted sum of terms"""
    chain: Chain
    """what stands between teacher and student, and who teaches whom"""
    training: Training
    """the student's recipe, and the teacher's where its own gives no value"""
    hardware: Hardware = Field(json_schema_extra=APART)
    """where jobs run, and how many at a time"""
    search: Search | None = Field(default=None, json_schema_extra=APART)
    """Optuna's choices instead of every combination"""

    def alone(self) -> Self:
        """The config of a single job, which has all cores of the machine."""
        return self.model_copy(update={"hardware": self.hardware.model_copy(update={"jobs": 1})})

    @property
    def all_teachers(self) -> dict[str, Teacher]:
        """The teacher and the further ones, by their keys, which are their roles."""
        return {"teacher": self.teacher} | {f"teachers.{name}": each for name, each in self.teachers.items()}

    @property
    def assistants(self) -> list[Assistant]:
        """The networks that may stand between teacher and student, from large to small."""
        return self.chain.assistants or self.student.assistants

    @model_validator(mode="after")
    def _chain_has_its_links(self) -> Self:
        between, wanted = self.chain.between, self.chain_length - 1
        if not self.method.has_teacher or not wanted or between == "generations":
            return self
        if between == "nothing":
            raise PydanticCustomError(
                "chain",
                f"chain_length={self.chain_length}: chain={self.chain.name} has no networks in between; "
                "allowed: 1, or chain=assistants (as method=takd), dense (dgkd) or generations (ban)",
            )
        if len(self.assistants) < wanted:
            raise PydanticCustomError(
                "chain",
                f"chain_length={self.chain_length}: needs {wanted} assistants, and {len(self.assistants)} "
                "are listed, from large to small, in student.assistants or chain.assistants",
            )
        return self

    @property
    def _networks(self) -> list[tuple[str, Network, Training]]:
        """The networks that the job trains, with the keys that set them."""
        networks: list[tuple[str, Network, Training]] = [("student", self.student, self.training)]
        if self.method.has_teacher:
            networks += [(role, each, each.training) for role, each in self.all_teachers.items()]
            if self.chain.between == "assistants":
                where = "chain" if self.chain.assistants else "student"
                for i, assistant in enumerate(self.assistants):
                    networks.append((f"{where}.assistants.{i}", assistant, assistant.training))
        return networks

    @model_validator(mode="after")
    def _pixels_are_normalised_once(self) -> Self:
        for key, network, _ in self._networks:
            own = network.model["_target_"].startswith(("kdsweep.networks.library.", EXPORTED))
            if own and self.dataset.normalize != "unit":
                raise PydanticCustomError(
                    "normalize", f"dataset.normalize=standard: must be unit, {key}={network.name} has its own"
                )
        return self

    @model_validator(mode="after")
    def _a_network_of_the_methods_own_trains_whole(self) -> Self:
        taught = [
            each for each in self._networks if self.method.network and not each[0].startswith("teacher")
        ]
        for key, _, training in taught:
            recipe = "training" if key == "student" else f"{key}.training"
            for part, phase in zip((recipe, f"{recipe}.fine_tuning"), training.phases, strict=True):
                if phase.epochs and phase.trainable != "all":
                    raise PydanticCustomError(
                        "head",
                        f"{part}.trainable={phase.trainable}: must be all with method={self.method.name}, "
                        "whose network ends in its teacher's head",
                    )
        return self

    @model_validator(mode="after")
    def _teachers_have_names(self) -> Self:
        for name in self.teachers:
            if not (name.isidentifier() and name.isascii()):
                raise PydanticCustomError(
                    "name", f"teachers.{name}: a name must be a word of letters, digits and _, such as second"
                )
        return self

    @model_validator(mode="after")
    def _teachers_that_map_are_trained(self) -> Self:
        for key, teacher in self.all_teachers.items() if self.method.has_teacher else ():
            for name, given in (("gives", teacher.gives != "logits"), ("classes", teacher.classes)):
                if given and teacher.training.total_epochs:
                    raise PydanticCustomError(
                        "untrained",
                        f"{key}.{name}: is for a teacher that is trained already; set "
                        f"{key}.training.epochs=0 and give {key}.weights",
                    )
            if is_file(teacher.model) and teacher.training.total_epochs:
                raise PydanticCustomError(
                    "file",
                    f"{key}.training.epochs={teacher.training.epochs}: must be 0, its network is only a file",
                )
            if teacher.classes and teacher.gives == "embedding":
                raise PydanticCustomError("embedding", f"{key}.classes: an embedding has no classes")
            if isinstance(teacher.classes, dict) != (teacher.num_classes is not None):
                raise PydanticCustomError(
                    "num_classes",
                    f"{key}.num_classes: the number of its outputs, such as 1000, must be given if "
                    f"{key}.classes gives the outputs of each class, and only then",
                )
            if teacher.weight != 1 and not self.teachers:
                raise PydanticCustomError(
                    "weight", f"{key}.weight: is for several teachers, and there is one"
                )
        return self

    @model_validator(mode="after")
    def _files_are_not_students(self) -> Self:
        for key, network, _ in self._networks:
            if not key.startswith("teacher") and is_file(network.model):
                raise PydanticCustomError(
                    "file", f"{key}: must be a network that learns, not one from a file"
                )
        return self

    @model_validator(mode="after")
    def _nodes_reach_mlflow(self) -> Self:
        if not self.hardware.shared_store and self.tracking.uri.startswith(("sqlite:", "file:", "/", ".")):
            raise PydanticCustomError(
                "unreachable",
                f"tracking.uri={self.tracking.uri}: must be a server with hardware.shared_store=false, for "
                "nodes exchange stages through it; start one by `mlflow server` and give http://HOST:5000",
            )
        if not self.hardware.shared_store and self.search and self.search.storage.startswith("sqlite:"):
            raise PydanticCustomError(
                "unreachable",
                f"search.storage={self.search.storage}: must be a database that all nodes reach with "
                "hardware.shared_store=false, such as postgresql://HOST/optuna",
            )
        return self

    @model_validator(mode="after")
    def _all_are_trained(self) -> Self:
        for key, network, training in self._networks:
            # pretrained weights lack a head for the data's classes, which these teachers do not need
            headed = isinstance(network, Teacher) and (network.classes or network.gives == "embedding")
            known = network.weights or (headed and network.model.get("pretrained"))
            if training.total_epochs == 0 and not known:
                recipe = "training" if key == "student" else f"{key}.training"
                raise PydanticCustomError(
                    "untrained", f"{recipe}.epochs=0: must be 1 or more, or {key}.weights must be given"
                )
        return self
