"""Runs ``python -m monai.bundle ...`` many times in seconds: each in a fork of this process, which has imported what they import.

Reads a request a line from standard input, JSON with ``words`` (what follows ``-m monai.bundle``), ``folder`` and ``log``, and answers
with a line that holds the exit code. The fork leaves the loop and ends as the command would: same ``sys.argv``, ``sys.path``, hooks.
"""

import gc
import json
import os
import runpy
import sys
import warnings

import h5py  # noqa: F401
import matplotlib  # noqa: F401
import monai.bundle
import monai.handlers
import scipy.ndimage  # noqa: F401
import skimage.measure  # noqa: F401
import sklearn.model_selection  # noqa: F401
import tifffile  # noqa: F401
import torch.utils.tensorboard  # noqa: F401

warnings.simplefilter("ignore")
gc.freeze()  # else every fork copies, and at its end tears down, all that was imported
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if not child:
        break
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
else:
    sys.exit()

log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
nothing = os.open(os.devnull, os.O_RDONLY)
for target, source in enumerate((nothing, log, log)):
    os.dup2(source, target)
os.chdir(request["folder"])
sys.path[0] = request["folder"]
sys.argv = [monai.bundle.__file__, *request["words"]]
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
