"""Damage to files that are no slides, by kind of file, drawn from a seeded generator."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import torch

Damage = Callable[[Path, Random], str]
"""Changes a file in place and says what it did."""

ODD_VALUES: tuple[Any, ...] = (
    None, "", "abc", -1, 0, 1, 2**63,
    -2**70, 1e308, math.nan, math.inf, True, [], {}, [1] * 300, "x" * 100_000, "\ud800", [None], {"a": {}},
)  # fmt: skip


def cut(path: Path, rng: Random) -> str:
    """Cut the end off."""
    content = path.read_bytes()
    left = rng.choice((0, 1, len(content) // 2, max(0, len(content) - 1), rng.randrange(len(content) + 1)))
    path.write_bytes(content[:left])
    return f"cut to {left} of {len(content)} bytes"


def grown(path: Path, rng: Random) -> str:
    """Append random bytes."""
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 3000)))
    return "bytes appended"


def bits(path: Path, rng: Random) -> str:
    """Flip some bits."""
    content = bytearray(path.read_bytes())
    if not content:
        return grown(path, rng)
    places = [rng.randrange(len(content)) for _ in range(rng.choice((1, 1, 2, 8, 64)))]
    for place in places:
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"{len(places)} bits flipped, the first at {places[0]}"


def head_bits(path: Path, rng: Random) -> str:
    """Flip a bit where formats keep what they say of themselves."""
    content = bytearray(path.read_bytes())
    place = rng.randrange(min(len(content), 2048)) if content else 0
    content[place : place + 1] = bytes([content[place] ^ 1 << rng.randrange(8)]) if content else b"\0"
    path.write_bytes(content)
    return f"a bit flipped at {place}"


def zeros(path: Path, rng: Random) -> str:
    """Fill a block of the disk with zeros."""
    content = bytearray(path.read_bytes())
    size = rng.choice((16, 512, 4096))
    at = rng.randrange(len(content) + 1) // 16 * 16
    content[at : at + size] = bytes(len(content[at : at + size]))
    path.write_bytes(content)
    return f"{size} zeros at {at}"


def noise(path: Path, rng: Random) -> str:
    """Replace all of it."""
    path.write_bytes(
        rng.choice(
            (
                b"",
                bytes(1000),
                rng.randbytes(5000),
                b"\x89PNG\r\n\x1a\n",
                b"version https://git-lfs.github.com/spec/v1\n",
            )
        )
    )
    return "other content"


def gone(path: Path, rng: Random) -> str:
    """Remove it, or leave a folder of its name, or a link that leads nowhere."""
    path.unlink()
    how = rng.randrange(3)
    if how == 1:
        path.mkdir()
    if how == 2:
        path.symlink_to(path.with_name("nowhere"))
    return ("removed", "a folder", "a link that leads nowhere")[how]


BYTES: tuple[Damage, ...] = (cut, grown, bits, bits, head_bits, zeros, noise, gone)


def json_part(path: Path, rng: Random) -> str:
    """Remove, rename or replace a part of a JSON file, at any depth."""
    content = json.loads(path.read_text(encoding="utf-8"))
    parent, key = _part(content, rng)
    how = rng.choice(("remove", "rename", "value", "value", "value", "deep"))
    if how == "remove":
        del parent[key]
    elif how == "rename" and isinstance(parent, dict):
        parent[f"{key}_"] = parent.pop(key)
    elif how == "deep":
        parent[key] = "DEEP"
    else:
        parent[key] = rng.choice(ODD_VALUES)
    text = json.dumps(content)
    path.write_text(text.replace('"DEEP"', "[" * 5000 + "]" * 5000), encoding="utf-8")
    return f"{how} of {key!r}"


def json_text(path: Path, rng: Random) -> str:
    """Break the text of a JSON file: a sign left out, doubled or exchanged, another encoding, a mark of the byte order."""
    text = path.read_text(encoding="utf-8")
    how = rng.choice(("sign", "double", "utf-16", "bom", "list", "twice"))
    place = rng.randrange(len(text))
    if how == "sign":
        text = text[:place] + rng.choice('{}[]",:0-xé') + text[place + 1 :]
    elif how == "double":
        text = text[:place] + text[place] + text[place:]
    elif how == "list":
        text = f"[{text}]"
    elif how == "twice":
        text += text
    encodings = {"utf-16": "utf-16", "bom": "utf-8-sig"}
    path.write_bytes(text.encode(encodings.get(how, "utf-8")))
    return f"text: {how}"


def hdf5_part(path: Path, rng: Random) -> str:
    """Change the structure of an HDF5 file: datasets and attributes removed, renamed, of another type, shape or value; links."""
    with h5py.File(path, "r+") as file:
        name = rng.choice([name for name in file if isinstance(file[name], h5py.Dataset)])
        how = rng.choice(
            ("remove", "rename", "type", "shape", "value", "link", "outside", "attribute", "attribute", "group")
        )
        values = file[name][()]
        if how == "attribute":
            holder = rng.choice([one for one in (file, file["coords"]) if len(one.attrs)] or [file])
            key = rng.choice(sorted(holder.attrs) or ["new"])
            value = rng.choice((None, "", "abc", -1, 0, np.nan, 2**40, np.zeros(5000), b"\xff", "{}", "[]", '{"a": 1'))
            holder.attrs.pop(key, None)
            if value is not None:
                holder.attrs[key] = value
            return f"attribute {key}: {str(value)[:20]!r}"
        if how != "value":
            attributes = dict(file[name].attrs)
            del file[name]
        if how == "rename":
            file[f"{name}_"] = values
        elif how == "type":
            kind = rng.choice((np.float64, np.int32, np.uint8, np.bool_, "S8", np.complex64))
            kind = "S8" if values.dtype.kind == "O" else kind  # texts, such as names of slides
            file[name] = np.asarray(values).astype(kind) if kind != "S8" else np.full(np.shape(values), b"x")
        elif how == "shape":
            file[name] = rng.choice(
                (values[None], values[:1], values[:0], values.ravel(), values[..., :1], np.float32(1))
            )
        elif how == "value":
            cell = tuple(rng.randrange(side) for side in np.shape(values))
            others = {"i": (0, 1, 77), "u": (0, 1, 77), "O": ("", "0", "x" * 300)}
            file[name][cell] = rng.choice(others.get(values.dtype.kind, (np.nan, np.inf, 0, 3, -60000)))
        elif how == "link":
            file[name] = h5py.SoftLink(rng.choice((f"/{name}", "/nowhere", "/")))
        elif how == "outside":
            file[name] = h5py.ExternalLink(rng.choice(("../whole.h5", "/etc/passwd", path.name)), f"/{name}")
        elif how == "group":
            file.create_group(name)
        if how in ("type", "shape"):
            file[name].attrs.update(attributes)
        return f"{name}: other {how}"


class _Runs:
    """What would be run by a loader that trusts a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def weights_part(path: Path, rng: Random) -> str:
    """Change what a file of torch.save holds: entries removed, added, of another shape, type or value; something else altogether."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = next((content[key] for key in ("model", "network") if isinstance(content.get(key), dict)), content)
    name = rng.choice([key for key, value in state.items() if isinstance(value, torch.Tensor)])
    value = state[name]
    how = rng.choice(
        ("remove", "add", "shape", "type", "nan", "list", "text", "none", "code", "pickle", "rename", "entry")
    )
    if how == "remove":
        del state[name]
    elif how == "add":
        state["more"] = torch.zeros(3)
    elif how == "shape":
        state[name] = rng.choice((value[None], value.flatten()[:1], torch.zeros(0)))
    elif how == "type":
        state[name] = value.to(rng.choice((torch.float64, torch.float16, torch.int64, torch.bool)))
    elif how == "nan" and value.is_floating_point():
        state[name] = value.clone().fill_(rng.choice((math.nan, math.inf)))
    elif how == "rename":
        state[f"module.{name}"] = state.pop(name)
    elif how == "entry":
        content[rng.choice(sorted(content))] = rng.choice((None, 3, [], {}))
    elif how == "code":
        content["more"] = _Runs(path.with_name("run_by_a_file"))
    other = {"list": [1, 2], "text": "abc", "none": None}.get(how, content)
    if how == "pickle":
        path.write_bytes(pickle.dumps({"a": 1}))
    else:
        torch.save(other, path, _use_new_zipfile_serialization=rng.random() < 0.9)
    return f"{name}: other {how}"


def lines_part(path: Path, rng: Random) -> str:
    """Change a file of JSON lines: a line removed, doubled, damaged."""
    lines = path.read_text(encoding="utf-8").splitlines()
    place = rng.randrange(len(lines))
    how = rng.choice(("remove", "double", "odd", "part", "order"))
    if how == "remove":
        del lines[place]
    elif how == "double":
        lines.insert(place, lines[place])
    elif how == "odd":
        lines[place] = rng.choice(
            ("", "null", "[]", "{}", "3", '"a"', '{"file": 3}', '{"file": "a", "sha256": 5}', "{", "[" * 5000)
        )
    elif how == "part":
        single = path.with_name("line.json")
        single.write_text(lines[place], encoding="utf-8")
        json_part(single, rng)
        lines[place] = single.read_text(encoding="utf-8")
        single.unlink()
    else:
        rng.shuffle(lines)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"line {place}: {how}"


def _part(content: Any, rng: Random) -> tuple[Any, Any]:
    """A random place in parsed JSON: what holds it, and its key or index."""
    places: list[tuple[Any, Any]] = []
    left = [content]
    while left:
        one = left.pop()
        keys = list(one) if isinstance(one, dict) else list(range(min(len(one), 5)))
        places += [(one, key) for key in keys]
        left += [one[key] for key in keys if isinstance(one[key], dict | list) and one[key]]
    return rng.choice(places)
