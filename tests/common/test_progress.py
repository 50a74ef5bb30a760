import io
import logging
import re
import sys

import pytest

from scripts.common import progress
from scripts.common.progress import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now_s = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s[0])
    return now_s


def test_log_lines_come_no_oftener_than_ten_seconds_and_at_the_end(
    clock: list[float], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    with caplog.at_level(logging.INFO):
        for item in track("abcdefghi", total=9, what="encoding", unit="slide"):
            seen.append(item)
            clock[0] += 4.0
    assert seen == list("abcdefghi")
    assert caplog.messages == [
        "encoding: 3 of 9, 0.25 slide/s, 24 s left",
        "encoding: 6 of 9, 0.25 slide/s, 12 s left",
        "encoding: 9 of 9 done in 36.0 s, 0.25 slide/s",
    ]
    assert capsys.readouterr().err == ""


def test_no_work_ends_with_one_line(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert list(track([], total=0, what="encoding", unit="slide")) == []
    assert caplog.messages == ["encoding: 0 of 0 done in 0.0 s, 0.00 slide/s"]


def test_terminal_gets_a_bar_and_no_log_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with caplog.at_level(logging.INFO):
        assert list(track(iter("abc"), total=3, what="encoding", unit="slide")) == ["a", "b", "c"]
    assert caplog.messages == []
    assert re.search(r"encoding: 100%.* 3/3 .* slide/s", terminal.getvalue())
