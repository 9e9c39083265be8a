"""From the last block to a result that may be published: pyramid, exports, read-back, receipt."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tilseg.card import Card
from tilseg.durable import seal, write_durably
from tilseg.errors import OutputError, printable
from tilseg.fingerprint import plan_to_json
from tilseg.georef import Georef
from tilseg.instances import find_instances, measure_instances
from tilseg.journal import BlockRecord
from tilseg.plan import Plan
from tilseg.polygons.placing import Place
from tilseg.receipt import provenance, receipt, summarise
from tilseg.regions import BlockTable, RegionTable, label_blocks
from tilseg.regions.measuring import Measuring
from tilseg.regions.names import LABELS
from tilseg.regions.parts import TableStore
from tilseg.report.page import Finished, report_page
from tilseg.report.words import described_files
from tilseg.side_by_side import side_by_side
from tilseg.sink import load_sink
from tilseg.sinks.labels import write_labels
from tilseg.sinks.legend import style_qml
from tilseg.sinks.readback import check_export
from tilseg.sinks.regridded import on_image_grid
from tilseg.sinks.shards import sweep
from tilseg.source import Source, image_name
from tilseg.stores import INSTANCES, Stores
from tilseg.window import Window
from tilseg.workspace import RECEIPT

TISSUE, REPORT = "tissue.png", "report.html"
Phase = Literal[
    "recover",
    "predict",
    "pyramid",
    "probabilities",
    "tif",
    "check",
    "instances",
    "regions",
    "labels",
    "polygons",
    "report",
]
Report = Callable[[Phase, int, int], None]
# What regions are of, by windows of the mask, and their table.
Measured = tuple[Callable[[Window], NDArray[Any]], RegionTable]


@dataclass(frozen=True, slots=True)
class Finisher:
    """Makes the files of a result in the folder `result`, from the stores in `folder`.

    measuring: how blocks were measured. outputs: masks that are wanted. inexact: what tiling and
    precision change, see `tilseg.exactness`. fingerprint: of the run, for the receipt. single: the
    result is one file. report: called with (phase, pixels done, pixels). Methods take the records
    of all blocks, by index and in that order.
    Every method may be killed and called again, and ends in the same bytes.
    """

    result: Path
    folder: Path
    plan: Plan
    source: Source
    card: Card
    measuring: Measuring
    outputs: tuple[str, ...]
    inexact: dict[str, Any] | None
    fingerprint: Mapping[str, Any]
    single: bool
    report: Report

    def write_masks(self, records: Mapping[int, BlockRecord]) -> None:
        """Pyramid and exports, each read back.

        Raises OutputError E-OUTPUT-WRITE or E-OUTPUT-READBACK.
        """
        stores = Stores.open(self.folder, self.plan)
        store = stores.mask
        georef, name = self._georef, printable(image_name(self.plan.source))
        made = provenance(self.plan, self.card)
        store.finish(
            name=name,
            classes=self.card.classes,
            georef=georef,
            background=self.card.background,
            provenance=made,
            progress=self._in_pixels("pyramid"),
        )
        self._check_blocks(stores, records)
        if stores.probabilities is not None:
            progress = self._in_pixels("probabilities")
            stores.probabilities.finish(
                name=name,
                classes=self.card.classes,
                georef=georef,
                provenance=made,
                progress=progress,
            )
            if "tif" in self.outputs:
                # Loaded here alone: the exports load GDAL.
                from tilseg.sinks.geotiff import write_probabilities

                target = self.result / "probabilities.tif"
                write_probabilities(stores.probabilities, target, progress)
        if "tif" in self.outputs:
            target = self.result / "mask.tif"
            sink = load_sink("geotiff" if georef.is_map else "ometiff")
            mask = on_image_grid(store, self.source) if georef.is_map else store
            sink.write(mask, target, self._in_pixels("tif"))
            check_export(mask, target, lambda done, total: self.report("check", done, total))
            if georef.is_map and not self.single:
                style = style_qml(self.card.classes, self.card.background)
                write_durably(target.with_suffix(".qml"), style)

    @property
    def _georef(self) -> Georef:
        """The place of the mask."""
        level = self.source.levels[self.plan.level]
        return self.source.georef.decimated(level.row_factor, level.col_factor)

    def write_regions(self, records: Mapping[int, BlockRecord]) -> Measured | None:
        """The tables of regions or instances, and their labels and polygons where they are wanted;
        None where none are.

        After `write_masks`, which checks the blocks. Raises OutputError E-OUTPUT-WRITE,
        E-OUTPUT-READBACK or E-POLYGON-DEGREES, and InputError where instances need an image that
        can't be read again.
        """
        stores, options = Stores.open(self.folder, self.plan), self.plan.regions
        if options is None:
            return None
        # Loaded here alone, as polygons are: they load Arrow, and a single file has neither.
        from tilseg.regions.files import write_tables

        read, regions = self._measured(stores, records)
        write_tables(regions, self.result)
        if options.labels:
            write_labels(
                self.result / LABELS,
                label_blocks(read, regions),
                shape=self.plan.grid.shape,
                block=self.plan.grid.block,
                name=printable(image_name(self.plan.source)),
                georef=self._georef,
                progress=lambda done, total: self.report("labels", done, total),
            )
        if options.polygons:
            from tilseg.polygons.files import write_polygons

            georef = self._georef
            write_polygons(
                regions,
                label_blocks(read, regions),
                options,
                Place(georef, self.plan.grid.shape, georef.factors),
                self.card.classes,
                self.result,
                lambda done, total: self.report("polygons", done, total),
            )
        return read, regions

    def _measured(self, stores: Stores, records: Mapping[int, BlockRecord]) -> Measured:
        if stores.tables is not None:
            return stores.mask.read, self.measuring.merge(self._tables(stores.tables))
        rule = None if self.plan.regions is None else self.plan.regions.rule
        assert rule is not None
        instances = find_instances(
            stores.mask.read,
            self.measuring,
            rule,
            self.folder.parent / INSTANCES,
            lambda done, total: self.report("instances", done, total),
        )
        regions = measure_instances(
            instances,
            self.measuring,
            lambda window: self._image(window, records),
            lambda done, total: self.report("regions", done, total),
        )
        return instances.read, regions

    def _image(self, window: Window, records: Mapping[int, BlockRecord]) -> NDArray[Any]:
        """The image's own pixels under a block, 0 where a tile could not be computed."""
        plan, index = self.plan, self.measuring.grid.index(window)
        bad = [tile.window for tile in records[index].bad]
        if not bad:
            return self.source.read(window, plan.level, plan.bands)
        image = np.zeros((*window.size, len(plan.bands)), self.source.dtype)
        for tile in plan.grid.block_at(index).tiles:
            if not any(each.contains(tile.write) for each in bad):
                target = tile.write.relative_to(window).slices
                image[target] = self.source.read(tile.write, plan.level, plan.bands)
        return image

    def _tables(self, tables: TableStore) -> Iterator[BlockTable]:
        done = 0
        for table in tables:
            yield table
            done += table.window.size.area
            self.report("regions", done, table.shape.area)

    def _in_pixels(self, phase: Phase) -> Callable[[int, int], None]:
        """Steps of a store or an export as the pixels of the mask they stand for."""
        area = self.plan.grid.shape.area
        return lambda done, total: self.report(phase, area * done // total, area)

    def write_report(self, records: Mapping[int, BlockRecord], measured: Measured | None) -> None:
        """report.html, after all that it shows; a single file has none.

        Raises OutputError E-OUTPUT-WRITE.
        """
        if self.single:
            return
        self.report("report", 0, self.plan.grid.shape.area)
        stores = Stores.open(self.folder, self.plan)
        read, regions = (stores.mask.read, None) if measured is None else measured
        page = report_page(
            Finished(
                self.plan,
                self.source,
                self.card,
                self._georef,
                stores,
                read,
                regions,
                records.values(),
                # Nothing of when or in how many starts it was made.
                self.summary(records, regions, kept=0, seconds={}),
                self.inexact,
                self.outputs,
                described_files(path.name for path in self.result.iterdir()),
            )
        )
        write_durably(self.result / REPORT, page)
        self.report("report", self.plan.grid.shape.area, self.plan.grid.shape.area)

    def summary(
        self,
        records: Mapping[int, BlockRecord],
        regions: RegionTable | None,
        *,
        kept: int,
        seconds: dict[str, float],
    ) -> dict[str, Any]:
        """The content of summary.json; see `tilseg.receipt.summarise`."""
        return summarise(
            self.plan,
            self._georef,
            self.card,
            self.measuring.world,
            records.values(),
            regions,
            kept=kept,
            seconds=seconds,
        )

    def write_texts(self, records: Mapping[int, BlockRecord], summary: dict[str, Any]) -> None:
        """summary.json and, last of all, the receipt, which holds it too."""
        if not self.single:
            write_durably(self.result / "summary.json", json.dumps(summary, indent=1))
            self._write_tissue()
            self._write_stac()
        # A worker that was given up may still be about to commit a block that another has.
        sweep(self.result)
        content = receipt(
            dict(self.fingerprint),
            summary,
            plan_to_json(self.plan),
            reader=self.source.reader,
            notes=self.source.notes,
            card=self.card,
            inexact=self.inexact,
            records=records.values(),
            result=self.result,
        )
        write_durably(self.result / RECEIPT, seal(content))

    def _write_stac(self) -> None:
        if not self._georef.is_map:
            return
        # Loaded here alone: it is of maps.
        from tilseg.stac import NAME, stac_item

        mask = Stores.open(self.folder, self.plan).mask
        names = [*(path.name for path in self.result.iterdir()), RECEIPT]
        item = stac_item(mask, on_image_grid(mask, self.source), self.source.recorded, names)
        if item is not None:
            write_durably(self.result / NAME, json.dumps(item, indent=1, allow_nan=False))

    def _write_tissue(self) -> None:
        mask = self.plan.selection.tissue
        if mask is not None:
            # Loaded here alone: most runs have no use for it.
            from tilseg.where.tissue import tissue_png

            write_durably(self.result / TISSUE, tissue_png(mask))

    def _check_blocks(self, stores: Stores, records: Mapping[int, BlockRecord]) -> None:
        def check(record: BlockRecord) -> None:
            if not stores.holds(self.plan, record):
                window = self.plan.grid.window_at(record.index)
                reason = f"other pixels at {window}"
                raise OutputError("E-OUTPUT-READBACK", path=stores.mask.path, reason=reason)

        for _ in side_by_side(check, records.values(), stores.bytes_of_block):
            pass
