import logging
from pathlib import Path

import pytest

from scripts.common.boundary import file_boundary, slide_boundary
from scripts.common.errors import NoTissueError, RequestError, SlideError, StorageError


@pytest.mark.parametrize(
    "error", [IndexError("9"), MemoryError(), OverflowError("x"), TypeError("y"), OSError(5, "EIO")]
)
def test_any_error_becomes_the_slide_s(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(SlideError, match=rf"a\.svs.*{type(error).__name__}.*expected") as raised,
        slide_boundary(Path("a.svs")),
    ):
        raise error
    assert raised.value.__cause__ is error
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("kind", [NoTissueError, RequestError, SlideError, StorageError])
def test_errors_of_ours_pass_as_they_are(kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^as it is$"), slide_boundary("a.svs"):
        raise kind("as it is")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_passes(kind: type[BaseException]) -> None:
    with pytest.raises(kind), slide_boundary("a.svs"):
        raise kind


def test_an_error_of_ours_comes_out_of_the_one_it_was_wrapped_in() -> None:
    """As MONAI wraps those of a transform."""
    with pytest.raises(SlideError, match=r"^a\.h5: bad$"), slide_boundary("a.h5"):
        try:
            raise SlideError("a.h5: bad")
        except SlideError as error:
            raise RuntimeError("applying transform") from error


def test_a_file_of_the_request() -> None:
    message = r"^a\.json: not JSON \(KeyError: 'x'\); expected ours: write it anew$"
    with pytest.raises(RequestError, match=message), file_boundary("a.json", "not JSON", "ours: write it anew"):
        raise KeyError("x")
    with pytest.raises(StorageError), file_boundary("a.json", "not JSON", "ours"):
        raise StorageError("full")
