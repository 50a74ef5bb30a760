"""Kill an encoding run again and again, at random moments, and compare what it ends with to an undisturbed run.

    python benchmarks/kills.py --output_dir kills --kills 200

Twenty generated slides are encoded by a process that is killed (SIGKILL) after a random time, started again, killed again ...; after
every kill each file that lies there must be whole and equal to the undisturbed one. When all slides are done before the kills are
used up, the embeddings of a random half are removed and the run goes on. At the end one run is left alone; all files must
be equal in every value (checksum over V, O and T, recomputed), and nothing else may lie in the folder.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

import torch
from transformation_speed import RandomEncoder

from scripts.encoding.embedding_file import embedding_file
from scripts.encoding.run import encode_slides
from scripts.slides.synthetic import write_slide_set


def encode(slides: Path, output: Path) -> None:
    """Encode in this process, in its own folder."""
    encode_slides(slides, output, RandomEncoder, batch_size=16, engine="torch", num_workers=1)


def killed_after(wait_s: float, slides: Path, output: Path) -> bool:
    """Encode in a child process and kill it; tell whether it was still at work."""
    child = os.fork()
    if not child:
        encode(slides, output)
        os._exit(0)
    time.sleep(wait_s)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def hashes(folder: Path) -> dict[str, str]:
    """What each embedding file says of its content, which is first compared with the content."""
    found = {path.name: embedding_file(path).verified().attributes for path in sorted(folder.glob("[!.]*.h5"))}
    return {name: f"{attributes['checksum']} {attributes['parameters']}" for name, attributes in found.items()}


def main() -> None:
    """Run and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--slides", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a child of a process that has started a team of threads could not start its own
    rng = random.Random(arguments.seed)
    folder = arguments.output_dir
    shutil.rmtree(folder, ignore_errors=True)
    slides = write_slide_set(folder / "set", train=arguments.slides, val=0, test=0, seed=0, cells=10).parent / "slides"
    child = os.fork()
    start = time.monotonic()
    if not child:
        encode(slides, folder / "whole")
        os._exit(0)
    os.waitpid(child, 0)
    undisturbed_s = time.monotonic() - start
    whole, output = hashes(folder / "whole"), folder / "out"
    if len(whole) != arguments.slides:
        sys.exit(f"{len(whole)} of {arguments.slides} slides were encoded undisturbed")
    interrupted = 0
    for _ in range(arguments.kills):
        # some die while they start, most at work on one of the slides
        interrupted += killed_after(rng.uniform(0.0, 0.25 * undisturbed_s), slides, output)
        found = hashes(output) if output.is_dir() else {}
        if not found.items() <= whole.items():
            sys.exit(f"a file differs after a kill: {sorted(set(found.items()) - set(whole.items()))}")
        if len(found) == arguments.slides:
            for name in rng.sample(sorted(found), arguments.slides // 2):
                (output / name).unlink()
    encode(slides, output)
    left = {path.name for path in output.iterdir() if not path.name.startswith(".encoding")}
    expected = {*whole, "manifest.csv"}
    if hashes(output) != whole or left != expected:
        sys.exit(f"the end differs: {sorted(left ^ expected)}")
    print(
        f"{arguments.kills} kills, {interrupted} of them at work, over {arguments.slides} slides ({undisturbed_s:.1f} s undisturbed): "
        f"{len(whole)} files whole and equal in every value, nothing else left"
    )


if __name__ == "__main__":
    main()
