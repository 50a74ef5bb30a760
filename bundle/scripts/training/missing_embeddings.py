"""What may be wrong where slides of a table have no embedding under their names."""

from collections.abc import Mapping
from pathlib import Path

from ..slides.slide_ids import stem_of


def hint_of_missing(folder: Path, missing: Mapping[str, Path]) -> str:
    """Return what lies in the folder in place of embeddings, or why another name is looked for, with the remedy; "" for nothing.

    Args:
        folder: of the embeddings.
        missing: paths of the slides, by id.
    """
    tensors = sum((folder / f"{slide_id}.pt").is_file() for slide_id in missing)
    if tensors:
        return f"; {tensors} have a .pt file, which holds no coordinates: name the folder of the .h5 files"
    first, slide = next(iter(missing.items()))
    if "\\" in slide.name and first == stem_of(slide):
        return (
            f"; {slide.name} holds backslashes, which part no folders here: write slashes in the table's column slide, or "
            "the name of its .h5 file, without .h5, in a column slide_id"
        )
    begin = f"{first.casefold().removesuffix('.ome')}."
    found = sorted(path.name for path in folder.glob("*") if path.name.casefold().startswith(begin))
    if not found:
        return ""
    if any(name.endswith(".h5") for name in found):
        remedy = "rename it, or write its name without .h5 in the table's column slide_id"
    elif any(name.casefold().endswith((".h5", ".hdf5")) for name in found):
        remedy = f"rename it {first}.h5"
    else:
        remedy = "name the folder of the .h5 files"
    return f"; there is {', '.join(found)}: {remedy}"
