"""What a training writes, held against other requests and other people's files: its state, its weights and their card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..common.errors import RequestError
from ..common.journal import read_journals
from ..common.outputs import HeldOutputs
from ..common.ranks import is_first
from .checkpoint import STATE_NAME


class TrainingOutputs:
    """The folder of the state and the log, and that of the weights, which may be the same.

    The request is the settings and the number of epochs. Its own finished outputs a training may replace; those of one that was stopped
    are kept for ``--resume true``.

    Args:
        folder: where the state and the log lie.
        model: file of the weights.
        settings: what a resumed training must have in common with its beginning.
        max_epochs: of the training; a resumed one may have another number.
        resume: the training goes on from its state, which :class:`.checkpoint.TrainingState` has compared, where there is one.
        replace: whether outputs of another request, or of a stopped training, may be replaced.
        card: whether a card is written beside the weights.

    Raises:
        RequestError: see :class:`..common.outputs.HeldOutputs`, and a stopped training that is neither gone on with nor to be replaced.
    """

    def __init__(
        self,
        folder: str | Path,
        model: str | Path,
        settings: Mapping[str, Any],
        *,
        max_epochs: int,
        resume: bool = False,
        replace: bool = False,
        card: bool = True,
    ) -> None:
        folder, model = Path(folder), Path(model)
        state = folder / STATE_NAME
        resume = resume and state.is_file()
        weights = [model.name, *([model.with_suffix(".json").name] if card else [])]
        together = folder.absolute() == model.parent.absolute()
        request = {**settings, "max_epochs": max_epochs}
        disposable = is_first() and _has_seen_nothing(state) and not (together and model.exists())
        elsewhere = "name an --output_dir of its own, where everything that this training makes will lie"
        self._parts = [
            HeldOutputs(
                folder,
                "training",
                request,
                writes=[STATE_NAME, *(weights if together else [])],
                replace=replace or disposable,
                continues=resume,
                adopted=[STATE_NAME] if resume else [],
                elsewhere=elsewhere,
            )
        ]
        if not together:
            self._parts.append(
                HeldOutputs(
                    model.parent,
                    f"training.{model.stem}",
                    request,
                    writes=weights,
                    replace=replace,
                    continues=resume,
                    elsewhere=elsewhere,
                )
            )
        if is_first() and not (resume or replace or disposable):
            _refuse_stopped(self._parts[0], state)

    def hold(self) -> None:
        """Hold the folders until :meth:`release`.

        Raises:
            RequestError: another training writes there.
        """
        for part in self._parts:
            part.hold()

    def wrote(self, name: str) -> None:
        """Note a file of the log, which grows: it goes where the training is replaced."""
        self._parts[0].wrote(name)

    def release(self) -> None:
        """Let them go: the training came to its end."""
        for part in self._parts:
            part.release()


def _refuse_stopped(outputs: HeldOutputs, state: Path) -> None:
    if any(not journal.finished and journal.knows(STATE_NAME) for journal in outputs.before):
        raise RequestError(
            f"{state}: the state of a training that was stopped, which this one would replace; expected to go on with it: add --resume "
            "true, name another --output_dir, or begin anew with --replace true"
        )


def _has_seen_nothing(state: Path) -> bool:
    """Whether there is a state of ours of a training that was stopped in its first epoch; of others nothing is loaded."""
    if not any(journal.stage == "training" and journal.knows(STATE_NAME) for journal in read_journals(state.parent)):
        return False
    return bool(torch.load(state, map_location="cpu", weights_only=True)["epoch"] == 0)
