#!/bin/sh
# Train the bundled model again: train.sh DSB2018 PREPARED MODEL
# The same command continues a training that was interrupted.
set -eu
here=$(dirname "$0")
[ -d "$2/masks" ] || python "$here/prepare.py" "$1" "$2"
exec tilseg train "$2/images" "$2/masks" -o "$3" \
    --classes background,nucleus --orient bright-on-dark --augment strong \
    --depth 3 --width 16 --steps 4000 --batch 4 --patch 196 --seed 0 \
    --licence "Apache-2.0; trained on CC0 images" \
    --description "Nuclei in stained tissue and in fluorescence, RGB, any size from 10 to 60 pixels"
