from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scripts.common.errors import RequestError
from scripts.patches.draw import SlideSample
from scripts.patches.patch_file import patch_writer
from scripts.report.scae_figure import write_scae_panels
from scripts.scae.scae_network import SCAE


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Patches of one grey each, and an untrained network."""
    pixels = np.broadcast_to(np.arange(0, 250, 25, dtype=np.uint8)[:, None, None, None], (10, 112, 112, 3))
    with patch_writer(tmp_path / "patches.h5", {}) as append:
        append("slide", SlideSample(pixels, np.zeros((10, 2), int), np.ones(10, bool), 10, ""))
    torch.save(SCAE().state_dict(), tmp_path / "scae.pt")
    return tmp_path


def test_the_picture(made: Path) -> None:
    """The first column holds the patches, at even steps."""
    path = write_scae_panels(made, made / "out", encoder=made / "scae.pt", patches=2)
    assert path == made / "out" / "scae_panels.png"
    picture = np.asarray(Image.open(path).convert("L"))
    height, width = picture.shape
    first = picture[:, width // 10]
    assert {0, 125} <= set(first.tolist()) and width > 2 * height


def test_what_is_missing(made: Path) -> None:
    with pytest.raises(RequestError, match=r"patches\.h5: no such file"):
        write_scae_panels(made / "none", made, encoder=made / "scae.pt")
    with pytest.raises(RequestError, match=r"none\.pt: no such file"):
        write_scae_panels(made, made, encoder=made / "none.pt")
    with pytest.raises(RequestError, match="patches 0: expected"):
        write_scae_panels(made, made, encoder=made / "scae.pt", patches=0)
