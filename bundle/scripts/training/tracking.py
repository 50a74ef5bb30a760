"""What a training leaves in TensorBoard: one log a run, with hyper-parameters, graph and pictures beside the scalars.

Pictures show pixels of the data set, but no name of a slide enters the log.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ..common.ranks import is_first
from ..dsnet.heat_map import HeatMap
from ..dsnet.packing import unpack
from ..scae.panels import evenly_spaced, panels
from .evaluation import unwrapped
from .outputs import TrainingOutputs

LARGEST_PICTURE_PX = 512


class EventLog:
    """A ``SummaryWriter`` that the first of several processes makes when something is written; the others write nothing.

    All handlers of a run share it, so that a run has one log. A request that turns out to be wrong leaves none.

    Args:
        folder: where it lies.
        outputs: what the training holds, which notes the log's file; a training that is replaced takes its log along.
    """

    def __init__(self, folder: str, outputs: TrainingOutputs | None = None) -> None:
        self._folder = folder
        self._outputs = outputs
        self._first_step: int | None = None
        self._writer: SummaryWriter | None = None

    def go_on_from(self, step: int) -> None:
        """Let TensorBoard drop what earlier logs of the folder hold of this step and later ones, which are now made again."""
        self._first_step = step

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if not is_first():
            return _ignore
        if self._writer is None:
            before = set(Path(self._folder).glob("events.*"))
            self._writer = SummaryWriter(self._folder, purge_step=self._first_step)
            for path in set(Path(self._folder).glob("events.*")) - before:
                if self._outputs is not None:
                    self._outputs.wrote(path.name)
        return getattr(self._writer, name)


def _ignore(*args: Any, **kwargs: Any) -> None:
    """Stand in for every method of the log."""


class RunDescription:
    """Log the hyper-parameters and the graph of the network before the first step, and flush the log after every epoch.

    Args:
        log: the run's log.
        settings: hyper-parameters by name; nested ones get names such as ``network/sparse``.
        metric: scalar that runs are to be compared by.
        network: its graph is that of evaluation; None draws none.
    """

    def __init__(self, log: EventLog, settings: Mapping[str, Any], metric: str, network: nn.Module | None) -> None:
        self.log = log
        self.settings = dict(_flat(settings))
        self.metric = metric
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        if is_first():
            engine.add_event_handler(Events.EPOCH_STARTED, self._go_on)
            engine.add_event_handler(Events.ITERATION_STARTED(once=1), self._describe)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._flush)

    def _go_on(self, engine: Engine) -> None:
        self.log.go_on_from(engine.state.iteration + 1)

    def _describe(self, engine: Any) -> None:
        for summary in hparams(self.settings, {self.metric: 0.0}):  # the metric is declared, its values are the scalars
            self.log.file_writer.add_summary(summary)
        if self.network is None:
            return
        network = unwrapped(self.network)
        image = engine.state.batch["image"][:1].to(engine.state.device)
        was_training = network.training
        network.eval()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer: shapes become constants, which a drawing may have
            self.log.add_graph(torch.jit.trace(network, image, check_trace=False), image)
        network.train(was_training)

    def _flush(self, engine: Engine) -> None:
        self.log.flush()


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, Any]]:
    """List settings by name, levels joined by a slash."""
    found: list[tuple[str, Any]] = []
    for name, value in settings.items():
        found += _flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else [(prefix + name, value)]
    return found


class ReconstructionPanel:
    """After every epoch a picture of S-CAE at work: rows are patches, columns those of :func:`..scae.panels.panels`.

    Args:
        log: the run's log.
        network: S-CAE.
        dataset: its ``data`` holds items with ``image``, (3, 112, 112) on the scale of 0 to 255.
        patches: patches shown, evenly spaced in the data set, the same in every epoch.
    """

    def __init__(self, log: EventLog, network: nn.Module, dataset: Any, *, patches: int = 6) -> None:
        self.log = log
        self.network = network
        self.patches = [dataset.data[index]["image"] for index in evenly_spaced(patches, of=len(dataset.data))]

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        if is_first():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _draw(self, engine: Any) -> None:
        patches = torch.stack([torch.as_tensor(patch) for patch in self.patches]).to(engine.state.device) / 255
        rows = torch.cat(list(panels(unwrapped(self.network), patches).values()), dim=3)
        self.log.add_image("reconstruction", torch.cat(list(rows), dim=1), engine.state.epoch)


class SlidePicture:
    """After every epoch a picture of one validation slide: observation mask, finest thumbnail, heat map; and its stream score.

    The slide is the first of the last class, and the evidence shown is that for its class.

    Args:
        log: the run's log.
        network: DSNet, for labels or lesions.
        dataset: validation slides, items with ``image`` and ``label``.
    """

    def __init__(self, log: EventLog, network: nn.Module, dataset: Any) -> None:
        self.log = log
        self.network = network
        self.dataset = dataset
        labels = [item["label"] for item in dataset.data]
        self.index = labels.index(max(labels))

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, behind the handler that validates."""
        if is_first():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _draw(self, engine: Any) -> None:
        network: Any = unwrapped(self.network)
        item = self.dataset[self.index]
        image = torch.as_tensor(item["image"])[None].to(engine.state.device)
        evidence = torch.from_numpy(HeatMap()(network, image, int(item["label"])))[None, None].to(image.device)
        _, observed, thumbnail = unpack(image, network.embedding_channels)
        columns = [
            _twice(observed).expand(-1, 3, -1, -1),
            1 - thumbnail[:, :3],
            _twice(evidence).expand(-1, 3, -1, -1),
        ]
        picture = torch.cat(columns, dim=3)[0]
        step = -(-max(columns[0].shape[2:]) // LARGEST_PICTURE_PX)
        self.log.add_image("validation_slide", picture[:, ::step, ::step].clamp(0, 1), engine.state.epoch)
        self.log.add_scalar("validation_slide/stream_score", self._stream_score(network, image), engine.state.epoch)

    @staticmethod
    def _stream_score(network: Any, image: Tensor) -> float:
        was_training = network.training
        network.eval()
        with torch.no_grad():
            _, stream_score, _ = network.attend(image)
        network.train(was_training)
        return float(stream_score)


def _twice(patches: Tensor) -> Tensor:
    """Bring a map on V's grid to that of T."""
    return F.interpolate(patches, scale_factor=2.0)
