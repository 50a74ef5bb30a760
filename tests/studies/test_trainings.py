"""Options that a study gives to its trainings."""

import pytest

from scripts.ablations.rows import ROWS
from scripts.common.errors import RequestError
from scripts.common.option_table import options_of
from scripts.comparison.methods import METHODS
from scripts.studies.trainings import Trainings

FULL = [ROWS["full"]]


def test_options_are_what_the_training_would_take_them_for() -> None:
    trainings = Trainings(
        options={"max_epochs": "3", "device": None, "learning_rate": "1e-3"},
        more={"standardise#enabled": "no", "loss#balance": True, "evaluated#share": None, "classes": "b,a"},
    )
    options = trainings.options_for(FULL)
    assert options == {
        "max_epochs": 3, "learning_rate": 0.001, "standardise#enabled": False, "loss#balance": True, "evaluated#share": None,
        "classes": ["b", "a"],
    }  # fmt: skip
    assert trainings.title(options, "train.yaml").startswith(
        "Seeds: 0, 1, 2, 3, 4. Training: train.yaml; max_epochs 3,"
    )
    assert Trainings((1,)).title({}, "train.yaml") == "Seeds: 1. Training: train.yaml; its defaults."


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_epoch", 3, "unknown option --max_epoch, the nearest known one is --max_epochs"),
        ("decay#gama", 1, "unknown option --decay#gama, the nearest known one is --decay#gamma"),
        ("weight_decay", 1, "optimizer#weight_decay"),
        ("max_epochs", "ten", "--max_epochs 'ten': expected a whole number, 1 or more"),
        ("seed", 1, "option seed: the study sets it for every run"),
        ("validate#split", "val", "option validate#split: the study sets it for every run"),
        ("table#slides", "a", "option table#slides: the study sets it"),
    ],
)
def test_options_that_a_training_would_refuse(name: str, value: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Trainings(more={name: value}).options_for(FULL)


def test_every_recipe_is_asked() -> None:
    """What the training of one of them does not know is refused for all."""
    option = Trainings(more={"network_def#hidden": 8})
    with pytest.raises(RequestError, match="unknown option --network_def#hidden"):
        option.options_for(METHODS.values())


@pytest.mark.parametrize("stage", ["ablating", "comparing_methods"])
def test_two_trainings_of_one_seed_are_refused(stage: str) -> None:
    """They would share a folder."""
    with pytest.raises(ValueError, match="0 stands there twice"):
        options_of({stage: []})["seeds"].read("0,0")
