"""Train and test DSNet on one dataset of embeddings with several seeds, through the bundle's own commands.

    python benchmarks/learning.py --dataset_dir embeddings --output_dir runs --seeds 0 1 2

For every seed: ``training`` (epoch and threshold chosen on the validation slides) and ``evaluating`` (test slides, once). Prints a
Markdown table. The interval of the mean is a percentile bootstrap of the test slides, drawn alike for all seeds, so it holds the
uncertainty of the slides and not that of further seeds; the deviation over the seeds stands beside it.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "bundle"))

from scripts.evaluation.bootstrap import resample_weights
from scripts.evaluation.metrics import weighted_metrics
from scripts.evaluation.predictions import read_predictions


def bundle(run_id: str, configs: list[str], options: dict[str, object]) -> None:
    """Run one stage."""
    files = [str(REPO / "bundle" / "configs" / name) for name in configs]
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--bundle_root", str(REPO / "bundle")]
    command += ["--config_file", str(files)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")


def main() -> None:
    """Run the seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, help="slides.csv and embeddings")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max_epochs", type=int, default=40)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--resamples", type=int, default=2000)
    arguments = parser.parse_args()

    request = {name: getattr(arguments, name) for name in ("dataset_dir", "max_epochs", "learning_rate")}
    stated = arguments.output_dir / "request.json"
    if stated.is_file() and json.loads(stated.read_text()) != request:
        sys.exit(f"{stated}: another request ({stated.read_text()}); name another --output_dir")
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    stated.write_text(json.dumps(request))
    aucs, tables = [], []
    print("| seed | validation AUC | test AUC | 95 % interval |\n|---|---|---|---|", flush=True)
    for seed in arguments.seeds:
        out = arguments.output_dir / f"seed{seed}"
        common = {"dataset_dir": arguments.dataset_dir, "model": out / "model.pt", "seed": seed}
        recipe = {"max_epochs": arguments.max_epochs, "learning_rate": arguments.learning_rate}
        if not (out / "metrics.json").is_file():  # a stopped benchmark goes on with the seed it stopped in
            bundle("training", ["train.yaml"], {**common, **recipe, "output_dir": out / "log"})
            bundle("evaluating", ["train.yaml", "evaluate.yaml"], {**common, "output_dir": out})
        auc = json.loads((out / "metrics.json").read_text())["auc"]
        validation = json.loads((out / "model.json").read_text())["validation"]["auc"]["value"]
        aucs.append(auc["value"])
        tables.append(read_predictions(out / "predictions.csv"))
        print(
            f"| {seed} | {validation:.3f} | {auc['value']:.3f} | {auc['ci95'][0]:.3f}-{auc['ci95'][1]:.3f} |",
            flush=True,
        )

    labels = np.array([prediction.label for prediction in tables[0].predictions])
    weights = resample_weights(len(labels), resamples=arguments.resamples, seed=0)
    by_seed = [
        weighted_metrics(labels, np.array([p.probabilities for p in table.predictions]), weights, threshold=0.5)["auc"]
        for table in tables
    ]
    low, high = np.nanpercentile(np.mean(by_seed, axis=0), (2.5, 97.5))
    deviation = np.std(aucs, ddof=1) if len(aucs) > 1 else float("nan")
    print(f"| mean | | {np.mean(aucs):.3f} (deviation over seeds {deviation:.3f}) | {low:.3f}-{high:.3f} |")


if __name__ == "__main__":
    main()
