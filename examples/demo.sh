#!/usr/bin/env bash
# The main job end to end on generated slides: every stage through `python -m monai.bundle run`.
# PYTHON names the interpreter, DEMO the folder that everything is written to.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source examples/stage.sh

SECONDS=0
bash examples/weights.sh
stage "evaluate on the test slides" evaluating "['$CONFIGS/train.yaml','$CONFIGS/evaluate.yaml']" \
    --dataset_dir "$DEMO/embeddings" --output_dir "$DEMO/evaluation" --model "$MODELS/model.pt"
awk 'NR == 1 || (/,test/ && ++slides <= 12)' "$DEMO/slides/slides.csv" > "$DEMO/slides/some.csv"
stage "classify twelve slide files, with heat maps" inference "$CONFIGS/inference.yaml" \
    --slides "$DEMO/slides/some.csv" --output_dir "$DEMO/predictions" \
    --encoder "$MODELS/scae.pt" --model "$MODELS/model.pt"
stage "report" reporting "$CONFIGS/report.yaml" --predictions_dir "$DEMO/predictions" \
    --evaluation_dir "$DEMO/evaluation" --slides "$DEMO/slides/slides.csv" --output_dir "$DEMO/report"
echo
grep "^AUC" "$DEMO/evaluation/report.md"
echo "whole demo: $SECONDS s"
echo "report: $DEMO/report/report.html"
