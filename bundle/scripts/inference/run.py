"""The stage ``inference``: slides, or embeddings, to predictions and heat maps."""

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..common.errors import RequestError, SlideError
from ..common.files import write_csv
from ..common.progress import track
from ..dsnet.heat_map import HeatMap
from ..dsnet.network import DSNet
from ..dsnet.segmentation import DSNetSegmentation
from ..encoding.job import ManifestRow
from ..encoding.named_encoder import identity_of
from ..encoding.run import COLUMNS, encode_slides, require_complete
from ..encoding.store import Embedding, fingerprint, read_embedding, read_encoder, read_shape, read_tissue
from ..evaluation.calibration import calibrated_predictions
from ..evaluation.predictions import Prediction, write_predictions
from ..slides.reader import open_slide
from ..slides.table import SPLITS, SlideRow, read_slides
from ..training.card import require_encoder
from ..training.evaluation import PredictionCollector
from ..training.leakage import seen_splits
from ..training.transforms import LoadEmbeddingd, PackMatricesd
from .exports import write_heat_map
from .record import write_run, write_scores

_LOGGER = logging.getLogger(__name__)


class InferenceSet:
    """The slides to classify: encoded on first use where slides are given, else the embeddings that are there.

    Args:
        slides: a slide, a folder or a CSV; None takes the embeddings in ``dataset_dir``.
        dataset_dir: folder of the embeddings (written, or read where ``slides`` is None).
        card: the model card.
        encoder_def: makes the patch encoder.
        model: weights that the card belongs to.
        encoding: further arguments of :func:`..encoding.run.encode_slides`.
        split: of embeddings with a table, the slides of this split alone; None: all.
    """

    def __init__(
        self,
        slides: str | None,
        dataset_dir: str | Path,
        card: dict[str, Any],
        encoder_def: Callable[[], nn.Module],
        *,
        model: str | Path,
        encoding: dict[str, Any] | None = None,
        split: str | None = None,
    ) -> None:
        self.folder = Path(dataset_dir)
        self.card = card
        self.manifest: list[ManifestRow] = []
        self.items: list[dict[str, Any]] = []
        self._without_thumbnail = 0
        if slides is not None:
            rows = read_slides(slides)  # a wrong request is refused before anything is written
            encoder = encoder_def()
            require_encoder(model, card, identity_of(encoder))
            self.manifest = encode_slides(slides, self.folder, lambda: encoder, **(encoding or {}))
            usable = {entry.slide_id for entry in self.manifest if entry.status in ("done", "skipped")}
            rows = [row for row in rows if row.slide_id in usable]
        elif (self.folder / "slides.csv").is_file():
            rows = [row for row in read_slides(self.folder / "slides.csv") if split in (None, row.split)]
            if not rows:
                raise RequestError(
                    f"{self.folder / 'slides.csv'}: no slide in split {split!r}; expected one of {', '.join(SPLITS)} with slides in it"
                )
        else:  # files of another tool, without a table
            rows = [SlideRow(path.stem, Path(path.stem)) for path in sorted(self.folder.glob("[!.]*.h5"))]
        empty = _empty_slides(self.folder / "manifest.csv") if slides is None else {}
        for row in rows:
            if row.slide_id in empty and not (self.folder / f"{row.slide_id}.h5").is_file():
                self.manifest.append(ManifestRow(row.slide_id, str(row.path), "empty", error=empty[row.slide_id]))
            else:
                self._add(row)
        if self._without_thumbnail:
            _LOGGER.warning(
                "%d slides have no thumbnail and no slide file: they are judged by their embeddings alone",
                self._without_thumbnail,
            )

    def _add(self, row: SlideRow) -> None:
        """Put a slide on the list, or mark it as failed if its embedding does not serve the model."""
        path = self.folder / f"{row.slide_id}.h5"
        network, names = self.card["network"], self.card["class_names"]
        try:
            self._require_fit(path, row.path)
        except SlideError as error:
            self.manifest = [entry for entry in self.manifest if entry.slide_id != row.slide_id]
            self.manifest.append(ManifestRow(row.slide_id, str(row.path), "failed", error=str(error)))
            return
        self.items.append(
            {
                "embedding": str(path),
                "slide": str(row.path),
                "slide_id": row.slide_id,
                "patient": row.patient or "",
                "label": names.index(row.label) if row.label in names else -1,
                "thumbnail_levels": network["thumbnail_levels"] if network["thumbnail_stream"] else 0,
                "channel_range": self.card["channel_range"] or [0, network["embedding_channels"]],
            }
        )

    def _require_fit(self, path: Path, slide: Path) -> None:
        """Check an embedding against the model.

        Raises:
            SlideError: it cannot be read, holds no observed patch, or has other channels or too few thumbnail levels.
        """
        network, channel_range = self.card["network"], self.card["channel_range"]
        channels, levels = read_shape(path)
        first, last = channel_range or (0, network["embedding_channels"])
        if channels < last or (channel_range is None and channels > last):
            raise SlideError(
                f"{path}: {channels} channels, expected the channels {first} to {last} that the model was trained on: encode the "
                "slide with the model's encoder"
            )
        if network["thumbnail_stream"] and levels is not None and levels < network["thumbnail_levels"]:
            raise SlideError(
                f"{path}: a thumbnail of {levels} levels, expected the {network['thumbnail_levels']} that the model was trained on: "
                "encode the slide anew"
            )
        if not read_embedding(path).matrix((first, last)).any():
            raise SlideError(
                f"{path}: no observed patch in the channels {first} to {last}, expected at least one: leave this slide out"
            )
        if network["thumbnail_stream"] and levels is None and not slide.is_file():
            self._without_thumbnail += 1

    @property
    def encoder(self) -> str | None:
        """Name and hash of the encoder of the embeddings; None without embeddings.

        Raises:
            RequestError: the embeddings were made by different encoders.
        """
        names = {read_encoder(Path(item["embedding"])) for item in self.items}
        if len(names) > 1:
            raise RequestError(
                f"{self.folder}: embeddings of {len(names)} different encoders, expected one: encode all anew"
            )
        return names.pop() if names else None

    def require_slides(self) -> None:
        """Refuse a request without a slide.

        Raises:
            RequestError: neither slides nor embeddings were given.
            SlideError: every slide failed or holds no tissue.
        """
        if not self.items and not self.manifest:
            raise RequestError(
                f"nothing to classify: no --slides given and no embeddings in {self.folder}; name a slide, a folder or a CSV with "
                "--slides, or a folder of embeddings with --dataset_dir"
            )
        if not self.items:
            raise SlideError(
                f"none of {len(self.manifest)} slides can be classified, expected one at least; "
                f"{self.folder / 'manifest.csv'} says which failed and which hold no tissue"
            )

    def require_complete(self, output_dir: str | Path) -> None:
        """Write ``manifest.csv``; raise a SlideError (exit code 1) that counts the slides that failed, all others being done."""
        write_csv(Path(output_dir) / "manifest.csv", COLUMNS, (asdict(entry) for entry in self.manifest))
        require_complete(self.manifest, output_dir)


def _empty_slides(manifest: Path) -> dict[str, str]:
    """Slides in which encoding found no tissue, with its reason."""
    if not manifest.is_file():
        return {}
    with open(manifest, newline="", encoding="utf-8") as file:
        return {row["slide_id"]: row["error"] for row in csv.DictReader(file) if row["status"] == "empty"}


def class_index(card: dict[str, Any], target_class: str | int | None) -> int | None:
    """Return the number of the class whose heat map is wanted; None, which leaves it to the prediction, for None.

    Raises:
        RequestError: the model has no class of that name.
    """
    names: list[str] = card["class_names"]
    if target_class is None:
        return None
    if str(target_class) not in names:
        raise RequestError(
            f"target_class {str(target_class)!r}: the model knows {', '.join(names)}; name one of them, or leave it out"
        )
    return names.index(str(target_class))


def write_results(
    slides: InferenceSet,
    collector: PredictionCollector,
    network: DSNet | DSNetSegmentation,
    output_dir: str | Path,
    *,
    device: torch.device | str = "cpu",
    threshold: float | None = None,
    heat_maps: bool = True,
    target: int | None = None,
    settings: dict[str, Any] | None = None,
    heat_map: HeatMap | None = None,
) -> None:
    """Write ``predictions.csv``, ``inference.json`` and, a slide, its scores and the heat map of one class.

    Args:
        slides: what was classified.
        collector: holds the predictions.
        network: the trained network.
        output_dir: folder of the outputs.
        device: where the network runs.
        threshold: decision threshold on the calibrated P(class 1) instead of the model card's.
        heat_maps: whether to write the folders of the slides.
        target: number of the heat maps' class; None is class 1 of two, else the class predicted for each slide.
        settings: of the stage, for ``inference.json``.
        heat_map: makes them; None: the default one.
    """
    card, output = slides.card, Path(output_dir)
    names = card["class_names"]
    chosen = card["threshold"] if threshold is None else threshold
    predictions = calibrated_predictions(collector.predictions, card["temperature"])
    write_predictions(output / "predictions.csv", predictions, class_names=names, threshold=chosen)
    write_run(output / "inference.json", card=card, threshold=chosen, settings=settings or {})
    if heat_maps:
        write_heat_maps(
            slides.items, predictions, network, card, output, device=device, target=target, heat_map=heat_map
        )


def write_heat_maps(
    items: Sequence[Mapping[str, Any]],
    predictions: Sequence[Prediction],
    network: DSNet | DSNetSegmentation,
    card: dict[str, Any],
    output: Path,
    *,
    device: torch.device | str = "cpu",
    target: int | None = None,
    heat_map: HeatMap | None = None,
) -> None:
    """Write a folder ``<slide_id>`` a slide with the heat map of one class.

    Args:
        items: the slides, as :class:`InferenceSet` lists them.
        predictions: theirs, in the same order.
        network: the trained network.
        card: its card.
        output: folder of the folders.
        device: where the network runs.
        target: number of that class; None is class 1 of two, else the class predicted for each slide.
        heat_map: makes the maps; None: the default one.
    """
    names = card["class_names"]
    make_map = heat_map or HeatMap()
    kind = make_map.kind(network)
    load, pack, seen = LoadEmbeddingd(), PackMatricesd(), seen_splits(card)
    network.eval()
    pairs = list(zip(items, predictions, strict=True))
    for item, prediction in track(pairs, total=len(pairs), what="heat maps", unit="slide"):
        shown = target
        if shown is None:
            shown = 1 if len(names) == 2 else max(range(len(names)), key=prediction.probabilities.__getitem__)
        slide = Path(item["slide"])
        embedding = read_embedding(Path(item["embedding"]))
        matrices = load(item)
        pixels = (255 * (1 - matrices["t"][:3])).round().to(torch.uint8)
        write_heat_map(
            output / prediction.slide_id,
            cam=make_map(network, pack(matrices)["image"][None].to(device), shown),
            observed=(matrices["v"] != 0).any(dim=0).numpy(),
            thumbnail=pixels.permute(1, 2, 0).numpy(),
            origin_xy_px=embedding.origin_xy_px,
            patch_px_level0=embedding.patch_px_level0,
            mpp_x=embedding.attributes.get("mpp_x"),
            mpp_y=embedding.attributes.get("mpp_y"),
            class_name=names[shown],
            slide=slide,
            bounds_xy_px=_bounds_xy_px(embedding, slide),
            kind=kind,
        )
        write_scores(
            output / prediction.slide_id,
            item=item,
            prediction=prediction,
            embedding=embedding,
            tissue=read_tissue(Path(item["embedding"])),
            thumbnail=pixels.permute(1, 2, 0).numpy(),
            class_shown=names[shown],
            kind=kind,
            seen_in=seen.get(fingerprint(Path(item["embedding"]))) if seen else None,
        )


def _bounds_xy_px(embedding: Embedding, slide: Path) -> tuple[int, int]:
    """Corner of what was scanned, from the embedding file or else the slide; where neither says, that of the glass."""
    bounds = embedding.attributes.get("bounds_xywh_px")
    if bounds is None and slide.is_file():
        try:
            with open_slide(slide) as reader:
                bounds = reader.bounds_xywh_px
        except SlideError as error:  # it is not needed for anything else here
            _LOGGER.debug("%s", error)
    return (0, 0) if bounds is None else (int(bounds[0]), int(bounds[1]))
