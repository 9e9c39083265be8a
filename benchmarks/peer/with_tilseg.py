"""`tilseg.run`, into one file or into a directory with all that a run makes by default.

python with_tilseg.py WORK SMALL mask|everything
"""

from __future__ import annotations

import sys

from measured import Work, main

import tilseg


def segment(work: Work) -> str:
    single = sys.argv[3] == "mask"
    output = work.output + (".zarr" if single else ".tilseg")
    source = tilseg.open_source(work.image)
    model = tilseg.load_model(work.model, precision=work.precision)
    whole = model.field.step_covering(max(source.shape)) if work.whole else None
    plan = tilseg.make_plan(source, model, precision=work.precision, tile=whole)
    tilseg.run(plan, output, overwrite=True)
    source.close()
    return output + ("/0" if single else "/mask.zarr/0")


if __name__ == "__main__":
    main(segment)
