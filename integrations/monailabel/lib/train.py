"""Training from slide labels: encoding, where needed a split, DSNet."""

import csv
import json
import shutil
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.train import TrainTask

from lib.bundle import Bundle, device_option

COLUMNS = ("slide", "label", "patient", "split", "mpp")
OPTIONS = {
    "max_epochs": "max_epochs",
    "learning_rate": "learning_rate",
    "batch_size": "batch_size",
    "seed": "seed",
    "balance": "loss#balance",
    "allow_missing": "table#allow_missing",
}
"""Ids of train.yaml by the names that a client has for them."""


class SlideTrainTask(TrainTask):
    """Runs ``encode.yaml`` and ``train.yaml`` on the labelled slides; the new model serves from the next request on.

    The label of a slide is its label of tag "final" in the datastore: a JSON file with ``label`` and, where known, ``patient`` and
    ``split``, as in the columns of the bundle's slide table.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(f"DSNet from slide labels; encoder {bundle.encoder.name}")
        self.bundle = bundle

    def config(self) -> dict[str, Any]:
        """The options of a request, with the bundle's defaults; ``val_split`` is for labels that name no split."""
        configs = self.bundle.root / "configs"
        train, split = (
            yaml.safe_load((configs / name).read_text(encoding="utf-8")) for name in ("train.yaml", "split.yaml")
        )
        defaults = {name: reduce(dict.__getitem__, id_.split("#"), train) for name, id_ in OPTIONS.items()}
        return {**defaults, "classes": [], "val_split": split["val_share"]}

    def stats(self) -> dict[str, Any]:
        """How the model that serves was trained, from its card."""
        return {name: self.bundle.card.get(name) for name in ("class_names", "threshold", "training", "validation")}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train and publish.

        Raises:
            HTTPException: no labels, a label or option that is none, or a stage failed.
        """
        options = {name: typed(name, request.get(name, default), default) for name, default in self.config().items()}
        device = device_option(request)
        rows = labelled_slides(datastore)
        folder, fresh = self.bundle.work / "training", self.bundle.trained / ".new"
        table, embeddings = folder / "slides.csv", folder / "embeddings"
        folder.mkdir(parents=True, exist_ok=True)
        with open(table, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

        self.bundle.run(
            "encoding",
            "encode.yaml",
            slides=table,
            output_dir=embeddings,
            encoder=self.bundle.encoder,
            replace=True,  # of slides that are labelled no more, or by another encoder
            **device,
        )
        val_share = options.pop("val_split")
        if not rows[0]["split"]:
            splits = {"output_dir": folder / "splits", "test_share": 0, "val_share": val_share, "seed": options["seed"]}
            self.bundle.run("splitting", "split.yaml", slides=table, replace=True, **splits)
            table = folder / "splits" / "split.csv"
        if not options["classes"]:
            del options["classes"]
        shutil.rmtree(fresh, ignore_errors=True)
        self.bundle.run(
            "training",
            "train.yaml",
            dataset_dir=embeddings,
            slides=table,
            output_dir=folder / "log",
            replace=True,  # the log of the last training
            model=fresh / "model.pt",
            **{OPTIONS.get(name, name): value for name, value in options.items()},
            **device,
        )
        fresh.rename(self.bundle.trained / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ"))
        return self.stats()


def typed(name: str, value: Any, default: Any) -> Any:
    """Bring an option to the type of its default: clients send numbers as text, and to MONAI a text may be code.

    Raises:
        HTTPException: it is not of that type, or a class name would be code.
    """
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[str(value).lower()]
        if isinstance(default, list):
            if isinstance(value, str) or any(str(item)[:1] in "$@%" for item in value):
                raise ValueError
            return [str(item) for item in value]
        return type(default)(value)
    except (KeyError, TypeError, ValueError) as error:
        raise HTTPException(422, f"{name} {value!r}: expected a {type(default).__name__}, as {default}") from error


def labelled_slides(datastore: Datastore) -> list[dict[str, Any]]:
    """List the slides that have a final label, as rows of the bundle's slide table.

    Raises:
        HTTPException: there are none, a label is not a JSON object with ``label``, only some name a split, or the datastore keeps
            no label files.
    """
    if not isinstance(datastore, LocalDatastore):
        raise HTTPException(422, "slide labels are files of a local datastore: start the server with --studies FOLDER")
    rows = []
    for image_id in datastore.get_labeled_images():
        path = Path(datastore.get_label_uri(image_id, DefaultLabelTag.FINAL))
        try:
            label = json.loads(path.read_text(encoding="utf-8"))
            row = {name: label[name] for name in ("label", "patient", "split") if name == "label" or name in label}
        except (ValueError, KeyError, TypeError) as error:
            raise HTTPException(
                422,
                f'{path}: no slide label, expected JSON such as {{"label": "tumor"}}: put it again, or remove it from the datastore',
            ) from error
        info = datastore.get_image_info(image_id)
        rows.append({"slide": info["path"], "mpp": info.get("mpp", ""), "split": "", **row})
    if not rows:
        raise HTTPException(422, "no slide has a label: put some, put_labels.py does it from a CSV")
    without = sum(not row["split"] for row in rows)
    if without not in (0, len(rows)):
        raise HTTPException(422, f"{without} of {len(rows)} labels name no split: name one in all, or in none")
    return rows
