from pathlib import Path

import numpy as np
import peers
import pytest
import torch
from repeated_slide import write_repeated_slide


def test_a_peer_is_timed_with_a_network_that_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "resnet50", lambda **options: pytest.fail("it is built inside the clock"))
    slide = write_repeated_slide(tmp_path / "slide.tif", side_px=2048)
    coords = np.array([[0, 0], [256, 512], [512, 256]])
    found = peers.clam_patches(torch.nn.Flatten(), slide, coords, workers=0)
    assert found.shape == (3, 3 * peers.PATCH_PX**2)
