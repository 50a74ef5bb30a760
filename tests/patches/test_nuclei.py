import numpy as np
import pytest
import torch
from monai.transforms import Compose

from scripts.patches.nuclei import FlagNucleusRichd, is_nucleus_rich


def flat(*means: int) -> np.ndarray:
    return np.broadcast_to(np.array(means, dtype=np.uint8), (1, 8, 6, 3)).copy()


@pytest.mark.parametrize(
    ("means", "rich"),
    [((178, 178, 178), True), ((179, 100, 100), False), ((100, 179, 100), False), ((100, 100, 179), False)],
)
def test_every_channel_must_be_under_70_percent(means: tuple[int, int, int], rich: bool) -> None:
    assert is_nucleus_rich(flat(*means)).tolist() == [rich]


def test_limit_itself_is_not_rich() -> None:
    patch = flat(178, 178, 178)
    patch[:, ::2] = 179  # mean 178.5 in every channel
    assert not is_nucleus_rich(patch)[0]
    patch[0, 0, 0, 0] -= 1
    assert not is_nucleus_rich(patch)[0]
    patch[0, 0, 0, 1:] -= 1
    assert is_nucleus_rich(patch)[0]


def test_it_is_the_mean_that_counts_and_order_is_kept() -> None:
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (40, 16, 12, 3)).astype(np.uint8)
    patches = np.clip(patches.astype(int) + rng.integers(0, 120, (40, 1, 1, 1)), 0, 255).astype(np.uint8)
    expected = (patches.mean(axis=(1, 2)) < 178.5).all(axis=1)
    assert 5 < expected.sum() < 35
    np.testing.assert_array_equal(is_nucleus_rich(patches), expected)
    assert is_nucleus_rich(patches[:0]).shape == (0,)


@pytest.mark.parametrize("patches", [flat(1, 1, 1) / 255, flat(1, 1, 1)[0], np.zeros((1, 3, 8, 8), np.uint8)])
def test_other_scales_and_axes_are_refused(patches: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(N, h, w, 3\)"):
        is_nucleus_rich(patches)


def test_transform_flags_channel_first_patches_and_leaves_the_item() -> None:
    item = {
        "image": torch.from_numpy(flat(100, 179, 100)[0]).permute(2, 0, 1),
        "dark": flat(9, 9, 9)[0].transpose(2, 0, 1),
    }
    flagged = Compose([FlagNucleusRichd(["image", "dark", "absent"], allow_missing_keys=True)])(item)
    assert flagged["image_rich"] is False
    assert flagged["dark_rich"] is True
    assert set(item) == {"image", "dark"}
    with pytest.raises(KeyError):
        FlagNucleusRichd("absent")(item)
