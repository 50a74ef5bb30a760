"""TIFF's numbers for compressions, colours and kinds of pages (TIFF 6.0; what came after it as tifffile lists it)."""

UNCOMPRESSED, LZW, JPEG, PACKBITS, LZMA, ZSTD = 1, 5, 7, 32773, 34925, 50000
DEFLATE = frozenset({8, 32946})
APERIO_YCBCR = 33003
APERIO_JPEG2000 = frozenset({APERIO_YCBCR, 33005})
JPEG2000 = APERIO_JPEG2000 | {33004, 34712}
"""Of the tag Compression: Aperio's, and JPEG 2000."""

PREDICTABLE = DEFLATE | {LZW, LZMA, ZSTD}
"""Compressions that may hold differences between pixels (tag Predictor)."""

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, TRANSPARENCY, CMYK, YCBCR, CIE_LAB = 0, 1, 2, 3, 4, 5, 6, 8
"""Of the tag PhotometricInterpretation."""

COLOURS = {
    MIN_IS_WHITE: "grey",
    MIN_IS_BLACK: "grey",
    RGB: "RGB",
    PALETTE: "palette colours",
    TRANSPARENCY: "a mask",
    CMYK: "CMYK",
    YCBCR: "YCbCr",
    CIE_LAB: "CIE Lab",
    None: "no colour space",
}
"""What messages call them; None where the tag is missing."""

SAMPLES: dict[int | None, int] = {
    MIN_IS_WHITE: 1,
    MIN_IS_BLACK: 1,
    RGB: 3,
    PALETTE: 1,
    TRANSPARENCY: 1,
    CMYK: 4,
    YCBCR: 3,
    CIE_LAB: 3,
}
"""Samples of each, without extra ones."""

UNASSOCIATED_ALPHA = 2
"""Of the tag ExtraSamples."""

REDUCED, MASK, MACRO = 1, 4, 8
"""Bits of the tag NewSubfileType: a smaller version of another page, a mask of transparency, an image of the glass."""
