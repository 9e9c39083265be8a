#!/bin/sh
# Train the bundled model again: train.sh DSB2018 PREPARED MODEL
# The same command continues a training that was interrupted.
set -eu
here=$(dirname "$0")
[ -d "$2/masks" ] || python "$here/prepare.py" "$1" "$2"
tilseg train "$2/images" "$2/masks" -o "$3" \
    --classes background,nucleus --orient bright-on-dark --augment medium \
    --depth 3 --width 16 --steps 2600 --batch 4 --patch 196 --seed 0 \
    --licence "Apache-2.0; trained on CC0 images" \
    --description "Nuclei in stained tissue and in fluorescence, RGB, 10 to 60 pixels across"
python "$here/score.py" "$1" "$2" "$3"
