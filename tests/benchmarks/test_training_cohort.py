from pathlib import Path

import pytest
from training_cohort import main


@pytest.mark.parametrize(("gib", "before", "reads"), [(8.0, 12, [0, 0]), (0.0, 6, [4 + 2 + 1, 4 + 2 + 2])])
def test_what_is_measured(tmp_path: Path, gib: float, before: int, reads: list[int]) -> None:
    """Six slides, of which two are validated, one is shown, and two are judged by the chosen weights in the end."""
    words = [
        "--slides",
        "6",
        "--distinct",
        "3",
        "--patches",
        "40",
        "--channels",
        "24",
        "--epochs",
        "2",
        "--projection",
        "8",
    ]
    found = main(["--folder", str(tmp_path), "--device", "cpu", "--cache_gib", str(gib), *words])
    assert (found["reads_before_the_first_epoch"], found["reads_per_epoch"]) == (before, reads)
    assert found["whole_over_own"] > 1 < found["processor_whole_over_own"]
    assert found["peak_gib"] >= found["peak_gib_before"]
