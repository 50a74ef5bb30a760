from pathlib import Path

import numpy as np
import pytest
import torch
from crashing import crash_at
from encoding.painted import MeanEncoder, paint, quarter_colours, write_tiff
from monai.bundle import ConfigParser
from monai.transforms import Compose, RandFlipd
from tiny_flow import CONFIGS
from training.embedding_files import CHANNELS as CHANNELS_OF_FILE
from training.embedding_files import STEP_PX, write_embedding, write_foreign
from training.observed_slides import LEVELS, item_of, slide_of, v_of

from scripts.common.errors import RequestError, SlideError
from scripts.dsnet.packing import unpack
from scripts.encoding.embed import embed_slide
from scripts.encoding.named_encoder import NamedEncoder
from scripts.encoding.settings import EncodingSettings
from scripts.slides.table import SlideRow
from scripts.training.batches import PadCollate, dense_image, image_of
from scripts.training.cache import bytes_of
from scripts.training.transforms import LoadEmbeddingd, RandDropPatchesd, RandJitterd, RandTrimd, RandTurnPatchesd

HEIGHT, WIDTH, CHANNELS = 30, 20, 5
QUARTERS = {(0, 0): 1, (0, 1): 2, (1, 0): 3, (1, 1): 4}


def augmentations() -> Compose:
    """The random transforms of train.yaml."""
    config = ConfigParser.load_config_file(str(CONFIGS / "train.yaml"))
    return Compose(ConfigParser(config).get_parsed_content("train#random_transforms"))


def marked(row: int, column: int) -> dict[str, torch.Tensor]:
    """All patches are observed (1); the marked one is 9, and its 2x2 pixels of T are 1 to 4 below white, all others white."""
    v = torch.ones(CHANNELS, HEIGHT, WIDTH)
    v[:, row, column] = 9
    t = torch.full((3 * LEVELS, 2 * HEIGHT, 2 * WIDTH), 255)
    for (y, x), value in QUARTERS.items():
        t[:, 2 * row + y, 2 * column + x] -= value
    return item_of(v, t)


def test_v_o_and_t_stay_aligned() -> None:
    """Follow one patch and its quarters through flips, quarter turns and trims, up to what the network unpacks."""
    augment = augmentations().set_random_state(seed=0)
    shapes, lost, orders = set(), 0, set()
    for turn in range(200):
        row, column = turn % HEIGHT, turn % WIDTH
        moved = augment(marked(row, column))
        v, o, t = unpack(image_of(moved), CHANNELS)
        t = (255 * t).round()
        height, width = v.shape[-2:]
        shapes.add((height, width))
        assert o.shape == (1, 1, height, width)
        assert (o == 1).all()
        assert t.shape == (1, 3 * LEVELS, 2 * height, 2 * width)
        places = (v[0, 0] == 9).nonzero()
        coloured = t[0, 0].nonzero()
        if not len(places):
            lost += 1
            assert not len(coloured)
            continue
        ((y, x),) = places.tolist()
        square = t[0, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        assert len(coloured) == 4
        assert (square == square[0]).all()
        orders.add(tuple(square[0].flatten().tolist()))
        assert sorted(square[0].flatten().tolist()) == [1, 2, 3, 4]
    assert 0 < lost < 100, "a trim loses the patch now and then"
    assert len(orders) == 8, "all flips and turns were seen"
    assert len(shapes) > 20


def test_each_transform_of_the_training_is_drawn() -> None:
    """Both flips, the quarter turns and the trim, each alone: with the turns one flip would show all that two do."""
    upright, quarter, half, three_quarters = (1, 2, 3, 4), (2, 4, 1, 3), (4, 3, 2, 1), (3, 1, 4, 2)
    seen = []
    for transform in augmentations().transforms:
        alone = Compose([transform]).set_random_state(seed=0)
        found = [alone(marked(HEIGHT // 2, WIDTH // 2)) for _ in range(60)]
        orders = {tuple((255 - item["t"][0][item["t"][0] < 255]).tolist()) for item in found}
        seen.append((orders, len({item["places"].shape[-2:] for item in found}) > 2))
    assert seen == [
        ({upright, (3, 4, 1, 2)}, False),
        ({upright, (2, 1, 4, 3)}, False),
        ({upright, quarter, half, three_quarters}, False),
        ({upright}, True),
    ]


def test_the_mask_moves_with_v() -> None:
    """Unobserved patches stay exactly zero in all channels, and T keeps them black."""
    augment = augmentations().set_random_state(seed=1)
    observed = torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) > 0.5
    for _ in range(20):
        t = observed.float().repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)
        item = item_of(observed.float().expand(CHANNELS, -1, -1), 255 - 255 * t.expand(3 * LEVELS, -1, -1))
        _, o, t = unpack(image_of(augment(item)), CHANNELS)
        assert torch.equal(t[:, :1, ::2, ::2], o)
        assert torch.equal(t[:, :1, 1::2, 1::2], o)


def test_at_most_seven_rows_and_columns_are_discarded() -> None:
    trim = RandTrimd().set_random_state(seed=0)
    discarded, first = set(), set()
    for _ in range(400):
        places = torch.arange(1, 41)[:, None].expand(40, 50)[None]
        found = trim({"places": places, "t": torch.zeros(9, 80, 100)})
        height, width = found["places"].shape[-2:]
        assert found["t"].shape[-2:] == (2 * height, 2 * width)
        discarded.add((40 - height, 50 - width))
        first.add(int(found["places"][0, 0, 0]))
    for axis in (0, 1):
        assert {pair[axis] for pair in discarded} == set(range(8))
    assert first == set(range(1, 9)), "from 0 to 7 rows are discarded at the top"


def test_a_small_slide_loses_a_quarter_of_a_side_at_most() -> None:
    trim = RandTrimd().set_random_state(seed=0)
    sizes = {
        tuple(trim({"places": torch.ones(1, 8, 3), "t": torch.ones(1, 16, 6)})["places"].shape[-2:]) for _ in range(100)
    }
    assert sizes == {(8, 3), (7, 3), (6, 3)}


def test_a_trim_never_loses_every_patch() -> None:
    """The only observed patch stands in a corner: crops that would lose it are not made."""
    trim = RandTrimd().set_random_state(seed=0)
    whole = 0
    for _ in range(200):
        places = torch.zeros(1, 20, 20)
        places[0, 0, 19] = 1
        found = trim({"places": places, "t": torch.zeros(9, 40, 40)})
        assert (found["places"] != 0).any()
        assert found["t"].shape[-2:] == (2 * found["places"].shape[-2], 2 * found["places"].shape[-1])
        whole += found["places"].shape[-2:] == (20, 20)
    assert 0 < whole < 200


def test_probability_of_a_trim() -> None:
    trim = RandTrimd(prob=0.0).set_random_state(seed=0)
    for _ in range(20):
        assert trim({"places": torch.ones(1, 40, 40), "t": torch.ones(1, 80, 80)})["places"].shape == (1, 40, 40)


@pytest.fixture
def painted(tmp_path: Path) -> Path:
    """A slide of 3 x 4 patches of known colours and its embedding."""
    slide = write_tiff(tmp_path / "case.tif", [paint(quarter_colours(3, 4))])
    encoder = NamedEncoder(MeanEncoder(), device=torch.device("cpu"))
    embed_slide(SlideRow("case", slide), tmp_path / "case.h5", encoder=encoder, settings=EncodingSettings())
    return tmp_path


def load(
    folder: Path, name: str = "case", *, slide: str = "", levels: int = 3, channel_range: tuple[int, int] = (0, 6)
) -> dict[str, torch.Tensor]:
    item = {"embedding": str(folder / f"{name}.h5"), "slide": slide, "thumbnail_levels": levels}
    return LoadEmbeddingd()({**item, "channel_range": channel_range})


def test_fewer_levels_and_channels(painted: Path) -> None:
    whole, part = load(painted), load(painted, levels=1, channel_range=(2, 5))
    assert torch.equal(part["t"], whole["t"][:3])
    assert torch.equal(part["vectors"], whole["vectors"][:, 2:5])


def test_a_batch_is_dense_on_the_device_alone() -> None:
    """Vectors side by side, in the type of the file; the image has zeros on the right and at the bottom. All are plain tensors."""
    augment = Compose([RandFlipd(keys=["places", "t"], prob=1.0, spatial_axis=0)])
    items = [augment(slide_of(3, 4, label=0)), augment(slide_of(5, 2, label=1))]
    for item in items:
        item["vectors"] = item["vectors"].half()
    batch = PadCollate()(items)
    assert batch["vectors"].shape == (3 * 4 + 5 * 2, 2) and batch["vectors"].dtype == torch.float16
    assert type(batch["t"]) is torch.Tensor and "places" not in batch
    image = dense_image(batch, "cpu")
    assert type(image) is torch.Tensor and dense_image(batch, "cpu") is image is batch["image"]
    assert image.is_contiguous(memory_format=torch.channels_last)
    expected = torch.zeros(2, 2 + 12 * LEVELS, 5, 4)
    expected[0, :, :3, :4] = expected[1, :, :5, :2] = 1
    assert torch.equal(image, expected)
    assert batch["label"].tolist() == [0, 1] and not {"vectors", "cells", "t"} & set(batch)


def test_batches_of_few_sizes() -> None:
    batch = PadCollate(multiple=4)([slide_of(3, 4), slide_of(5, 2)])
    assert batch["t"].shape[2:] == (16, 8)
    image, plain = dense_image(batch, "cpu"), dense_image(PadCollate()([slide_of(3, 4), slide_of(5, 2)]), "cpu")
    assert image.shape[2:] == (8, 4) and torch.equal(image[:, :, :5], plain) and not image[:, :, 5:].any()


def test_a_map_that_was_moved_alone_is_refused() -> None:
    item = slide_of(3, 4)
    item["t"] = item["t"][:, 1:]
    with pytest.raises(ValueError, match=r"T must be 6 x 8, twice V's grid of 3 x 4; got \(5, 8\)"):
        PadCollate()([item])


def test_a_slide_takes_the_memory_of_its_observed_patches(tmp_path: Path) -> None:
    """Two patches in opposite corners of a wide box, of another tool's many channels in half precision."""
    write_foreign(tmp_path / "s.h5", np.array([(0, 0), (99, 119)]), channels=1536, dtype="float16")
    item = load(tmp_path, "s", channel_range=(0, 1536))
    assert item["vectors"].shape == (2, 1536) and item["vectors"].dtype == torch.float16
    assert bytes_of(item) == 2 * 1536 * 2 + 100 * 120 * (4 + 12 * 3)
    assert v_of(item).shape == (1536, 100, 120)


def test_a_slide_without_a_patch_in_the_range(tmp_path: Path) -> None:
    write_embedding(tmp_path / "case.h5", last=0.0)
    assert load(tmp_path, channel_range=(6, CHANNELS_OF_FILE))["vectors"].shape[1] == 2
    with pytest.raises(SlideError, match=r"case\.h5: no observed patch in the channels \[7, 8\]"):
        load(tmp_path, channel_range=(7, CHANNELS_OF_FILE))


def test_loading(painted: Path) -> None:
    """T is channels first; V agrees with it: MeanEncoder gives the mean of a patch's quarters."""
    item = load(painted)
    colours = torch.from_numpy(quarter_colours(3, 4)).permute(2, 0, 1).float() / 255
    torch.testing.assert_close(item["t"][:3].float() / 255, colours)
    assert item["t"].shape == (9, 6, 8)
    quarters = torch.nn.functional.avg_pool2d(colours, 2)
    torch.testing.assert_close(v_of(item)[:3], quarters, atol=1e-4, rtol=0)


def test_a_missing_thumbnail_is_made_from_the_slide(painted: Path) -> None:
    """A foreign file that starts at row 1, column 1: its T is that part of the slide."""
    grid_yx = np.argwhere(np.ones((2, 3), dtype=bool)) + 1
    assert STEP_PX == 32
    write_foreign(painted / "foreign.h5", grid_yx)
    item = load(painted, "foreign", slide=str(painted / "case.tif"))
    colours = torch.from_numpy(quarter_colours(3, 4)).permute(2, 0, 1).float() / 255
    torch.testing.assert_close(item["t"][:3].float() / 255, colours[:, 2:, 2:])


def test_without_a_slide_the_thumbnail_is_white(painted: Path) -> None:
    write_foreign(painted / "foreign.h5", np.argwhere(np.ones((2, 3), dtype=bool)))
    for slide in ("", str(painted / "gone.tif")):
        item = load(painted, "foreign", slide=slide)
        assert item["t"].shape == (9, 4, 6)
        assert (item["t"] == 255).all()


def test_a_slide_that_ends_its_reader_is_that_slides_failure(painted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_foreign(painted / "foreign.h5", np.argwhere(np.ones((3, 4), dtype=bool)), channels=6)
    crash_at(monkeypatch, "scripts.training.transforms", "case.tif")
    with pytest.raises(SlideError, match=r"case\.tif: the process that read it was ended by SIGSEGV"):
        load(painted, "foreign", slide=str(painted / "case.tif"))


def test_dropped_patches_are_as_if_unobserved() -> None:
    """A part of those observed, drawn anew every time; nothing else changes, and T stays whole."""
    drop = RandDropPatchesd(most=0.3).set_random_state(seed=0)
    v = torch.rand(CHANNELS, HEIGHT, WIDTH) + 0.1
    v[:, : HEIGHT // 2] = 0
    observed, parts = HEIGHT * WIDTH // 2, set()
    item = item_of(v, torch.ones(3, 2 * HEIGHT, 2 * WIDTH))
    for _ in range(50):
        found = drop(item)
        left = found["places"][0] != 0
        assert torch.equal(v_of(found), v * left) and torch.equal(found["t"], item["t"])
        assert not left[: HEIGHT // 2].any()
        parts.add(1 - int(left.sum()) / observed)
    assert torch.equal(v_of(item), v), "the cached item is left alone"
    assert len(parts) > 30 and 0 <= min(parts) < 0.1 and 0.2 < max(parts) <= 0.3


def test_the_last_patch_stays() -> None:
    places = torch.zeros(1, 3, 3, dtype=torch.int32)
    places[0, 1, 2] = 1
    drop = RandDropPatchesd(most=1.0).set_random_state(seed=0)
    assert all(torch.equal(drop({"places": places})["places"], places) for _ in range(20))


def test_more_than_all_patches_are_refused() -> None:
    with pytest.raises(RequestError, match="from 0 to 1"):
        RandDropPatchesd(most=30)


def test_jitter_moves_each_channel_as_a_whole() -> None:
    """A channel's observed values keep their order and their relative distances; what was not observed stays so."""
    jitter = RandJitterd(gain=0.1, shift=0.3).set_random_state(seed=0)
    v = torch.randn(CHANNELS, HEIGHT, WIDTH) * torch.arange(1, CHANNELS + 1).view(-1, 1, 1) + 5
    v[:, : HEIGHT // 2] = 0
    item, shifts, gains = item_of(v, torch.zeros(3, 2 * HEIGHT, 2 * WIDTH)), [], []
    for _ in range(200):
        moved = v_of(jitter(item))
        assert torch.equal((moved != 0).any(dim=0), (v != 0).any(dim=0))
        old, new = (x[:, HEIGHT // 2 :].flatten(1) for x in (v, moved))
        gain = new.std(dim=1) / old.std(dim=1)
        assert torch.allclose(
            new - new.mean(dim=1, keepdim=True), gain[:, None] * (old - old.mean(dim=1, keepdim=True)), atol=1e-4
        )
        gains.append(gain)
        shifts.append((new.mean(dim=1) - old.mean(dim=1)) / old.std(dim=1, correction=0))
    assert torch.equal(v_of(item), v), "the cached item is left alone"
    assert torch.stack(gains).std() == pytest.approx(0.1, rel=0.1)
    assert torch.stack(shifts).std() == pytest.approx(0.3, rel=0.1)


def test_jitter_looks_at_the_patches_that_have_a_place() -> None:
    """Those that a trim has discarded neither count nor come back."""
    v = torch.randn(CHANNELS, HEIGHT, WIDTH) + 5
    item = item_of(v, torch.zeros(3, 2 * HEIGHT, 2 * WIDTH))
    part = {key: item[key][..., -16:] for key in ("places", "t")}
    part["places"] = item["places"][..., -8:]
    cut = item_of(v[..., -8:], part["t"])
    jitters = [RandJitterd().set_random_state(seed=3) for _ in range(2)]
    assert torch.equal(v_of(jitters[0]({**item, **part})), v_of(jitters[1](cut)))


@pytest.mark.parametrize("wrong", [{"gain": -0.1}, {"shift": -1.0}])
def test_negative_deviations_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RequestError, match="0 or more"):
        RandJitterd(**wrong)


def test_the_pixels_of_all_patches_turn_alike() -> None:
    pixels = torch.arange(2 * 3 * 4 * 4, dtype=torch.float16).view(2, 3, 4, 4)
    turn = RandTurnPatchesd()
    turn.set_random_state(0)
    found = set()
    for _ in range(60):
        vectors = turn({"vectors": pixels.reshape(2, -1)})["vectors"].view(2, 3, 4, 4)
        assert vectors.dtype == torch.float16
        ways = [torch.rot90(way, turns, (2, 3)) for way in (pixels, pixels.flip(3)) for turns in range(4)]
        (way,) = [index for index, way in enumerate(ways) if torch.equal(way, vectors)]
        found.add(way)
    assert found == set(range(8))
