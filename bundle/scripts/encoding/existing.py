"""What lies in the output folder already under the names of the slides' embeddings: whose it is, and of which slide."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from ..common.errors import RequestError, SlideError
from ..common.journal import EMBEDDING_FORMATS, is_our_hdf5, read_journals
from ..common.progress import track
from ..common.same_request import refuse_another
from ..slides.slide_ids import manifest_rows, place_of
from ..slides.table import SlideRow
from .embedding_file import EmbeddingFile, EmbeddingHeader, embedding_file
from .job import EncodingJob
from .settings import EncodingSettings, is_content_of, stated_parameters
from .store import FORMAT


def request_of(encoder: str, settings: EncodingSettings) -> dict[str, object]:
    """What decides the embeddings of a folder, besides the slides."""
    return {"encoder": encoder, **asdict(settings)}


def require_same_origin(
    rows: Sequence[SlideRow],
    job: EncodingJob,
    request: dict[str, object],
    *,
    replace: bool,
    elsewhere: str,
    verify: bool,
) -> list[str]:
    """Refuse to replace embeddings of another request or of other slides; return the names of those that are ours.

    In a folder without the record of its encoding, as a copy without hidden files, nothing else says of what request the others
    are: these are compared, too.

    Args:
        rows: the slides that will be encoded.
        job: how they will be encoded.
        request: of :func:`request_of`.
        replace: whether they may be replaced.
        elsewhere: the remedy that names another folder.
        verify: compare their values with the checksums by the way, so that nobody has to open them for that again.

    Raises:
        RequestError: names the first embedding that is of another request, or that came from another slide.
    """
    if not any(journal.stage == "encoding" for journal in read_journals(job.output)):
        mine = {job.path_of(row.slide_id) for row in rows}
        for path in sorted(set(job.output.glob("[!.]*.h5")) - mine):
            _require_same_request(path, _parameters(path, verify=False) or {}, request, remedy=elsewhere)
    places = _places_before(job.output)
    ours = []
    there = [row for row in rows if job.path_of(row.slide_id).is_file()]
    for row in track(there, total=len(there), what="checking", unit="embedding") if there else ():
        path = job.path_of(row.slide_id)
        stated = _parameters(path, verify=verify)
        if stated is None and not is_our_hdf5(path, formats=EMBEDDING_FORMATS):
            continue
        ours.append(path.name)
        if replace or stated is None:
            continue
        _require_same_request(path, stated, request, remedy=f"{elsewhere}, or replace it with --replace true")
        before = places.get(row.slide_id)
        if before is not None and before != place_of(row.path) and not is_content_of(stated, row.path):
            raise RequestError(
                f"{path}: made from {before}, and {row.path} would replace it; expected one slide per name: {elsewhere}, or "
                "replace it with --replace true"
            )
    return ours


def _require_same_request(path: Path, stated: dict[str, object], request: dict[str, object], *, remedy: str) -> None:
    now = {name: value for name, value in request.items() if name in stated}  # it also states the slide's content
    refuse_another(path, {name: stated[name] for name in now}, now, remedy=remedy)


def _places_before(output: Path) -> dict[str, str]:
    """Place of the slide that each embedding was made from, as the manifests say, those of shards included."""
    return {
        row["slide_id"]: place_of(output / row["slide"])
        for manifest in sorted(output.glob("manifest*.csv"))
        for row in manifest_rows(manifest)
        if row.get("output")
    }


def _parameters(path: Path, *, verify: bool) -> dict[str, object] | None:
    """What an embedding of ours was made with; None where it is not ours, or is damaged and will be made anew."""
    try:
        attributes = _seen(embedding_file(path), verify=verify).attributes
    except SlideError:
        return None
    return stated_parameters(attributes) if attributes.get("format") == FORMAT else None


def _seen(file: EmbeddingFile, *, verify: bool) -> EmbeddingHeader:
    """The header, with the values compared with the checksums where that is asked for and they agree."""
    with suppress(SlideError):
        if verify:
            return file.verify()
    return file.header
