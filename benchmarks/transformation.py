"""How fast Transformation is against its physical limits and against what users would pick instead: one run, one table.

    python benchmarks/transformation.py --output_dir bench                   # about 20 minutes on two cores; also: make bench
    python benchmarks/transformation.py --output_dir bench --sections speed  # or parts, engines, memory, workers

Slides are generated (half of each is tissue). Every figure is a median over ``--repeats`` turns in which all that is compared is
measured once, one after the other; ``results.json`` keeps every turn. In patches of 64 um per second:

raw        tiles of the level under the tissue, decoded by cuCIM's batched ``read_region`` (its best batch size) and not looked at
reader     the same tiles as patches, by ``SlideReader.iter_patches``
encoder    patches in memory to vectors, resizing included, by each engine; network: the same from patches of 112 px, which need none
end to end slide to embedding file: tissue mask, reading, encoding, thumbnail, writing; networks are built before
CLAM       OpenSlide, 256 px of level 0 in a DataLoader, ResNet-50 up to its third block (monai), float32, eager
           its network is built before, as ours are; the workers of a DataLoader start inside the clock, here and below
MONAI      reading alone: ``SlidingPatchWSIDataset`` on cuCIM in a DataLoader, 256 px of level 0, against reader at level 0. It reads
           windows of the tissue's box, glass included; the reader reads as many patches of tissue
parts      processor seconds (user and system, of all threads, so that other work on the machine hardly matters) of each part alone
           and of a whole slide; cores that are never idle do the sum of the parts in sum / cores seconds, which is the bound. Of reading
           also raw decoding alone, and the copies from tiles into patches alone: with both, decoding / (both) bounds reader / raw
           where tiles have left the caches before they are copied, as on a large slide; not on a small one
engines    ways to run the encoder that decision 0009 chose from, and the two engines that were chosen
memory     peak resident memory of an encoding process, whatever the size of the slide
workers    the same slides by 1, 2 and 4 Dask workers of one thread each, once they are up, each worker kept on one core
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

from machine import machine
from repeated_slide import SIDES_PX
from transformation_engines import engines
from transformation_parts import parts
from transformation_report import report
from transformation_scale import encode_and_tell, memory, workers
from transformation_speed import speed

from scripts.common.files import write_json

SECTIONS = {"speed": speed, "parts": parts, "engines": engines, "memory": memory, "workers": workers}


def main() -> None:
    """Run the sections, write results.json and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("bench"))
    parser.add_argument("--sections", nargs="+", choices=tuple(SECTIONS), default=tuple(SECTIONS))
    parser.add_argument("--slide", type=Path, help="for sections speed and parts, instead of the generated one")
    parser.add_argument("--pixels", nargs="+", choices=tuple(SIDES_PX), default=tuple(SIDES_PX))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--clam_patches", type=int, default=256)
    parser.add_argument("--matrix_side", type=int, default=2048, help="of the matrices whose product is timed")
    parser.add_argument("--encode", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.encode:
        encode_and_tell(arguments.encode, arguments.threads)
        return
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    if arguments.part:
        with tempfile.TemporaryDirectory(dir=arguments.output_dir) as folder:
            write_json(arguments.part, SECTIONS[arguments.sections[0]](arguments, Path(folder)))
        return
    results = {"machine": machine(arguments.threads)}
    for name in arguments.sections:  # a process each, so that none inherits threads or memory
        part = arguments.output_dir / f"{name}.json"
        command = [sys.executable, __file__, *sys.argv[1:], "--sections", name, "--part", str(part)]
        subprocess.run(command, check=True)
        results[name] = json.loads(part.read_text(encoding="utf-8"))
        part.unlink()
        write_json(arguments.output_dir / "results.json", results)
    print(report(results))


if __name__ == "__main__":
    main()
