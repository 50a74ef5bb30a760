"""Every stage once on the smallest slide set; test modules that use it name this file in ``pytest_plugins``."""

import pytest
from tiny_flow import ON_CPU, TinyFlow, run_config

from scripts.slides.synthetic import write_tiny_slide_set


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> TinyFlow:
    """Sampling, S-CAE training, encoding, DSNet training and evaluation of eight synthetic slides."""
    root = tmp_path_factory.mktemp("flow")
    made = TinyFlow(
        slides=write_tiny_slide_set(root / "slides"),
        patches=root / "patches",
        encoder=root / "models" / "scae.pt",
        dataset=root / "data",
        model=root / "models" / "model.pt",
        log=root / "log",
        evaluation=root / "eval",
    )
    run_config(
        "sample.yaml",
        run_id="sampling",
        slides=made.slides,
        output_dir=made.patches,
        **{"draw#patches_per_slide": 8, "draw#rich_share": 0.0},
        num_workers=0,
    )
    run_config(
        "train_scae.yaml",
        run_id="training",
        dataset_dir=made.patches,
        output_dir=root / "log_scae",
        encoder=made.encoder,
        max_epochs=1,
        **ON_CPU,
    )
    run_config(
        "encode.yaml", run_id="encoding", slides=made.slides, output_dir=made.dataset, encoder=made.encoder, **ON_CPU
    )
    run_config(
        "train.yaml",
        run_id="training",
        dataset_dir=made.dataset,
        output_dir=made.log,
        model=made.model,
        max_epochs=2,
        batch_size=4,
        learning_rate=1e-3,
        **ON_CPU,
    )
    run_config(
        "train.yaml",
        "evaluate.yaml",
        run_id="evaluating",
        dataset_dir=made.dataset,
        output_dir=made.evaluation,
        model=made.model,
        **ON_CPU,
    )
    return made
