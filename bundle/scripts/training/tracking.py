"""What a training leaves in TensorBoard: one log per run, with hyper-parameters, graph and pictures beside the scalars.

Pictures show pixels of the data set, but no name of a slide enters the log.
"""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ..common.files import note_written
from ..common.networks import evaluating, unwrapped
from ..common.ranks import is_first
from ..dsnet.heat_map import HeatMap
from ..dsnet.packing import unpack
from ..scae.panels import evenly_spaced, panels
from .batches import dense_image, image_of
from .validation import evaluator_of

_LOGGER = logging.getLogger(__name__)

LARGEST_PICTURE_PX = 512


class EventLog:
    """A ``SummaryWriter`` that the first of several processes makes when something is written; the others write nothing.

    All handlers of a run share it, so that a run has one log. A request that turns out to be wrong leaves none. Whoever holds the
    folder is told of the file, so that a training that is replaced takes its log along.

    Args:
        folder: where it lies.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
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
                note_written(path)
        return getattr(self._writer, name)


def _ignore(*args: Any, **kwargs: Any) -> None:
    """Stand in for every method of the log."""


class RunDescription:
    """Log the hyper-parameters and the graph of the network before the first step, and flush the log after every epoch.

    Args:
        log: the run's log.
        settings: hyper-parameters by id, see :func:`..common.config_settings.settings_of`.
        graph: whether the graph of the trainer's network, in evaluation, is drawn.
    """

    def __init__(self, log: EventLog, settings: Mapping[str, Any], *, graph: bool = True) -> None:
        self.log = log
        self.settings = dict(settings)
        self.graph = graph

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        if is_first():
            engine.add_event_handler(Events.EPOCH_STARTED, self._go_on)
            engine.add_event_handler(Events.ITERATION_STARTED(once=1), self._describe)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._flush)

    def _go_on(self, engine: Engine) -> None:
        self.log.go_on_from(engine.state.iteration + 1)

    def _describe(self, engine: Any) -> None:
        evaluator = evaluator_of(engine)
        # Runs are to be compared by this metric.
        metric = "train_loss" if evaluator is None else evaluator.state.key_metric_name
        for summary in hparams(self.settings, {metric: 0.0}):  # the metric is declared, its values are the scalars
            self.log.file_writer.add_summary(summary)
        if not self.graph:
            return
        network = unwrapped(engine.network)
        image = dense_image(engine.state.batch, engine.state.device)[:1]
        with warnings.catch_warnings(), evaluating(network):
            warnings.simplefilter("ignore")  # of the tracer: shapes become constants, which a drawing may have
            # The network stands inside a Sequential, as of the network itself the tracer would compile its other methods, too.
            alone = torch.nn.Sequential(network)
            try:
                traced = torch.jit.trace(alone, image, check_trace=False)
            except RuntimeError as error:
                _LOGGER.warning("the network is not drawn for TensorBoard, as it cannot be traced: %s", error)
                return
            self.log.add_graph(traced, image)

    def _flush(self, engine: Engine) -> None:
        self.log.flush()


class ReconstructionPanel:
    """After every epoch a picture of S-CAE at work: rows are patches, columns those of :func:`..scae.panels.panels`.

    Args:
        log: the run's log.
        patches: patches shown, evenly spaced in the trainer's data set, the same in every epoch.
    """

    def __init__(self, log: EventLog, *, patches: int = 6) -> None:
        self.log = log
        self.patches = patches

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        if is_first():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _draw(self, engine: Any) -> None:
        data = engine.data_loader.dataset.data  # items with ``image``, (3, 112, 112) on the scale of 0 to 255
        shown = [torch.as_tensor(data[index]["image"]) for index in evenly_spaced(self.patches, of=len(data))]
        patches = torch.stack(shown).to(engine.state.device) / 255
        rows = torch.cat(list(panels(unwrapped(engine.network), patches).values()), dim=3)
        self.log.add_image("reconstruction", torch.cat(list(rows), dim=1), engine.state.epoch)


class SlidePicture:
    """After every epoch a picture of one validation slide: observation mask, finest thumbnail, heat map; and its stream score.

    The slide is the first of the last class, and the evidence shown is that for its class.

    Args:
        log: the run's log.
    """

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self._item: Mapping[str, Any] | None = None

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, behind the handler that validates.

        Its evaluator runs DSNet, for labels or lesions, over items with ``image`` and ``label``.
        """
        if is_first():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _draw(self, engine: Any) -> None:
        evaluator = evaluator_of(engine)
        network, dataset = unwrapped(evaluator.network), evaluator.data_loader.dataset
        if self._item is None:  # read once, as it may not be kept elsewhere
            labels = [item["label"] for item in dataset.data]
            self._item = dataset[labels.index(max(labels))]
        item = self._item
        image = image_of(item, engine.state.device)
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
        with evaluating(network):
            _, stream_score, _ = network.attend(image)
        return float(stream_score)


def _twice(patches: Tensor) -> Tensor:
    """Bring a map on V's grid to that of T."""
    return F.interpolate(patches, scale_factor=2.0)
