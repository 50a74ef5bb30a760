import ctypes
import faulthandler
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from scripts.common.apart import Apart, run_apart, start_method
from scripts.common.ending import ask_to_end, forget_end
from scripts.common.errors import NoTissueError, RequestError, SlideError, StorageError
from scripts.common.watch import reading

REPO = Path(__file__).parents[2]
ERRORS = {error.__name__: error for error in (NoTissueError, RequestError, SlideError, StorageError)}


def worked(order: str) -> str:
    """Do what an order says; what it does not know it gives back, with the number of the process."""
    if order.startswith("signal"):
        faulthandler.disable()  # which pytest switches on
        os.kill(os.getpid(), int(order.split()[1]))
        time.sleep(60)
    elif order == "exit":
        os._exit(3)
    elif order == "address":
        faulthandler.disable()
        ctypes.string_at(8)
    elif order == "hang":
        with reading():
            time.sleep(60)
    elif order == "memory":
        raise MemoryError
    elif order in ERRORS:
        raise ERRORS[order](f"{order} it is")
    return f"{order} {os.getpid()}"


@pytest.mark.parametrize(
    ("order", "how"),
    [
        ("signal 11", "was ended by SIGSEGV;"),
        ("signal 6", "was ended by SIGABRT;"),
        ("signal 9", "was ended by SIGKILL, as where memory runs out;"),
        ("address", "was ended by SIGSEGV;"),
        ("exit", "ended by itself with exit code 3;"),
    ],
)
def test_a_process_that_dies_costs_its_item(order: str, how: str) -> None:
    with Apart(worked) as apart:
        first = apart.run("a.tif", "a")
        with pytest.raises(SlideError) as caught:
            apart.run("b.tif", order)
        last, after = apart.run("c.tif", "c"), apart.run("d.tif", "c")
    assert first.split()[0] == "a" and last == after
    assert first.split()[1] != last.split()[1] != str(os.getpid())
    text = str(caught.value)
    assert text.startswith(f"b.tif: the process that read it {how} expected a file that can be decoded")


def test_one_process_serves_all_items_and_ends_with_the_block() -> None:
    with Apart(worked) as apart:
        pids = {int(apart.run("a.tif", "a").split()[1]) for _ in range(3)}
    (pid,) = pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_an_earlier_item_did_is_not_laid_at_the_next_ones_door() -> None:
    """A process whose memory an item has spoilt may die later."""
    spoilt = []

    def work(order: str) -> int:
        if order == "spoils":
            spoilt.append(order)
        elif spoilt:
            os._exit(1)
        return os.getpid()

    with Apart(work) as apart:
        assert apart.run("a.tif", "spoils") != apart.run("b.tif", "good")


def test_an_item_is_at_work_while_the_caller_does_something_else() -> None:
    with Apart(worked) as apart:
        with pytest.raises(SlideError, match=r"b\.tif: the process that read it was ended by SIGSEGV"):
            apart.begin("b.tif", "signal 11")
            apart.finish()
        apart.begin("c.tif", "c")
        time.sleep(0.05)  # it ends meanwhile
        assert apart.finish().startswith("c ")


def test_a_process_that_dies_between_two_items_costs_none() -> None:
    with Apart(worked) as apart:
        pid = int(apart.run("a.tif", "a").split()[1])
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        assert apart.run("b.tif", "b") != f"b {pid}"


def test_a_decoder_that_hangs_costs_its_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.common.apart.POLL_S", 0.05)
    with Apart(worked, timeout_s=0.3) as apart:
        start_s = time.monotonic()
        with pytest.raises(
            SlideError, match=r"b\.tif: .* had not returned for 0\.3 s \(--reading#timeout_s\); expected"
        ):
            apart.run("b.tif", "hang")
        assert time.monotonic() - start_s < 10
        assert apart.run("c.tif", "c").startswith("c ")


def test_no_option_is_named_where_none_raises_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.common.apart.POLL_S", 0.05)
    monkeypatch.setattr("scripts.common.apart.DECODE_TIMEOUT_S", 0.3)
    with pytest.raises(SlideError, match=r"had not returned for 0\.3 s; expected"):
        run_apart(worked, "b.tif", "hang")


def test_work_between_the_calls_of_a_decoder_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.common.apart.POLL_S", 0.05)

    def work(order: str) -> str:
        for _ in range(5):
            with reading(), reading():
                time.sleep(0.1)
        time.sleep(0.5)
        return order

    with Apart(work, timeout_s=0.4) as apart:
        assert apart.run("a.tif", "a") == "a"


def test_nested_readings_count_from_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mark:
        value = 0.0

    monkeypatch.setattr("scripts.common.watch._mark", Mark)
    with reading():
        first = Mark.value
        with reading():
            assert Mark.value == first > 0
        assert Mark.value == first
    assert Mark.value == 0


def test_any_error_is_that_items() -> None:
    with Apart(worked) as apart:
        pid = apart.run("a.tif", "a").split()[1]
        with pytest.raises(SlideError, match=r"b\.tif: cannot be processed \(MemoryError\)"):
            apart.run("b.tif", "memory")
        assert apart.run("c.tif", "c").split()[1] == pid


def test_a_result_that_cannot_be_sent_is_that_items_failure() -> None:
    with pytest.raises(SlideError, match=r"a\.tif: cannot be processed .*pickle"):
        run_apart(lambda item: lambda: item, "a.tif", "a")


@pytest.mark.parametrize("name", ERRORS)
def test_our_errors_are_raised_here(name: str) -> None:
    with Apart(worked) as apart, pytest.raises(ERRORS[name], match=f"^{name} it is$"):
        apart.run("a.tif", name)


def test_what_prepares_runs_there_and_its_error_is_raised_here() -> None:
    made = []
    with Apart(lambda item: (os.getpid(), len(made))) as apart:
        assert apart.start(lambda: made.append(0) or "ready") == "ready"
        pid, count = apart.run("a.tif", "a")
        assert apart.run("b.tif", "b") == (pid, count) and count == 1 and not made

    def wrong() -> None:
        raise RequestError("weights do not serve")

    with Apart(worked) as apart, pytest.raises(RequestError, match=r"^weights do not serve$"):
        apart.start(wrong)
    with Apart(worked) as apart, pytest.raises(RequestError, match="exit code 4 before"):
        apart.start(lambda: os._exit(4))


def test_what_is_logged_there_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    def work(item: str) -> None:
        logging.getLogger("scripts.some").info("%s was read", item)
        logging.getLogger("scripts.some").debug("not asked for")

    with caplog.at_level(logging.INFO):
        run_apart(work, "a.tif", "a")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("scripts.some", "a was read")]


def test_a_signal_while_the_process_starts_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python waits at its end for processes of its own, and this one waited for items."""
    start = BaseProcess.start

    def interrupted(process: BaseProcess) -> None:
        start(process)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(BaseProcess, "start", interrupted)
    before = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt), Apart(str) as apart:
        apart.run("a.tif", 1)
    deadline = time.monotonic() + 10.0  # on a busy machine what was killed is still there for a moment
    while multiprocessing.active_children() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert multiprocessing.active_children() == before


def test_a_process_that_nobody_ended_does_not_hold_up_the_end(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from scripts.common.apart import Apart\n"
        "apart = Apart(str)\n"
        "print(apart.run('a.tif', 1))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(REPO / "bundle")], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_process_that_starts_when_the_end_was_asked_for_leaves_that_to_its_parent() -> None:
    """A thread of it would print the trace of an interrupt that is the parent's."""
    ask_to_end(KeyboardInterrupt())
    try:
        assert run_apart(worked, "a.tif", "a").startswith("a ")
    finally:
        forget_end()


def test_a_process_ends_with_its_object() -> None:
    apart = Apart(str)
    apart.run("a.tif", 1)
    process = apart._process
    assert process is not None
    del apart
    process.join(10)
    assert process.exitcode == -signal.SIGKILL


def test_a_stop_for_the_whole_group_leaves_the_process_to_its_parent() -> None:
    def work(item: str) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        return os.getpid()

    with Apart(work) as apart:
        assert apart.run("a.tif", "a") == apart.run("b.tif", "b")


RUN = """
import sys, time
sys.path[:0] = [sys.argv[1]]
from scripts.common.apart import Apart
def work(item):
    import os
    print(os.getpid(), flush=True)
    time.sleep(60)
with Apart(work) as apart:
    apart.run("a.tif", "a")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_ends_with_its_parent(number: int) -> None:
    command = [sys.executable, "-c", RUN, str(REPO / "bundle")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().strip().isdecimal()
        start_s = time.monotonic()
        parent.send_signal(number)
        assert parent.stdout.read() == ""  # which ends when both processes are gone
        assert time.monotonic() - start_s < 20


def test_a_team_of_threads_of_the_parent_does_not_hold_up_the_process() -> None:
    """OpenMP's threads are not forked; the first thread of the new process would wait for them."""
    code = """
import sys; sys.path[:0] = [sys.argv[1]]
import torch
from scripts.common.apart import run_apart
torch.set_num_threads(3)
def work(_):
    return torch.get_num_threads(), float(torch.ones(2_000_000).exp().sum())
work(0)
print(run_apart(work, "a.tif", 0) == work(0))
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", code, str(REPO / "bundle")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    assert ended.stdout == "True\n"


def test_a_worker_that_may_have_no_children_has_one() -> None:
    loader = torch.utils.data.DataLoader(Reads(), num_workers=1, batch_size=None, multiprocessing_context="fork")
    assert [answer.split()[0] for answer in loader] == ["0", "1"]


class Reads(torch.utils.data.Dataset[str]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> str:
        assert multiprocessing.current_process().daemon
        return run_apart(worked, "a.tif", str(index))


def test_a_fresh_process_finds_the_code_and_says_what_it_cannot_take() -> None:
    with Apart(worked, forks=False) as apart:
        assert apart.run("a.tif", "a").startswith("a ")
        with pytest.raises(SlideError, match="SIGSEGV"):
            apart.run("b.tif", "signal 11")
    with (
        Apart(lambda item: item, forks=False) as apart,
        pytest.raises(RequestError, match=r"process of its own, .*lambda"),
    ):
        apart.start(lambda: None)


def test_the_method_that_a_program_has_set_is_taken() -> None:
    assert start_method(forks=True) == ("fork" if sys.platform.startswith("linux") else "spawn")
    assert start_method(forks=False) == "spawn"
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert start_method(forks=True) == "spawn"
    finally:
        multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_timeout_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(RequestError, match=r"timeout_s .*: expected seconds over 0"):
        Apart(worked, timeout_s=seconds)
