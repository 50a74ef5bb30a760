"""What ``python``, ``pip`` and ``torchrun`` are where a test runs the commands of the documentation: the same, with smaller sizes
(docs_sizes.py). What imports much is run in a fork (command_server.py).

    python docs_shim.py {python,pip,torchrun} ARGUMENTS
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from command_server import flags_of, is_forked, run_as
from docs_sizes import smaller


def main(name: str, words: Sequence[str]) -> int:
    """Run a program; return its exit code, or be replaced by it."""
    if name == "pip":
        words = ["-m", "pip", *words]
    if name == "torchrun":
        place = words.index("-m")
        own = smaller(["torchrun", *words[:place]])
        words = ["-m", "torch.distributed.run", *own[1:], *smaller(words[place:])]
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    else:
        flags = flags_of(words)
        words = [*words[:flags], *smaller(words[flags:])]
    what = list(words[flags_of(words) :])
    is_script = bool(what) and what[0].endswith(".py")
    return run_as(str(Path(os.environ["DOCS_PROGRAMS"]) / "python"), words, forked=is_script or is_forked(words))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
