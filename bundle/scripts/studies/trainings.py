"""How a study trains: how often, how many at a time, and with which options of train.yaml."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..common.config_files import read_config
from ..common.errors import RequestError
from ..common.request import options_meant
from .recipe import StudyRecipe, config_paths

OF_STUDY = (
    "bundle_root", "dataset_dir", "slides", "table#dataset_dir", "table#slides", "output_dir", "model", "seed", "resume",
    "replace", "dry_run", "validate#split",
)  # fmt: skip
"""Options of train.yaml that a study sets itself, for every run."""


def options_of_evaluation(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of a training that its evaluation takes, too.

    Others are of what evaluate.yaml replaces, such as the network, which is as its card says.
    """
    (evaluate,) = config_paths("evaluate.yaml")
    replaced = read_config(evaluate)
    return {name: value for name, value in options.items() if "#" not in name or name.split("#")[0] not in replaced}


@dataclass(frozen=True)
class Trainings:
    """The trainings of every recipe of a study.

    Attributes:
        seeds: of the trainings, one each.
        jobs: trainings at a time, each in a process of one thread.
        options: of train.yaml, by name; None keeps what a recipe says.
        more: any other options of train.yaml, by id; None is a value here.
    """

    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    jobs: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def options_for(self, recipes: Iterable[StudyRecipe]) -> dict[str, Any]:
        """Return the options that all trainings have in common, by id, as the command of a training would take them.

        Raises:
            RequestError: the study sets one itself, or the training of a recipe would refuse them.
        """
        given = {name: value for name, value in self.options.items() if value is not None} | dict(self.more)
        if ours := [name for name in given if {name, name.split("#")[0]} & set(OF_STUDY)]:
            raise RequestError(f"option {ours[0]}: the study sets it for every run: leave it out")
        meant = given
        for recipe in recipes:
            meant = options_meant(recipe.files, given)
        return meant

    def title(self, options: Mapping[str, Any], recipe: str) -> str:
        """Seeds and options for the head of a table; ``recipe`` is what they are options of."""
        said = ", ".join(f"{name} {value}" for name, value in options.items()) or "its defaults"
        return f"Seeds: {', '.join(map(str, self.seeds))}. Training: {recipe}; {said}."
