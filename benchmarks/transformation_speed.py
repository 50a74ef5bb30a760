"""Section "speed": one slide, every part of Transformation alone and all of them together."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from peers import clam_network, clam_patches, matrix_product_flops, monai_patches
from repeated_slide import SIDES_PX, write_repeated_slide

from scripts.common.pipeline import map_ahead
from scripts.encoding.embed import embed_slide
from scripts.encoding.embedding_file import header_of
from scripts.encoding.named_encoder import NamedEncoder
from scripts.encoding.prepared import PreparedSlide, plan_of, prepare_slide
from scripts.encoding.settings import EncodingSettings
from scripts.scae.scae_network import SCAE
from scripts.slides.opening import Reading, open_slide
from scripts.slides.sweep import sweep, tiles_in_order
from scripts.slides.table import SlideRow

FLOPS_PER_PATCH = 0.141e9
BATCH = 64
RAW_BATCH = 16
READINGS = 3  # per turn: both take a fraction of a second
COLD_BYTES = 256 << 20
NETWORK_PX = SCAE.input_px


class RandomEncoder(torch.nn.Module):
    """S-CAE's encoder with random weights and a mask that fires at a tenth of the places."""

    input_px, channels = SCAE.input_px, 128

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scae = SCAE().train()
        with torch.no_grad():
            self.scae.decompose(torch.rand(8, 3, 112, 112))
        self.eval()

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Encode patches."""
        return self.scae.encode(patches)


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def exhaust(items: Iterable[object]) -> None:
    """Draw all items."""
    for _ in items:
        pass


class Case:
    """One slide at one reading level."""

    def __init__(self, path: Path, read_level: str, threads: int) -> None:
        self.row = SlideRow(path.stem, path)
        self.settings = EncodingSettings(read_level=read_level)
        self.threads = threads
        with open_slide(path) as reader:
            self.prepared: PreparedSlide = prepare_slide(
                reader, plan_of(reader, self.row, self.settings), self.settings
            )
        self.patches = len(self.prepared.grid_yx)
        self.size = (self.prepared.plan.read_px,) * 2

    def raw(self) -> None:
        """Decode the tiles under the tissue, as fast as cuCIM can."""
        from cucim import CuImage

        image, level = CuImage(str(self.row.path)), self.prepared.plan.level
        corners, tile, size, downsample = self._on_the_level()
        tiles = [corner for corner, _ in tiles_in_order(corners, self.size, tile, size)]
        self.tiles = len(tiles)
        locations = [(int(x * downsample), int(y * downsample)) for x, y in tiles]
        before = time.process_time()
        self.raw_s = seconds(
            lambda: exhaust(
                np.asarray(batch)
                for batch in image.read_region(
                    location=locations, size=tile, level=level, batch_size=RAW_BATCH, num_workers=self.threads
                )
            )
        )
        self.raw_processor_s = time.process_time() - before

    def _on_the_level(self) -> tuple[np.ndarray, tuple[int, int], tuple[int, int], float]:
        """Corners of the patches in the level's pixels, its tiles' and its own width and height, its downsample."""
        level = self.prepared.plan.level
        with open_slide(self.row.path) as reader:
            downsample = reader.level_downsamples[level]
            corners = np.rint(self.prepared.coords_xy_px / downsample).astype(np.int64)
            return corners, reader.tile_sizes_xy_px[level], reader.level_sizes_xy_px[level], downsample

    def copying_processor_s(self) -> float:
        """Processor seconds of the copies from tiles into patches alone; the tiles are in memory, too many for its caches."""
        corners, tile, size, _ = self._on_the_level()
        batches = 1 + COLD_BYTES // (3 * RAW_BATCH * tile[0] * tile[1])
        decoded = cycle(np.ones((batches, RAW_BATCH, tile[1], tile[0], 3), np.uint8))

        def decode(tiles: np.ndarray) -> Iterable[np.ndarray]:
            return (next(decoded)[: len(tiles) - at] for at in range(0, len(tiles), RAW_BATCH))

        patches = sweep(
            corners, size_xy_px=self.size, tile_xy_px=tile, level_xy_px=size, batch_size=BATCH, decode=decode
        )
        before = time.process_time()
        exhaust(patches)
        return time.process_time() - before

    def reader_s(self, limit: int | None = None) -> float:
        """Time the reading of the patches from an open slide."""
        with open_slide(self.row.path, Reading(num_workers=self.threads)) as reader:
            batches = reader.iter_patches(
                self.prepared.coords_xy_px[:limit],
                size_xy_px=self.size,
                level=self.prepared.plan.level,
                batch_size=BATCH,
            )
            return seconds(lambda: exhaust(batches))

    def in_memory(self, count: int, batch_size: int = BATCH) -> list[np.ndarray]:
        """Batches to encode again and again."""
        with open_slide(self.row.path, Reading(num_workers=self.threads)) as reader:
            coords = self.prepared.coords_xy_px
            batches = reader.iter_patches(
                coords, size_xy_px=self.size, level=self.prepared.plan.level, batch_size=batch_size
            )
            return [batch.copy() for batch in islice(batches, count)]

    def end_to_end(self, encoder: NamedEncoder, folder: Path, *, decode_device: str = "cpu") -> Path:
        """Write the embedding file."""
        path = folder / f"{self.row.slide_id}.h5"
        patches = embed_slide(
            self.row,
            path,
            encoder=encoder,
            settings=self.settings,
            reading=Reading(num_workers=self.threads, device=decode_device),
        )
        if patches != self.patches:
            raise RuntimeError(f"{patches} patches were written, {self.patches} expected")
        return path


def encoders(threads: int) -> dict[str, NamedEncoder]:
    """Every engine that is installed."""
    torch.set_num_threads(threads)
    network, made = RandomEncoder(), {}
    for engine, precision in (
        ("torch", "float32"),
        ("torch", "bfloat16"),
        ("openvino", "float32"),
        ("openvino", "bfloat16"),
    ):
        try:
            made[f"{engine} {precision}"] = NamedEncoder(
                network, device=torch.device("cpu"), engine=engine, precision=precision, batch_size=BATCH
            )
        except ValueError as error:
            print(f"left out: {error}", file=sys.stderr)
    return made


def encode_all(encoder: NamedEncoder, batches: list[np.ndarray], turns: int) -> None:
    """Encode batches in memory with as many threads as end to end uses."""
    exhaust(map_ahead(encoder.encode, (batch for _ in range(turns) for batch in batches), threads=encoder.streams))


def speed(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Section "speed"."""
    slide = arguments.slide or write_repeated_slide(folder / "speed.tif", side_px=SIDES_PX["1e9"])
    cases = {level: Case(slide, level, arguments.threads) for level in ("auto", "highest")}
    made, clam = encoders(arguments.threads), clam_network()
    turns: dict[str, list[float]] = {}

    def note(name: str, rate: float) -> None:
        turns.setdefault(name, []).append(rate)
        print(f"{name}: {rate:.0f}", file=sys.stderr, flush=True)

    sizes: dict[str, float] = {}
    for _ in range(arguments.repeats):
        note("matrix product GFLOP/s", matrix_product_flops(arguments.matrix_side) / 1e9)
        for level, case in cases.items():
            for _ in range(READINGS):
                case.raw()
                note(f"raw tiles, {level}", case.tiles / case.raw_s)
                note(f"raw, {level}", case.patches / case.raw_s)
                note(f"reader, {level}", case.patches / case.reader_s())
            batches = case.in_memory(16)
            count = sum(len(batch) for batch in batches)
            for name, encoder in made.items():
                repeat = 4 if "bfloat16" in name else 2
                note(f"encoder {name}, {level}", repeat * count / seconds(lambda: encode_all(encoder, batches, repeat)))
                if level == "auto":
                    cut = [np.ascontiguousarray(batch[:, :NETWORK_PX, :NETWORK_PX]) for batch in batches]
                    note(f"network {name}", repeat * count / seconds(lambda: encode_all(encoder, cut, repeat)))
                elapsed = seconds(lambda: sizes.update(bytes_out=case.end_to_end(encoder, folder).stat().st_size))
                note(f"end to end {name}, {level}", case.patches / elapsed)
        count = min(arguments.clam_patches, cases["highest"].patches)
        coords = cases["highest"].prepared.coords_xy_px
        peer_s = seconds(lambda: clam_patches(clam, slide, coords[:count], workers=arguments.threads))
        note("CLAM recipe", count / peer_s)
        count = min(4096, cases["highest"].patches)
        peer_s = seconds(lambda: monai_patches(slide, coords[:count], workers=arguments.threads))
        note("MONAI reading, windows of the box", count / peer_s)
        note("reader, highest, as many patches", count / cases["highest"].reader_s(count))
    attributes = header_of(folder / f"{slide.stem}.h5").attributes
    width, height = (int(side) for side in attributes["slide_size_xy_px"])
    pixels_1e8 = width * height / 1e8
    sizes.update(
        bytes_in=slide.stat().st_size,
        pixel_bytes=3 * width * height,
        ratio_of_formula=float(attributes["compression_ratio"]),
        ratio_of_matrices=float(attributes["compression_ratio_bytes"]),
        slide_1e8_px=pixels_1e8,
        patches=cases["auto"].patches,
    )
    return {"turns": turns, "sizes": sizes}
