"""What users would pick instead, as their documentation has it, and the limit of the machine."""

import time
from pathlib import Path

import numpy as np
import openslide
import torch
from monai.data import SlidingPatchWSIDataset
from monai.networks.nets import resnet50
from torch.utils.data import DataLoader, Dataset

PATCH_PX = 256
CLAM_BATCH = 64
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class OpenSlidePatches(Dataset):
    """Patches of 256 px of level 0, read one by one and normalised; the slide is opened in the process that reads."""

    def __init__(self, path: Path, coords_xy_px: np.ndarray) -> None:
        self.path, self.coords = path, coords_xy_px.tolist()
        self.slide: openslide.OpenSlide | None = None

    def __len__(self) -> int:
        return len(self.coords)

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.slide is None:
            self.slide = openslide.OpenSlide(self.path)
        patch = self.slide.read_region(tuple(self.coords[index]), 0, (PATCH_PX, PATCH_PX)).convert("RGB")
        pixels = torch.from_numpy(np.array(patch)).permute(2, 0, 1).float() / 255
        return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


def clam_network() -> torch.nn.Module:
    """ResNet-50 up to its third block, and the mean over space: patches (B, 3, H, W) to (B, 1024)."""
    network = resnet50(spatial_dims=2, n_input_channels=3, conv1_t_stride=2, feed_forward=False).eval()
    network.layer4 = torch.nn.Identity()
    return network


def clam_patches(network: torch.nn.Module, path: Path, coords_xy_px: np.ndarray, *, workers: int) -> torch.Tensor:
    """Encode patches as CLAM does, by :func:`clam_network`, (N, 1024)."""
    loader = DataLoader(OpenSlidePatches(path, coords_xy_px), batch_size=CLAM_BATCH, num_workers=workers)
    with torch.inference_mode():
        return torch.cat([network(batch) for batch in loader])


def monai_patches(path: Path, coords_xy_px: np.ndarray, *, workers: int) -> int:
    """Read windows of the box of the patches, glass included, with MONAI's sliding window over cuCIM, until as many are read."""
    left, top = coords_xy_px.min(axis=0)
    data = [{"image": str(path)}]
    dataset = SlidingPatchWSIDataset(
        data, patch_size=(PATCH_PX, PATCH_PX), offset=(int(top), int(left)), patch_level=0, reader="cucim"
    )
    read = 0
    for batch in DataLoader(dataset, batch_size=CLAM_BATCH, num_workers=workers):
        read += len(batch["image"])
        if read >= len(coords_xy_px):
            break
    return read


def matrix_product_flops(side: int, turns: int = 10) -> float:
    """Measure the rate of the product of two float32 matrices, multiply and add counted as 2."""
    a, b = torch.rand(side, side), torch.rand(side, side)
    torch.matmul(a, b)
    start = time.perf_counter()
    for _ in range(turns):
        torch.matmul(a, b)
    return 2 * side**3 * turns / (time.perf_counter() - start)
