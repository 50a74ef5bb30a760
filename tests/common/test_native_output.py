import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from scripts.common.native_output import native_output

NOISE = re.compile(rb"^\[Error\][^\n]*\n", re.MULTILINE)


@contextmanager
def chatting(write: Callable[[int], None]) -> Iterator[list[int]]:
    """Let a thread write line after line, and count them, until the block ends."""
    stop, counted = threading.Event(), [0]

    def chat() -> None:
        while not stop.is_set():
            write(counted[0])
            counted[0] += 1

    thread = threading.Thread(target=chat)
    thread.start()
    try:
        yield counted
    finally:
        stop.set()
        thread.join()


def in_two_parts(number: int) -> None:
    os.write(1, b"%d of a TIFF: [Error], " % number)
    os.write(1, b"JPEG in its second part\n")


def test_no_line_of_another_thread_is_lost_or_moved(capfd: pytest.CaptureFixture[str]) -> None:
    with chatting(in_two_parts) as counted:
        for _ in range(200):
            with native_output(NOISE) as printed:
                os.write(2, b"[Error] of the library\n")
                assert printed.says(re.compile(rb"of the library"))
    said = capfd.readouterr()
    assert said.err == ""
    assert said.out.splitlines() == [
        f"{number} of a TIFF: [Error], JPEG in its second part" for number in range(counted[0])
    ]


def test_a_pipe_whose_reader_is_slow_is_waited_for() -> None:
    reader, writer = os.pipe()
    read: list[bytes] = []

    def drain() -> None:
        while part := os.read(reader, 1 << 10):
            read.append(part)

    content = b"".join(b"line %d\n" % number for number in range(40_000))  # more than a pipe holds
    kept, thread = os.dup(1), threading.Thread(target=drain)
    os.dup2(writer, 1)
    try:
        with native_output(NOISE):
            os.write(1, content)
            thread.start()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(writer)
        thread.join()
        os.close(reader)
    assert b"".join(read) == content


def test_a_pipe_without_a_reader_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    kept = os.dup(2)
    os.dup2(writer, 2)
    try:
        with native_output(NOISE):
            os.write(2, b"nobody reads this\n")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(writer)


def test_noise_goes_to_the_debug_log_and_all_else_where_it_was_meant_to_go(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    failed = re.compile(rb"header")
    with caplog.at_level(logging.DEBUG), native_output(NOISE) as printed:
        os.write(2, b"[Error] no codec\na progress bar\n")
        os.write(1, b"a result\n")
        assert not printed.says(failed)
        os.write(1, b"[Error] header\n")
        assert printed.says(failed)
    os.write(2, b"after\n")
    assert "no codec" in caplog.text and "header" in caplog.text
    assert capfd.readouterr() == ("a result\n", "a progress bar\nafter\n")


def test_descriptors_are_given_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="native"), native_output(NOISE):
        raise RuntimeError("native")
    os.write(1, b"as before\n")
    assert capfd.readouterr().out == "as before\n"
