"""A set with a file that cannot be read ends with one line, every time."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from monai.transforms import Compose
from opened_files import count_opens
from tiny_flow import BUNDLE
from training.embedding_files import write_embedding

from scripts.common.errors import SlideError
from scripts.training.cache import GIB, CacheMemory, SlideCache, bytes_of
from scripts.training.transforms import LoadEmbeddingd

FILL = """
import sys
from pathlib import Path
from scripts.training.cache import SlideCache
from scripts.training.transforms import LoadEmbeddingd
paths = sorted(Path(sys.argv[1]).glob("*.h5"))
items = [{"embedding": str(path), "slide": "", "channel_range": [0, 8], "thumbnail_levels": 3} for path in paths]
for attempt in range(3):
    try:
        SlideCache(items, LoadEmbeddingd()).fill()
    except RuntimeError as error:
        print(error.__cause__)
"""


def items_of(folder: Path) -> list[dict[str, object]]:
    names = [write_embedding(folder / f"{index}.h5", seed=index) for index in range(3)]
    return [
        {"embedding": str(path), "slide": "", "channel_range": [0, 8], "thumbnail_levels": 3, "number": index}
        for index, path in enumerate(names)
    ]


@pytest.mark.parametrize(("rate", "kept"), [(1.0, 3), (0.5, 1), (0.0, 0)])
def test_a_share_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float, kept: int) -> None:
    items = items_of(tmp_path)
    opened = count_opens(monkeypatch, tmp_path / "opened.txt")
    cache = SlideCache(items, LoadEmbeddingd(), cache_rate=rate)
    assert not opened(), "nothing is read before it is asked for"
    cache.fill()
    assert opened() == {f"{index}.h5": 1 for index in range(kept)}
    for _ in range(2):
        assert [item["number"] for item in cache] == [0, 1, 2]
    assert opened() == {f"{index}.h5": 1 if index < kept else 2 for index in range(3)}, "what is kept is read once"
    assert cache[0]["vectors"].shape == (30, 8) and cache[0]["places"].shape == (1, 6, 5)


def test_slides_that_do_not_fit_are_read_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two sets share the memory of two and a half slides: of the first both are kept, of the second none, not even without `fill`."""
    items = items_of(tmp_path)
    size = bytes_of(LoadEmbeddingd()(items[0]))
    memory = CacheMemory(2.5 * size / GIB)
    first, second = (SlideCache(part, Compose([LoadEmbeddingd()]), memory=memory) for part in (items[:2], items[2:]))
    opened = count_opens(monkeypatch, tmp_path / "opened.txt")
    with caplog.at_level("INFO"):
        first.fill()
        assert not caplog.messages
        for _ in range(3):
            assert [item["number"] for item in [*first, *second]] == [0, 1, 2]
        second.fill()
    assert opened() == {"0.h5": 1, "1.h5": 1, "2.h5": 3}
    (told,) = caplog.messages
    assert told.startswith("0 of 1 slides are kept in memory, which cache_memory#gib")


def test_no_thread_is_left_behind_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    items = items_of(tmp_path)
    (tmp_path / "1.h5").write_text("text")
    before = threading.active_count()
    with pytest.raises(RuntimeError) as caught:
        SlideCache(items, LoadEmbeddingd()).fill()
    assert isinstance(caught.value.__cause__ or caught.value, SlideError)
    assert threading.active_count() == before


def test_the_process_ends_behind_it(tmp_path: Path) -> None:
    """With MONAI's pool of threads half of the processes never ended."""
    items_of(tmp_path)
    (tmp_path / "0.h5").write_text("text")
    result = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)],
        cwd=BUNDLE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0 and result.stdout.count("0.h5") >= 3
