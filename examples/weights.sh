#!/usr/bin/env bash
# Trains both networks on generated slides: weights that show how everything works together, and nothing about real slides.
# PYTHON names the interpreter, DEMO the folder of slides, patches, embeddings and logs, MODELS that of the weights.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source examples/stage.sh

stage "generate slides with known labels" generating "$CONFIGS/demo_data.yaml" --output_dir "$DEMO/slides" \
    --train 60 --val 24 --test 40
# Generated slides are pale, as many real ones are: the paper's rule (90 % of patches darker than 70 % of full scale) would leave
# most of them out, so all tissue is drawn from.
stage "sample patches from the training slides" sampling "$CONFIGS/sample.yaml" \
    --slides "$DEMO/slides/slides.csv" --output_dir "$DEMO/patches" --draw#patches_per_slide 60 --draw#rich_share 0
stage "train the patch encoder (S-CAE), without labels" training \
    "['$CONFIGS/train_scae.yaml','$CONFIGS/recommended_scae.yaml']" \
    --dataset_dir "$DEMO/patches" --output_dir "$DEMO/log_scae" --encoder "$MODELS/scae.pt" --max_epochs 2 \
    --replace true
stage "encode the slides" encoding "$CONFIGS/encode.yaml" \
    --slides "$DEMO/slides/slides.csv" --output_dir "$DEMO/embeddings" --encoder "$MODELS/scae.pt"
stage "train DSNet from the slide labels" training \
    "['$CONFIGS/train.yaml','$CONFIGS/recommended.yaml']" --dataset_dir "$DEMO/embeddings" \
    --output_dir "$DEMO/log" --model "$MODELS/model.pt" --replace true \
    --write_card#intended_use "demonstration only: trained on 60 generated slides; not a medical device and not for diagnosis"
