"""The heat maps of classified slides, each written while its slide is in memory."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ignite.engine import Engine, Events

from ..common.apart import run_apart
from ..common.boundary import slide_boundary
from ..common.errors import RequestError, SlideError
from ..common.files import writing_to
from ..common.networks import unwrapped
from ..common.pseudonyms import AS_THEY_ARE, Names
from ..dsnet.heat_map import HeatMap, MapKind, Network
from ..encoding.embedding_file import embedding_file
from ..encoding.settings import is_replaced
from ..encoding.store import Embedding
from ..evaluation.calibration import calibrated_predictions
from ..evaluation.predictions import Prediction
from ..slides.box import BoxReader
from ..slides.geometry import MPP_RANGE, is_plausible
from ..slides.opening import open_slide
from ..training.batches import image_of
from ..training.model_card import ModelCard
from ..training.predicting import PredictionCollector
from ..training.transforms import LoadEmbeddingd
from .exports import write_heat_map
from .heat_map_view import HeatMapView
from .inference_outputs import PredictionOutputs
from .overlay import SIDE_PX
from .record import write_scores

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeatMapWriter:
    """Writes the folder ``<slide_id>`` of a slide: the heat map of one class, and the slide's scores.

    Args:
        network: the trained network.
        card: its card.
        output_dir: folder of the folders.
        device: where the network runs.
        target: number of that class; None is class 1 of two, else the class predicted for each slide.
        heat_map: makes the maps.
        names: what slides are called in them.
        boxes: reads the pictures of slides; whoever made it closes it.
    """

    network: Network
    card: ModelCard
    output_dir: str | Path
    device: torch.device | str = "cpu"
    target: int | None = None
    heat_map: HeatMap = field(default_factory=HeatMap)
    names: Names = AS_THEY_ARE
    boxes: BoxReader = field(kw_only=True)

    def write(self, item: Mapping[str, Any], prediction: Prediction, *, mpp: float | None = None) -> bool:
        """Write the folder of one slide.

        Args:
            item: the slide, as :class:`.slide_set.InferenceSet` lists it.
            prediction: what the network said of it, calibrated.
            mpp: micrometres per level-0 pixel as the table says, for an embedding that does not say it.

        Returns:
            whether the slide's file is the one that was encoded. If not, nothing is read from it: the map lies on T.

        Raises:
            SlideError: there is no heat map of this slide, or ``mpp`` is no resolution of a slide.
            StorageError: nothing more can be written.
        """
        file = embedding_file(Path(item["embedding"]))
        with slide_boundary(item["slide"]), writing_to(self.output_dir), file.keep_in_memory():
            return self._write(item, prediction, file.read(), mpp)

    @cached_property
    def kind(self) -> MapKind | None:
        """What the maps are; None where the network has none."""
        return self.heat_map.kind(self.network)

    def class_shown(self, prediction: Prediction) -> int:
        """Number of the class whose map is drawn."""
        if self.target is not None:
            return self.target
        two_classes = len(self.card.class_names) == 2
        return 1 if two_classes else max(range(len(prediction.probabilities)), key=prediction.probabilities.__getitem__)

    def _write(self, item: Mapping[str, Any], prediction: Prediction, embedding: Embedding, mpp: float | None) -> bool:
        folder = Path(self.output_dir) / self.names.slide(prediction.slide_id)
        is_that = not is_replaced(embedding.attributes, Path(item["slide"]))
        view = self._view(item, embedding, self.class_shown(prediction), mpp, is_that=is_that)
        write_heat_map(folder, view)
        write_scores(folder, view, item=item, prediction=prediction, embedding=embedding, names=self.names)
        return is_that

    def _view(
        self, item: Mapping[str, Any], embedding: Embedding, shown: int, mpp: float | None, *, is_that: bool
    ) -> HeatMapView:
        """Make the heat map of class number ``shown``; ``is_that`` says whether the slide's file is the one that was encoded."""
        assert self.kind is not None  # else nothing is written
        self.network.eval()
        slide, loaded = Path(item["slide"]), LoadEmbeddingd()(item)
        scan = _scan_of(embedding, slide, mpp)
        return HeatMapView(
            heat=self.heat_map(self.network, image_of(loaded, self.device), shown),
            observed=(loaded["places"][0] != 0).numpy(),
            thumbnail=loaded["t"][:3].permute(1, 2, 0).numpy(),
            grid=embedding.grid,
            mpp_xy=scan.mpp_xy,
            class_name=self.card.class_names[shown],
            slide=slide if is_that and not self.names.anonymise else Path(),  # a DICOM map takes the patient from it
            bounds_xy_px=scan.corner_xy_px or (0, 0),
            picture=self.boxes.read(slide, embedding.grid, SIDE_PX) if is_that else None,
            kind=self.kind,
        )


class HeatMapHandler:
    """Lets an evaluator write the heat map of each slide as soon as it is judged, while it is in memory.

    Whoever runs the evaluator closes it after, however the run ended: pictures of slides are read in a process of their own.

    Args:
        outputs: where the maps go, and whether they are written; its slides keep which of them have no heat map.
        predictions: collects them; attached to the evaluator before.
        made_by: makes the maps.
        target_class: class whose maps are drawn; None leaves it to :class:`HeatMapWriter`.

    Attributes:
        written: ids of the slides whose map this run has written.
    """

    def __init__(
        self,
        outputs: PredictionOutputs,
        predictions: PredictionCollector,
        *,
        made_by: HeatMap | None = None,
        target_class: str | int | None = None,
    ) -> None:
        self._outputs = outputs
        self._slides = outputs.slides
        self._predictions = predictions
        self._heat_map = made_by or HeatMap()
        self._target_class = target_class
        self._boxes = BoxReader()
        self.written: set[str] = set()
        self._writer: HeatMapWriter
        self._replaced: int

    def close(self) -> None:
        """End the process that reads pictures of slides."""
        self._boxes.close()

    def check(self, network: Network) -> None:
        """Refuse what a network and its card do not have.

        Raises:
            RequestError: no maps of the kind that is asked for, or no class of that name.
        """
        self._heat_map.kind(network)
        class_index(self._slides.card, self._target_class)

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator, whose network the maps are of."""
        if self._outputs.heat_maps:
            engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._tell_replaced)

    def _begin(self, engine: Any) -> None:
        self._replaced, self.written = 0, set()
        self._writer = HeatMapWriter(
            network=unwrapped(engine.network),
            card=self._slides.card,
            output_dir=self._outputs.folder,
            device=engine.state.device,
            target=class_index(self._slides.card, self._target_class),
            heat_map=self._heat_map,
            names=self._outputs.names,
            boxes=self._boxes,
        )
        if self._writer.kind is None:
            _LOGGER.warning("a %s has no heat map: none is written", type(self._writer.network).__name__)

    def _write(self, engine: Engine) -> None:
        if not engine.state.output or self._writer.kind is None:  # the slide failed, or there is no map
            return
        prediction = self._predictions.latest
        if not prediction.is_finite:
            return
        (calibrated,) = calibrated_predictions([prediction], self._slides.card.temperature)
        item, row = self._slides.item(prediction.slide_id), self._slides.row(prediction.slide_id)
        try:
            self._replaced += not self._writer.write(item, calibrated, mpp=row.mpp)
        except SlideError as error:
            self._slides.fail(prediction.slide_id, f"predicted, but without a heat map: {error}")
        else:
            self.written.add(prediction.slide_id)

    def _tell_replaced(self) -> None:
        if self._replaced:
            _LOGGER.warning(
                "the files of %d slides are not those that were encoded: what is said is of those before, and their maps lie on "
                "the thumbnail; encode them again, or bring the files back",
                self._replaced,
            )


def class_index(card: ModelCard, target_class: str | int | None) -> int | None:
    """Return the number of the class whose heat map is wanted; None, which leaves it to the prediction, for None.

    Raises:
        RequestError: the model has no class of that name.
    """
    names = card.class_names
    if target_class is None:
        return None
    if str(target_class) not in names:
        raise RequestError(
            f"target_class {str(target_class)!r}: the model knows {', '.join(names)}; name one of them, or leave it out"
        )
    return names.index(str(target_class))


class _Scan(NamedTuple):
    """What places a map on its slide: micrometres per level-0 pixel, and the corner of what was scanned; None where not known."""

    mpp_xy: tuple[float, float] | None
    corner_xy_px: tuple[int, int] | None


def _scan_of(embedding: Embedding, slide: Path, mpp: float | None) -> _Scan:
    """What the embedding file says, else the table (``mpp``), else the slide.

    Raises:
        SlideError: the table's ``mpp`` is none of a slide.
    """
    mpp_xy = embedding.mpp_xy
    if mpp_xy is None and mpp is not None:
        if not is_plausible((mpp, mpp)):
            raise SlideError(
                f"{slide}: the table says {mpp:.4g} um/px, expected {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g}: correct its column mpp, "
                "or leave it empty to take the slide's own"
            )
        mpp_xy = (mpp, mpp)
    bounds = embedding.attributes.get("bounds_xywh_px")
    said = _Scan(None, None)
    if (mpp_xy is None or bounds is None) and slide.is_file():
        try:
            said = run_apart(_said_by, slide, slide)
        except SlideError as error:  # it is not needed for anything else here
            _LOGGER.debug("%s", error)
    return _Scan(mpp_xy or said.mpp_xy, said.corner_xy_px if bounds is None else (int(bounds[0]), int(bounds[1])))


def _said_by(slide: Path) -> _Scan:
    with open_slide(slide) as reader:
        is_known = reader.mpp_xy is not None and is_plausible(reader.mpp_xy)
        return _Scan(reader.mpp_xy if is_known else None, reader.bounds_xywh_px[:2])
