"""Put the slide labels of a CSV into the datastore of a running MONAI Label server.

    python put_labels.py slides.csv [--server http://127.0.0.1:8000] [--bundle FOLDER]

The CSV is the bundle's slide table: ``slide``, ``label`` and, where known, ``patient``, ``split`` and ``mpp``; the bundle's own code
reads it, which needs no package. A slide goes by the name of its file; lines without a label are left out, apart from their ``mpp``.
Exit codes: 0 all is put; 1 a slide was refused and all others are put, or no server answers; 2 the table or the bundle is wrong, and
nothing is put.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from scripts.slides.table import SlideRow

APP = Path(__file__).resolve().parent
BUNDLES = (APP / "model" / "pathology_wsi_dsnet_classification", APP.parents[1] / "bundle")
"""Where the bundle may be: in the app, or beside it in the repository."""

TABLE_READER = Path("scripts", "slides", "table.py")
TIMEOUT_S = 60


def put_labels(rows: Sequence["SlideRow"], server: str) -> tuple[int, list[str]]:
    """Put what a table says of each slide; one that the server refuses does not stop the others.

    Args:
        rows: the slides.
        server: address of the server.

    Returns:
        how many labels were put, and a line on each slide that was not put.

    Raises:
        requests.ConnectionError, requests.Timeout: no server is there, or it does not answer.
    """
    count, refused = 0, []
    for row in rows:
        try:
            _put(row, server)
        except requests.HTTPError as error:
            unknown = error.response.status_code == requests.codes.not_found
            remedy = "; expected a slide of the server's datastore: put the file there" if unknown else ""
            refused.append(f"{row.path}: not put ({error}){remedy}")
        else:
            count += row.label is not None
    return count, refused


def _put(row: "SlideRow", server: str) -> None:
    image = {"image": row.path.stem}
    if row.mpp is not None:
        info = {"info": json.dumps({"mpp": row.mpp})}
        requests.put(f"{server}/datastore/image/info", params=image, data=info, timeout=TIMEOUT_S).raise_for_status()
    if row.label is not None:
        said = {"label": row.label, "patient": row.patient, "split": row.split}
        label = json.dumps({name: value for name, value in said.items() if value is not None})
        requests.put(
            f"{server}/datastore/label",
            params={**image, "tag": "final"},
            files={"label": ("label.json", label)},
            timeout=TIMEOUT_S,
        ).raise_for_status()


def main(words: Sequence[str] | None = None) -> int:
    """Read the table, put the labels, say what was refused, and return the exit code."""
    parser = argparse.ArgumentParser(description="Put the slide labels of a CSV into a MONAI Label server's datastore.")
    parser.add_argument("table", type=Path, help="CSV: slide, label, and where known patient, split, mpp")
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument(
        "--bundle", type=Path, help="folder of the bundle; default: that of the app or of the repository"
    )
    arguments = parser.parse_args(words)
    places = BUNDLES if arguments.bundle is None else (arguments.bundle,)
    bundle = next((place for place in places if (place / TABLE_READER).is_file()), None)
    if bundle is None:
        parser.error(f"{places[0]}: holds no scripts, expected the unpacked bundle: name its folder with --bundle")
    sys.path.insert(0, str(bundle))
    from scripts.common.errors import RequestError
    from scripts.slides.table import read_slides

    try:
        count, refused = put_labels(read_slides(arguments.table), arguments.server)
    except RequestError as error:
        parser.exit(2, f"{error}\n")
    except (requests.ConnectionError, requests.Timeout) as error:
        parser.exit(
            1,
            f"{arguments.server}: no answer ({error}); expected a MONAI Label server: start it, or name it with --server\n",
        )
    print(f"{count} labels")
    for line in refused:
        print(line, file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
