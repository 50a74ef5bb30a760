"""Output whose reader has left, as ``| head -1`` does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
BEGIN = """
import logging, sys
logging.basicConfig(stream=sys.stdout, level=logging.INFO)
from scripts.common.process import install_exit_codes
install_exit_codes()
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("print('plan\\n' * 100_000)", 141),
        ("print('plan', flush=True)", 141),
        ("print('plan')", 0),
        ("for _ in range(3): logging.info('an epoch')", 0),
        ("logging.info('an epoch'); print('plan', flush=True); raise SystemExit(1)", 1),
    ],
)
def test_the_end_of_what_nobody_reads_is_quiet(what: str, code: int) -> None:
    """What logs goes on, since its outputs are files; what prints may end."""
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN + what], env={**os.environ, "PYTHONUNBUFFERED": ""}, cwd=BUNDLE, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.close()
        assert (process.stderr.read(), process.wait()) == ("", code)


def test_a_broken_pipe_of_our_own_keeps_its_trace() -> None:
    """Whoever reads the output is there."""
    words = [sys.executable, "-c", BEGIN + "raise BrokenPipeError(32, 'of another pipe')"]
    ended = subprocess.run(words, input="", capture_output=True, text=True, cwd=BUNDLE)
    assert ended.returncode == 1 and ended.stderr.endswith("of another pipe\n") and "Traceback" in ended.stderr
