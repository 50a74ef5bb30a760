"""What can be said of a command of the documentation without running it: that everything it names is there."""

import re
import shlex
import subprocess
from collections.abc import Callable, Sequence

from docs_blocks import REPO
from monai.bundle import ConfigParser
from torch.distributed.run import get_args_parser

from scripts.ablations.__main__ import argument_parser, train_options
from scripts.common.config_check import require_sound
from scripts.common.options import given_options, refuse_unknown

INTERPRETERS = re.compile(r"(?:.*/bin/)?python[\d.]*")
ELSEWHERE = {
    "source": "a shell's own",
    "sed": "a system's own",
    "awk": "a system's own",
    "du": "a system's own",
    "unzip": "the zip is that of make package",
    "monai-deploy": "needs a Docker engine",
    "curl": "asks the server of MONAI Label",
}
"""Programs that are not the project's, and why their words are not looked at."""


def check(words: Sequence[str]) -> None:
    """Check that a command names files, targets, ids and options that are there.

    Raises:
        AssertionError, RequestError: it does not; the message says what.
    """
    program, rest = words[0], list(words[1:])
    if INTERPRETERS.fullmatch(program) and rest[:1] == ["-m"]:
        _MODULES[rest[1]](rest[2:])
    elif INTERPRETERS.fullmatch(program):
        _check_script(rest)
    elif program in _PROGRAMS:
        _PROGRAMS[program](rest)
    else:
        assert program.rpartition("/")[2] in ELSEWHERE, (
            f"{program}: say in tests/docs_checks.py how it is checked, or mark the block as ```text"
        )


def _check_monai(words: list[str]) -> None:
    if words[0] != "run":  # paths are those of the packaged bundle, where verify-package runs these
        assert words[0] in ("ckpt_export", "onnx_export", "trt_export"), words[0]
        return
    given = given_options(words)
    files = given["config_file"] if isinstance(given["config_file"], list | tuple) else [given["config_file"]]
    for file in files:
        assert (REPO / file).is_file() or (REPO / "bundle" / file).is_file(), f"no config {file}"
    if not all((REPO / file).is_file() for file in files):  # an overlay of the reader's own
        return
    refuse_unknown(words)
    run_id, config = given.get("run_id"), ConfigParser(ConfigParser.load_config_files(list(files)))
    run_list = config.get(run_id)
    assert isinstance(run_list, list | str), f"{run_id} of {files} is nothing to run"
    require_sound([str(file) for file in files], {})


def _check_script(words: list[str]) -> None:
    path = REPO / words[0]
    sources = [path] if path.is_file() else sorted(path.glob("*.py"))
    assert sources, f"no script {words[0]}"
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    for word in words[1:] if path.is_file() else ():  # an application's options are its framework's
        if word.startswith("--") and word != "--help":
            assert f'"{word.partition("=")[0]}"' in text, f"{words[0]} knows no {word}"


def _check_make(words: list[str]) -> None:
    for word in words:
        if word.startswith("ARGS=") and "ablations" in words:
            _, rest = argument_parser().parse_known_args(shlex.split(word.removeprefix("ARGS=")))
            train_options(rest)
    plan = subprocess.run(["make", "-n", *words], cwd=REPO, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr


def _check_torchrun(words: list[str]) -> None:
    own = words[: words.index("-m")]
    parser = get_args_parser()
    unknown = [word for word in own if word.startswith("--") and word not in parser._option_string_actions]
    assert not unknown, f"torchrun knows no {unknown}"
    parser.parse_args([*own, "x"])
    _check_python_module(words[words.index("-m") + 1 :])


def _check_pytest(words: list[str]) -> None:
    for word in words:
        assert word.startswith("-") or (REPO / word.partition("::")[0]).exists(), f"no tests {word}"


def _check_pip(words: list[str]) -> None:
    known = (REPO / "pyproject.toml").read_text(encoding="utf-8")
    for word in words:
        for extra in re.findall(r"\[([\w,]+)\]", word) if word.startswith(".") else []:
            for name in extra.split(","):
                assert re.search(rf"^{name} = \[", known, re.MULTILINE), f"no extra {name}"
        if word.endswith(".txt"):
            assert (REPO / word).is_file(), f"no file {word}"


def _check_python_module(words: list[str]) -> None:
    _MODULES[words[0]](words[1:])


_MODULES: dict[str, Callable[[list[str]], None]] = {
    "monai.bundle": _check_monai,
    "pip": _check_pip,
    "pytest": _check_pytest,
    "venv": lambda words: None,
    "http.server": lambda words: None,
    "monailabel.main": lambda words: None,  # tests/integrations starts it, in an environment of its own
}
_PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "make": _check_make,
    "torchrun": _check_torchrun,
    "pytest": _check_pytest,
    "pip": _check_pip,
}
