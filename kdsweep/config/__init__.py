"""The schema of a job's config, a module per section; a key's docstring is its line of docs/reference.md."""

from kdsweep.config.dataset import ArrayDataset, Augment, Dataset, ImageCsv, ImageDataset, ImageFolder
from kdsweep.config.hardware import Hardware, cores
from kdsweep.config.job import Config, Tracking
from kdsweep.config.method import Chain, Method, Term
from kdsweep.config.network import OUTPUTS, Assistant, Network, Student, Teacher, is_file
from kdsweep.config.search import COSTS, MONITORS, Objective, Search
from kdsweep.config.section import APART, OF_SWEEP, Section
from kdsweep.config.training import EPOCHS, SAME, FineTuning, Monitor, Phase, Training

__all__ = [
    "APART",
    "COSTS",
    "EPOCHS",
    "MONITORS",
    "OF_SWEEP",
    "OUTPUTS",
    "SAME",
    "ArrayDataset",
    "Assistant",
    "Augment",
    "Chain",
    "Config",
    "Dataset",
    "FineTuning",
    "Hardware",
    "ImageCsv",
    "ImageDataset",
    "ImageFolder",
    "Method",
    "Monitor",
    "Network",
    "Objective",
    "Phase",
    "Search",
    "Section",
    "Student",
    "Teacher",
    "Term",
    "Tracking",
    "Training",
    "cores",
    "is_file",
]
