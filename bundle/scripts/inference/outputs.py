"""What inference writes, held against other requests and other people's files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.files import sha256_of
from ..common.outputs import HeldOutputs
from ..common.pseudonyms import AS_THEY_ARE, Names
from .slide_set import listed_slides

OF_RUN = ("predictions.csv", "inference.json")
OF_SLIDE = (
    "cam.nii.gz", "cam.ome.tif", "cam.png", "cam.geojson", "cam.xml", "cam.dcm", "observed.png", "scores.json", "thumbnail.png",
)  # fmt: skip


def held_predictions(
    output_dir: str | Path,
    model: str | Path,
    *,
    slides: str | None,
    dataset_dir: str | Path,
    encoder: str | Path,
    encoding: Mapping[str, Any],
    options: Mapping[str, Any],
    split: str | None = None,
    heat_maps: bool = True,
    replace: bool = False,
    names: Names = AS_THEY_ARE,
) -> HeldOutputs:
    """The outputs of inference in ``output_dir``.

    Args:
        output_dir: folder of the predictions.
        model: weights of DSNet; their content is part of the request.
        slides: what is classified, in the user's words: a folder with a new slide is the same request.
        dataset_dir: the embeddings, part of the request where no slides are given.
        encoder: weights of the patch encoder, part of the request where slides are given, as is ``encoding``.
        encoding: settings of it.
        options: everything else that decides the predictions and maps.
        split: of the embeddings.
        heat_maps: whether they will be written.
        replace: whether predictions of another request may be replaced.
        names: what slides are called in them.

    Raises:
        RequestError: the slides cannot be listed, or anonymous outputs would hold what is called by them.
    """
    names.require_outside(dataset_dir, "--dataset_dir")
    request: dict[str, object] = {"model": sha256_of(model), **options, "split": split, **names.request}
    if slides is None:
        request["dataset_dir"] = names.place(str(Path(dataset_dir).absolute()))
    else:
        weights = sha256_of(encoder) if Path(encoder).is_file() else names.place(str(encoder))
        request |= {"slides": names.place(str(Path(slides).absolute())), "encoder": weights, **encoding}
    writes = list(OF_RUN)
    if slides is None or Path(dataset_dir).absolute() != Path(output_dir).absolute():
        writes.append("manifest.csv")  # else encoding holds it
    if heat_maps:
        ids = [names.slide(row.slide_id) for row in listed_slides(slides, dataset_dir, split)]
        writes += [f"{slide_id}/{name}" for slide_id in ids for name in OF_SLIDE]
    return HeldOutputs(output_dir, "inference", request, writes=writes, replace=replace)
