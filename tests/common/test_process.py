import signal
import sys
from pathlib import Path

import pytest

from scripts.common.apart import run_apart
from scripts.common.process import deaf_to_signals, send_no_telemetry


def telemetry_in_child(_item: object) -> bool:
    return "openvino_telemetry" in sys.modules and sys.modules["openvino_telemetry"] is None


def test_a_process_that_we_start_sends_nothing_and_its_parent_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    assert run_apart(telemetry_in_child, tmp_path, None)
    assert "openvino_telemetry" not in sys.modules
    send_no_telemetry()
    assert telemetry_in_child(None)


def test_signals_are_heard_again_after_a_start() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with deaf_to_signals():
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
