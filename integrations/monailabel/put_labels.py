"""Put the slide labels of a CSV into the datastore of a running MONAI Label server.

    python put_labels.py slides.csv [--server http://127.0.0.1:8000]

The CSV is the bundle's slide table: ``slide``, ``label`` and, where known, ``patient``, ``split`` and ``mpp``. A slide goes by the name
of its file; lines without a label are left out, apart from their ``mpp``.
"""

import argparse
import csv
import json
from pathlib import PurePath

import requests


def put_labels(table: str, server: str) -> int:
    """Put the labels of ``table``; return how many.

    Raises:
        requests.HTTPError: the server refuses one, as for a slide that it does not have.
    """
    count = 0
    with open(table, newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            image = {"image": PurePath(row["slide"]).stem}
            if row.get("mpp"):
                info = {"info": json.dumps({"mpp": row["mpp"]})}
                requests.put(f"{server}/datastore/image/info", params=image, data=info, timeout=60).raise_for_status()
            if row["label"]:
                label = json.dumps({name: row[name] for name in ("label", "patient", "split") if row.get(name)})
                requests.put(
                    f"{server}/datastore/label",
                    params={**image, "tag": "final"},
                    files={"label": ("label.json", label)},
                    timeout=60,
                ).raise_for_status()
                count += 1
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Put the slide labels of a CSV into a MONAI Label server's datastore.")
    parser.add_argument("table", help="CSV: slide, label, and where known patient, split, mpp")
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    arguments = parser.parse_args()
    print(f"{put_labels(arguments.table, arguments.server)} labels")
