"""The packaged bundle, whose stages run in the Python environment that has its requirements."""

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException

WRONG_REQUEST = 2  # exit code of the bundle's stages, see its README

_PROBE = """
import json
import scripts.inference.heat_maps
from scripts.inference.annotations import LEVELS
from scripts.slides.slide_search import SLIDE_SUFFIXES
print(json.dumps({"suffixes": sorted(SLIDE_SUFFIXES), "levels": [level for level, _ in LEVELS]}))
"""
"""Imports what inference needs, and says what the app must know of the bundle's code."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk, and the models that were trained with it here.

    A stage is a process of its own: the pins of MONAI Label and of the bundle exclude each other, what a stage does is then what the
    same stage does on the command line, and its memory is free again at its end.

    Attributes:
        root: folder of the unpacked bundle.
        python: interpreter of an environment that has the bundle's requirements.
        encoder: weights of the patch encoder.
        work: folder of everything that is written.
    """

    root: Path
    python: Path
    encoder: Path
    work: Path

    @classmethod
    def of_app(cls, app_dir: Path, conf: dict[str, str]) -> "Bundle":
        """Take the ``--conf`` of the server.

        Raises:
            MONAILabelException: there is no bundle, or ``python`` cannot run it.
        """
        root = Path(conf.get("bundle", app_dir / "model" / "pathology_wsi_dsnet_classification")).expanduser().resolve()
        bundle = cls(
            root=root,
            python=Path(conf.get("python", sys.executable)).expanduser(),
            encoder=Path(conf.get("encoder", root / "models" / "scae.pt")).expanduser().resolve(),
            work=Path(conf.get("work_dir", app_dir / "work")).expanduser().resolve(),
        )
        bundle.require_runnable()
        return bundle

    def require_runnable(self) -> None:
        """Check the folder and the interpreter, so that a wrong ``--conf`` shows at start and not in the first request."""
        if not (self.root / "configs" / "inference.yaml").is_file():
            raise MONAILabelException(
                MONAILabelError.APP_INIT_ERROR,
                f"{self.root}: holds no configs/inference.yaml; expected the folder of the unpacked bundle: name it with --conf bundle",
            )
        try:
            assert self._facts
        except (OSError, subprocess.CalledProcessError) as error:
            reason = (
                error.stderr.strip().splitlines()[-1] if isinstance(error, subprocess.CalledProcessError) else error
            )
            raise MONAILabelException(
                MONAILabelError.APP_INIT_ERROR,
                f"{self.python}: cannot run the bundle ({reason}); expected the interpreter of an environment with the bundle's "
                "requirements: name it with --conf python",
            ) from error

    @cached_property
    def _facts(self) -> dict[str, Any]:
        command = [str(self.python), "-c", _PROBE]
        answer = subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout
        facts: dict[str, Any] = json.loads(answer.splitlines()[-1])
        return facts

    @property
    def file_patterns(self) -> list[str]:
        """Of the names of slide files, in small letters and in capitals: MONAI Label tells them apart, the bundle does not."""
        return [f"*{case}" for suffix in self._facts["suffixes"] for case in (suffix, suffix.upper())]

    @property
    def levels(self) -> list[float]:
        """The values of a heat map, from 0 to 1, at which it is outlined."""
        return list(self._facts["levels"])

    @property
    def name(self) -> str:
        """Name of the model in every request."""
        return self.root.name

    @property
    def metadata(self) -> dict[str, Any]:
        """The bundle's ``metadata.json``."""
        content: dict[str, Any] = json.loads((self.root / "configs" / "metadata.json").read_text(encoding="utf-8"))
        return content

    @property
    def trained(self) -> Path:
        """Folder of the models that were trained here, one folder each, named by the time."""
        return self.work / "models"

    @property
    def model(self) -> Path:
        """The weights that serve: the last trained here, else the packaged ones."""
        trained = sorted(self.trained.glob("[!.]*/model.pt"))
        return trained[-1] if trained else self.root / "models" / "model.pt"

    @property
    def card(self) -> dict[str, Any]:
        """The model card of the weights that serve; empty where there is none.

        Raises:
            MONAILabelException: it is no JSON object.
        """
        path = self.model.with_suffix(".json")
        try:
            return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
        except (ValueError, TypeError) as error:
            raise MONAILabelException(
                MONAILabelError.APP_INIT_ERROR,
                f"{path}: not JSON ({error}); expected the model card that train.yaml writes: unpack the bundle anew, or remove the "
                "folder of that training",
            ) from error

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the network's outputs; none without a card."""
        return list(self.card.get("class_names", []))

    def run(self, run_id: str, config: str, **options: Any) -> None:
        """Run a stage to its end; its log goes where this process writes.

        Args:
            run_id: what to run of ``config``.
            config: file of the bundle's ``configs``.
            options: the stage's options. A text that starts with ``$`` is code to MONAI: pass none that a client may choose.

        Raises:
            HTTPException: 422 where the stage refuses the request, else 500, with the stage's own message.
        """
        words = [run_id, "--bundle_root", self.root, "--config_file", self.root / "configs" / config]
        for name, value in options.items():
            words += [f"--{name}", value]
        command = [str(self.python), "-m", "monai.bundle", "run", *map(str, words)]
        result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if result.returncode:
            last = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
            raise HTTPException(
                status_code=422 if result.returncode == WRONG_REQUEST else 500,
                detail=f"{run_id}: {last.removeprefix('error: ')}",
            )


def device_option(request: dict[str, Any]) -> dict[str, str]:
    """The option ``device`` for a stage, where the client names one that a stage knows; otherwise the stage chooses."""
    asked = str(request.get("device") or "")
    return {"device": asked} if asked == "cpu" or asked.removeprefix("cuda").removeprefix(":").isdecimal() else {}
