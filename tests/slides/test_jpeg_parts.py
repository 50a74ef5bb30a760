import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from scripts.slides.backends import jpeg_parts
from scripts.slides.backends.jpeg_parts import parts_of

PIXELS = np.random.default_rng(0).integers(0, 255, (90, 128, 3), dtype=np.uint8)


def jpeg(*, restart: int = 0, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "jpeg", quality=90, restart_marker_blocks=restart, **options)
    return file.getvalue()


@pytest.mark.parametrize(("restart", "subsampling"), [(16, 0), (4, 0), (2, 2)])
def test_the_parts_are_the_whole(restart: int, subsampling: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg_parts, "PART_BYTES", 500)
    content = jpeg(restart=restart, subsampling=subsampling)
    parts = [simplejpeg.decode_jpeg(part, strict=True, fastupsample=True) for part in parts_of(content)]
    assert len(parts) > 1
    whole = simplejpeg.decode_jpeg(content, fastupsample=True)
    np.testing.assert_array_equal(np.concatenate(parts)[: len(whole)], whole)


@pytest.mark.parametrize("options", [{}, {"restart": 3}, {"restart": 1000}])
def test_one_that_has_no_rows_of_its_own_stays_whole(options: dict[str, int]) -> None:
    content = jpeg(**options)
    assert list(parts_of(content)) == [content]


@pytest.mark.parametrize("change", [(b"\xff\xd3", b""), (b"\xff\xd3", b"\xff\xd3\xff\xd3")])
def test_markers_that_are_missing_or_too_many(change: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match=r"restart markers, expected 95"):
        list(parts_of(jpeg(restart=2, subsampling=0).replace(*change, 1)))


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", jpeg()[:40], jpeg(progressive=True), bytes(100)])
def test_a_damaged_header(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"header|baseline"):
        list(parts_of(content))
