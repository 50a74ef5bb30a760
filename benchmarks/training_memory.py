"""Peak resident memory and time of training steps on large slides, on the CPU.

    python benchmarks/training_memory.py --rows 400 --columns 350
    python benchmarks/training_memory.py --rows 400 --columns 350 --checkpointing
    python benchmarks/training_memory.py --rows 400 --columns 350 --channels 1536 --projection 128
    python benchmarks/training_memory.py --rows 24 --columns 24 --batch_size 8 --steps 30 --head patch

The default is the paper's mean Camelyon16 slide: 140,000 patches, all observed. Network, loss and optimizer are those of train.yaml,
the peak is that of the process, with Python, torch and the slides in it.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

from machine import peak_gib

from scripts.common.option_words import Head, words
from scripts.dsnet.checkpointing import checkpoint_blocks
from scripts.dsnet.network import DSNet


def main() -> None:
    """Run the steps and print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--columns", type=int, default=350)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--head", choices=words(Head), default="slide")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--projection", type=int, help="channels that a 1x1 convolution leaves of V")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    network = DSNet(
        embedding_channels=arguments.channels,
        thumbnail_levels=arguments.levels,
        head=arguments.head,
        projection=arguments.projection,
    )
    network = checkpoint_blocks(network, enabled=arguments.checkpointing).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    image = torch.rand(
        arguments.batch_size, arguments.channels + 12 * arguments.levels, arguments.rows, arguments.columns
    )
    labels = torch.ones(arguments.batch_size, dtype=torch.long)
    before = peak_gib()
    seconds = []
    for _ in range(arguments.steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(image), labels).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    print(
        f"{arguments.batch_size} x V {arguments.rows} x {arguments.columns} x {arguments.channels}, head {arguments.head}, "
        f"checkpointing {arguments.checkpointing}, projection {arguments.projection}: "
        f"peak {peak_gib():.2f} GiB ({before:.2f} before the first step), fastest step {min(seconds):.3g} s, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
