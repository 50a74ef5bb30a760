import imagecodecs
import numpy as np
import pytest

from scripts.slides.jpeg2000 import is_whole_codestream, jpeg2000_head
from scripts.slides.tile_heads import TileHead

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)


@pytest.mark.parametrize("codec", ["j2k", "jp2"])
def test_jpeg_2000(codec):
    content = bytes(imagecodecs.jpeg2k_encode(PIXELS, codecformat=codec, level=0))
    assert jpeg2000_head(content) == TileHead(64, 48, 3, 8)
    assert jpeg2000_head(content[:20]) is None


def test_a_code_stream_is_followed_to_its_end():
    content = bytes(imagecodecs.jpeg2k_encode(PIXELS, codecformat="j2k", level=0))
    assert is_whole_codestream(content)
    start = content.index(b"\xff\x93")
    damaged = [
        b"",
        content[:-1],
        content[:-2] + b"ab",
        content[:2] + b"\0" + content[3:],
        content.replace(b"\xff\x52", b"\xff\x56", 1),  # a segment that nobody knows instead of the coding style
        content[: content.index(b"\xff\x52") + 9] + b"\x63" + content[content.index(b"\xff\x52") + 10 :],  # 99 levels
        content[:49] + b"\x21" + content[50:],  # the step of a component
        content.replace(b"\xff\x64", b"\xff\x60", 1),  # a comment that became the headers of packets
        content[: start + 9] + b"\xff\xfa" + content[start + 11 :],  # coded data never hold such bytes
        content[: start - 6] + b"\0\0\1\0" + content[start - 2 :],  # the length of the tile part
    ]
    assert not any(is_whole_codestream(part) for part in damaged)
