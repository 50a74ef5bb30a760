"""The overlays: each row of the paper's tables has one, and it changes what it says."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_flow import CONFIGS, ON_CPU, workflow
from training.embedding_files import write_dataset, write_embedding

from scripts.ablations.rows import FULL, ROWS, rows_that_set
from scripts.dsnet.network import DSNet
from scripts.encoding.embed import compression_ratio

STREAM_ATTENTION = (640 * 20 + 20) + (20 + 1)
CHANNEL_ATTENTION = (320 * 20 + 20) + (20 * 320 + 320)
STEM_OF_A_LEVEL = 3 * 32 * 7 * 7
FIRST_BLOCK_OF_A_CHANNEL = 144 // 4 + 144  # its reducing 1x1 and its shortcut
FEWER_PARAMETERS = {
    "no_sparsity": 0,
    "no_thumbnail": 394_137,
    "no_multi_scale": 36_704,
    "no_concurrent": 135_204,
    "no_spatial": 0,
    "no_attention": STREAM_ATTENTION + CHANNEL_ATTENTION,
    "no_stream_attention": STREAM_ATTENTION,
    "no_channel_attention": CHANNEL_ATTENTION,
    "levels_1": 2 * STEM_OF_A_LEVEL,
    "levels_2": STEM_OF_A_LEVEL,
    "levels_4": -STEM_OF_A_LEVEL,
    "levels_5": -2 * STEM_OF_A_LEVEL,
    "foreground": 32 * FIRST_BLOCK_OF_A_CHANNEL,
    "background": 96 * FIRST_BLOCK_OF_A_CHANNEL,
    "mixed": 0,
}
"""Parameters less than those of the full network, at two classes and C = 128."""
PAPER_COMPRESSION = {"levels_1": 269, "levels_2": 248, "full": 230, "levels_4": 214, "levels_5": 200}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five levels and 128 channels, as the mosaics are encoded for the tables."""
    folder = write_dataset(tmp_path_factory.mktemp("dataset"), train=2, val=2, test=2)
    for path in folder.glob("*.h5"):
        write_embedding(path, channels=128, levels=5)
    return folder


def arguments_and_size(name: str, dataset: Path) -> tuple[dict[str, object], int]:
    """Arguments and trainable parameters of the network that a row trains."""
    stage = workflow(*ROWS[name].files, run_id="run", dataset_dir=dataset, **ON_CPU)
    stage.parser.parse(reset=True)
    network = stage.parser.get_parsed_content("network_def")
    return network.arguments, sum(p.numel() for p in network.parameters() if p.requires_grad)


def test_every_row_of_the_paper_has_an_overlay() -> None:
    """Table III has nine rows, IV five and V four; full stands in each of them."""
    assert [sum(row.table in (table, "III-V") for row in ROWS.values()) for table in ("III", "IV", "V")] == [9, 5, 4]
    assert {path.stem for path in (CONFIGS / "ablations").glob("*")} == set(ROWS)
    for row in ROWS.values():
        own = Path(row.files[-1]).read_text(encoding="utf-8")
        assert own.startswith("# Overlay on train.yaml") and f"ablations/{row.name}.yaml" in own, row.name


@pytest.mark.parametrize("name", FEWER_PARAMETERS)
def test_what_a_row_changes(name: str, dataset: Path) -> None:
    (full, most), (arguments, size) = arguments_and_size(FULL, dataset), arguments_and_size(name, dataset)
    assert most - size == FEWER_PARAMETERS[name]
    changed = {key for key in full if full[key] != arguments[key]}
    of_levels = {"thumbnail_levels"} if name.startswith("levels") else set()
    of_channels = {"embedding_channels"} if name in ("foreground", "background") else set()
    if of_levels or of_channels:
        assert changed == of_levels | of_channels
    elif name != "mixed":
        assert changed and not any(arguments[key] for key in changed)


@pytest.mark.parametrize("name", PAPER_COMPRESSION)
def test_compression_ratios_of_table_iv(name: str, dataset: Path) -> None:
    arguments, _ = arguments_and_size(name, dataset)
    ratio = compression_ratio(arguments["embedding_channels"], arguments["thumbnail_levels"])
    assert ratio == pytest.approx(PAPER_COMPRESSION[name], abs=1)


def test_what_rows_repeat_without_t(tmp_path: Path) -> None:
    """Of the rows that then train the same network, one alone is run."""
    dataset = write_dataset(tmp_path, train=2, val=2, test=2)
    for path in dataset.glob("*.h5"):
        write_embedding(path, channels=128, levels=None)
    torch.manual_seed(0)
    image = torch.rand(2, 128 + 12 * 3, 16, 16) * (torch.rand(2, 1, 16, 16) > 0.8)
    alike: dict[float, list[str]] = {}
    for name in ROWS:
        if name not in ("foreground", "background", "mixed"):  # other data
            arguments, _ = arguments_and_size(name, dataset)
            torch.manual_seed(0)
            network = DSNet(**arguments)  # type: ignore[arg-type]
            with torch.inference_mode():
                alike.setdefault(round(float(network(image)[0, 0]), 4), []).append(name)
    assert max(map(len, alike.values())) == 8  # full and seven rows of T
    for names in alike.values():
        assert sum(not ROWS[name].is_of_thumbnail for name in names) == 1, names


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        ("table#channel_range", ["foreground", "background", "mixed"]),
        ("table#channel_range#0", ["foreground", "background", "mixed"]),
        ("network_def#stream_attention", ["no_attention", "no_stream_attention"]),
        ("network_def#_target_", []),
        ("max_epochs", []),
    ],
)
def test_which_rows_set_an_id(key: str, rows: list[str]) -> None:
    assert rows_that_set(key) == rows
    assert len(rows_that_set("network_def")) == 8


def test_an_overlay_lies_under_every_row() -> None:
    """The row still changes what it says, on another recipe."""
    row = replace(ROWS["no_sparsity"], overlays=(str(CONFIGS / "recommended.yaml"),))
    config = row.config()
    assert (config["evaluated"]["share"], config["network_def"]["head"], config["network_def"]["sparse"]) == (
        0.0125,
        "patch",
        False,
    )
    assert ROWS["no_sparsity"].config()["network_def"]["head"] == "slide"
    assert [Path(name).name for name in row.files] == [
        "train.yaml",
        "recommended.yaml",
        "full.yaml",
        "no_sparsity.yaml",
    ]
