#!/bin/sh
# Train the bundled model again: train.sh DSB2018 PREPARED MODEL
# The same command continues a training that was interrupted.
set -eu
here=$(dirname "$0")
[ -d "$2/nuclei" ] || python "$here/prepare.py" "$1" "$2"
tilseg train "$here/train.toml" "$2/images" "$2/masks" -o "$3"
python "$here/score.py" "$3" "$2"
