"""Draws an image, its mask and the outlines of its regions with QGIS, and tells the legend.

    /usr/bin/python3 tests/qgis_render.py scene.tif scene.tilseg out.png

For the Python that QGIS was installed for, such as that of Debian's python3-qgis; it needs no screen.
The mask is styled by nothing but what lies beside it. The legend goes to stdout as JSON.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    Qgis,
    QgsApplication,
    QgsFillSymbol,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRasterLayer,
    QgsSingleSymbolRenderer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize

image, result, picture = map(Path, sys.argv[1:])
QgsApplication.setPrefixPath("/usr", True)
application = QgsApplication([], False)
application.initQgis()

scene = QgsRasterLayer(str(image), "scene")
mask = QgsRasterLayer(str(result / "mask.tif"), "mask")
regions = QgsVectorLayer(str(result / "regions.gpkg"), "regions", "ogr")
for layer in (scene, mask, regions):
    assert layer.isValid(), layer.source()
outline = {"color": "0,0,0,0", "outline_color": "#ff1493", "outline_width": "0.5"}
regions.setRenderer(QgsSingleSymbolRenderer(QgsFillSymbol.createSimple(outline)))

settings = QgsMapSettings()
settings.setLayers([regions, mask, scene])
settings.setDestinationCrs(scene.crs())
settings.setExtent(scene.extent())
settings.setOutputSize(QSize(900, int(900 * scene.extent().height() / scene.extent().width())))
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
assert job.renderedImage().save(str(picture)), picture

renderer = mask.renderer()
legend = {
    "qgis": Qgis.version(),
    "renderer": renderer.type(),
    "classes": [[c.value, c.label, c.color.name(), c.color.alpha()] for c in renderer.classes()],
    "same_crs": [layer.crs() == scene.crs() for layer in (mask, regions)],
    "same_extent": mask.extent() == scene.extent(),
    "nodata": mask.dataProvider().sourceNoDataValue(1),
    "regions": regions.featureCount(),
}
print(json.dumps(legend), flush=True)
# QGIS 3.22 crashes as the interpreter ends.
os._exit(0)
