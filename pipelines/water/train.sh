#!/bin/sh
# Train the bundled model again: train.sh PREPARED MODEL NAIP.tif [NAIP.tif ...]
# The same command continues a training that was interrupted.
set -eu
here=$(dirname "$0")
prepared=$1 model=$2
shift 2
[ -d "$prepared/masks" ] || python "$here/prepare.py" "$prepared" "$@"
tilseg train "$prepared/images" "$prepared/masks" -o "$model" \
    --classes background,water --colors "#000000,#0072b2" --augment medium --normalization joint \
    --depth 2 --width 8 --steps 1000 --batch 4 --patch 100 --seed 0 --validation-fraction 0.25 \
    --licence "Apache-2.0; trained on public-domain NAIP images" \
    --description "Open water in scenes of 10 m; learnt from an index (NDWI), not from drawn outlines"
