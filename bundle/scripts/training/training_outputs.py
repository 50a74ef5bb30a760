"""What a training writes, held against other requests and other people's files: its state, its weights and their card."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from ..common.errors import RequestError
from ..common.journal import read_journals
from ..common.outputs import Found, HeldOutputs
from ..common.ranks import is_first
from .model_card import card_path
from .saved_state import STATE_NAME, read_state


def trained_weights(output_dir: str | Path, root: str | Path) -> str:
    """Return where the weights lie that are evaluated, unless they are named.

    Args:
        output_dir: folder of the evaluation. Where it is that of a training, its weights are meant.
        root: the bundle's folder, whose ``models`` are meant otherwise.
    """
    folder = Path(output_dir) if Path(output_dir, STATE_NAME).is_file() else Path(root, "models")
    return str(folder / "model.pt")


class TrainingOutputs:
    """The folder of the state and the log, and that of the weights, which may be the same.

    The request is the settings and the number of epochs. A training may replace its own finished outputs; those of one that was
    stopped are kept for ``--resume true``.

    Args:
        folder: where the state and the log lie.
        model: file of the weights.
        settings: what a resumed training must have in common with its beginning.
        max_epochs: of the training; a resumed one may have another number.
        resume: the training goes on from its state, where there is one.
        replace: whether outputs of another request, or of a stopped training, may be replaced.
        card: whether a card is written beside the weights.
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
        self.folder, self.model = Path(folder), Path(model)
        self.state = self.folder / STATE_NAME
        self.settings = settings
        self.max_epochs = max_epochs
        self.resume = resume
        self.replace = replace
        self.card = card

    def hold_for(self, *steps: Callable[[], object]) -> None:
        """Look at what lies in the folders, then take one step after the other while they are held.

        Of several processes the first one looks, holds and writes.

        Raises:
            RequestError: see :class:`..common.outputs.HeldOutputs` and :func:`.saved_state.read_state`, and a stopped training that
                is neither gone on with nor to be replaced.
        """
        with ExitStack() as stack:
            for part in self._checked() if is_first() else ():
                stack.enter_context(part)
            for step in steps:
                step()

    def _checked(self) -> list[HeldOutputs]:
        """The folders, after a look at what lies there; nothing is written."""
        state = self.state
        resume = self.resume and state.is_file()
        weights = [self.model.name, *([card_path(self.model).name] if self.card else [])]
        together = self.folder.absolute() == self.model.parent.absolute()
        request = {**self.settings, "max_epochs": self.max_epochs}
        disposable = _has_seen_nothing(state) and not (together and self.model.exists())
        elsewhere = "name an --output_dir of its own, where everything that this training makes will lie"
        parts = [
            HeldOutputs(
                self.folder,
                "training",
                request,
                writes=[STATE_NAME, *(weights if together else [])],
                replace=self.replace or disposable,
                found=Found(continues=True, adopted=[STATE_NAME]) if resume else Found(),
                elsewhere=elsewhere,
            )
        ]
        if not together:
            parts.append(
                HeldOutputs(
                    self.model.parent,
                    f"training.{self.model.stem}",
                    request,
                    writes=weights,
                    replace=self.replace,
                    found=Found(continues=resume),
                    elsewhere=elsewhere,
                )
            )
        for part in parts:
            part.check()
        if resume:
            read_state(state, self.settings)
        elif not (self.replace or disposable):
            _refuse_stopped(parts[0], state)
        return parts


def _refuse_stopped(outputs: HeldOutputs, state: Path) -> None:
    if any(not journal.finished and journal.knows(STATE_NAME) for journal in outputs.before):
        raise RequestError(
            f"{state}: the state of a training that was stopped, which this one would replace; expected to go on with it: add "
            "--resume true, name another --output_dir, or begin anew with --replace true"
        )


def _has_seen_nothing(state: Path) -> bool:
    """Whether there is a state of ours of a training that was stopped in its first epoch; of others nothing is loaded."""
    if not any(journal.stage == "training" and journal.knows(STATE_NAME) for journal in read_journals(state.parent)):
        return False
    return bool(torch.load(state, map_location="cpu", weights_only=True)["epoch"] == 0)
