#!/usr/bin/env bash
# The main job end to end on generated slides: every stage through `python -m monai.bundle run`.
# PYTHON names the interpreter, DEMO the folder that everything is written to.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python}
DEMO=${DEMO:-demo}
CONFIGS=bundle/configs

stage() { # title, id, config file(s), options
    local title=$1 id=$2 config=$3
    shift 3
    echo
    echo "== $title"
    "$PYTHON" -W ignore -m monai.bundle run "$id" --bundle_root bundle --config_file "$config" "$@"
}

SECONDS=0
stage "1/7 generate slides with known labels" generating "$CONFIGS/demo_data.yaml" --output_dir "$DEMO/slides" \
    --train 60 --val 24 --test 40
# Generated slides are pale, as many real ones are: the paper's rule (90 % of patches darker than 70 % of full scale) would leave
# most of them out, so the demo draws from all tissue.
stage "2/7 sample patches from the training slides" sampling "$CONFIGS/sample.yaml" \
    --slides "$DEMO/slides/slides.csv" --output_dir "$DEMO/patches" --patches_per_slide 60 --rich_share 0
stage "3/7 train the patch encoder (S-CAE), without labels" training "$CONFIGS/train_scae.yaml" \
    --dataset_dir "$DEMO/patches" --output_dir "$DEMO/log_scae" --encoder "$DEMO/models/scae.pt" --max_epochs 3
stage "4/7 encode the slides" encoding "$CONFIGS/encode.yaml" \
    --slides "$DEMO/slides/slides.csv" --output_dir "$DEMO/embeddings" --encoder "$DEMO/models/scae.pt"
stage "5/7 train DSNet from the slide labels" training "$CONFIGS/train.yaml" --dataset_dir "$DEMO/embeddings" \
    --output_dir "$DEMO/log" --model "$DEMO/models/model.pt" --max_epochs 30 --learning_rate 1e-3
stage "6/7 evaluate on the test slides" evaluating "['$CONFIGS/train.yaml','$CONFIGS/evaluate.yaml']" \
    --dataset_dir "$DEMO/embeddings" --output_dir "$DEMO/evaluation" --model "$DEMO/models/model.pt"
stage "7/7 classify one slide file, with its heat map" inference "$CONFIGS/inference.yaml" \
    --slides "$DEMO/slides/slides/test_001.tif" --output_dir "$DEMO/predictions" \
    --encoder "$DEMO/models/scae.pt" --model "$DEMO/models/model.pt"
echo
grep "^AUC" "$DEMO/evaluation/report.md"
echo "report: $DEMO/evaluation/report.md   heat map: $DEMO/predictions/test_001/cam.png"
echo "whole demo: $SECONDS s"
