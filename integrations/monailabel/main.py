"""MONAI Label app that serves the bundle ``pathology_wsi_dsnet_classification``: see README.md."""

from pathlib import Path
from typing import Any

from lib.bundle import Bundle
from lib.infer import SlideInferTask
from lib.train import SlideTrainTask
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore


class SlideApp(MONAILabelApp):
    """One model, by the bundle's name: it classifies slides and learns from slide labels."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.bundle = Bundle.of_app(Path(app_dir), conf or {})
        settings.MONAI_LABEL_DATASTORE_FILE_EXT = self.bundle.file_patterns
        super().__init__(
            app_dir,
            studies,
            conf,
            name="DSNet",
            description="Whole slide classification from slide labels, with heat maps",
            version=self.bundle.metadata["version"],
        )

    def init_infers(self) -> dict[str, SlideInferTask]:
        """The one model."""
        return {self.bundle.name: SlideInferTask(self.bundle)}

    def init_trainers(self) -> dict[str, SlideTrainTask]:
        """Its trainer."""
        return {self.bundle.name: SlideTrainTask(self.bundle)}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Classify a slide; of one in the datastore, a resolution in its info counts."""
        image_id = request.get("image")
        info = (datastore or self.datastore()).get_image_info(image_id)
        known = {"slide_id": image_id, "mpp": info.get("mpp")} if info else {}
        result: dict[str, Any] = super().infer({**known, **request}, datastore)
        return result

    def infer_wsi(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """What QuPath and the Digital Slide Archive ask for. MONAI Label would cut the region into tiles; a slide is judged whole."""
        return self.infer(request, datastore)
