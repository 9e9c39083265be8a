#!/bin/sh
# Train the bundled model again: train.sh CHASE_DB1 PREPARED MODEL
# The same command continues a training that was interrupted.
set -eu
here=$(dirname "$0")
[ -d "$2/second" ] || python "$here/prepare.py" "$1" "$2"
tilseg train "$here/train.toml" "$2/vessels.csv" -o "$3"
python "$here/score.py" "$3" "$2"
