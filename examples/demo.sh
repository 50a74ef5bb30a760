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
stage "classify one slide file, with its heat map" inference "$CONFIGS/inference.yaml" \
    --slides "$DEMO/slides/slides/test_001.tif" --output_dir "$DEMO/predictions" \
    --encoder "$MODELS/scae.pt" --model "$MODELS/model.pt"
echo
grep "^AUC" "$DEMO/evaluation/report.md"
echo "report: $DEMO/evaluation/report.md   heat map: $DEMO/predictions/test_001/cam.png"
echo "whole demo: $SECONDS s"
