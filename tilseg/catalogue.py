"""The words of every error: one table a class of the tree in errors.py.

id -> (what came and what is allowed, what to do). A fact in braces is filled in when the error is
raised. tests/test_errors.py holds these tables against every raise.
"""

from __future__ import annotations

Words = dict[str, tuple[str, str]]

BUGS: Words = {
    "E-BUG": (
        "unexpected {kind} at {place}: {reason}",
        "this is a bug of tilseg: add --debug to the command and report what it prints",
    ),
}

USAGE: Words = {
    "E-USAGE": ("{message}", "see: {command} --help"),
    "E-CHANGE-SAME": (
        "{path}: is both the mask before and the mask after",
        "give two different masks",
    ),
    "E-TILE-STEP": ("tile {tile} is not a multiple of the model's stride {stride}", "use {legal}"),
    "E-TILE-SIZE": ("tile {tile} is not a positive number of pixels", "use a multiple of {stride}"),
    "E-BAND-LIST": ("bands {bands!r} is not a list of band numbers", "write them as 1,2,3"),
    "E-MEMORY-SIZE": ("memory {memory!r} is not a size", "write it as 4GB, 800MB or 2GiB"),
    "E-OPTION": ("{option} {value!r} is not allowed", "use {allowed}"),
    "E-LEVEL": ("level {level} is not in {path}, which has {levels}", "choose one with --level"),
    "E-CONFIG": ("{path}: {reason}", "{do}"),
    "E-CHOICE": ("{path}: {option} {value!r} does not fit this image", "leave {option} out"),
    "E-CHOICE-RANGE": (
        "{path}: {option} {value} is not there",
        "choose {option} from 0 to {last}",
    ),
    "E-CHANNEL": ("{path}: {reason}", "choose {known}"),
    "E-SCENE-TWICE": ("{path}: is named twice", "name each file of a scene once"),
    "E-PIXEL-UNIT": (
        "pixels of {value} can't be compared to those of {path}, which are in {unit}",
        "give them in that unit",
    ),
    "E-MANIFEST": ("{path}: {reason}", "write a CSV file with the columns {allowed}"),
    "E-BATCH-NAME": (
        "{first} and {second} would both become {name}",
        "give them different results in the column out of a manifest",
    ),
    "E-REGION-UNIT": (
        "the least area {value} does not fit this mask, whose pixels are {known}",
        "give it in pixels, or in a unit of that kind",
    ),
    "E-INSTANCE-BORDER": (
        "no class is named border, the classes are {names}",
        "name its value with --border-class",
    ),
    "E-POLYGON-EXTRA": (
        "writing polygons as {format} needs pyogrio",
        "install it with pip install 'tilseg[gis]', or choose geojson or geoparquet",
    ),
    "E-VIEW-PORT": (
        "port {port} can't be taken ({reason})",
        "choose another with --port, or leave it out for a free one",
    ),
    "E-LEGEND": ("{path}: is no legend: {reason}", "see the guide to evaluate for its form"),
    "E-TRAIN-VALUES": (
        "{value!r} in the labels would stand for two classes, or for one and for none",
        "name it once in the training's file; a class without values stands for its place in the "
        "list, its name and its colour",
    ),
    "E-TRAIN-STAIN": (
        "stains are jittered in RGB of uint8 or uint16, these images have {bands} bands of {dtype}",
        "train with another augmentation than histology, or with a stain of 0",
    ),
}

INPUT: Words = {
    "E-INPUT-MISSING": ("{path}: no such file", "check the path"),
    "E-INPUT-REMOTE": (
        "{path}: is an address, which is read only where that is allowed",
        "allow it with --allow-remote, or download it first",
    ),
    "E-INPUT-ADDRESS": (
        "{address}: {reason}",
        "check the address and the connection, or download the file first",
    ),
    "E-INPUT-NAME": (
        "{path}: its name is not UTF-8 text",
        "rename it, or give a link of another name",
    ),
    "E-INPUT-DIRECTORY": (
        "{path}: is a directory",
        "give an image file such as a TIFF, an OME-Zarr folder, or the files of a scene",
    ),
    "E-INPUT-NOT-FILE": ("{path}: is not a regular file", "give an image file such as a TIFF"),
    "E-INPUT-EMPTY": ("{path}: has 0 bytes", "copy the file again"),
    "E-INPUT-FORMAT": ("{path}: {reason}", "give {expected}"),
    "E-INPUT-EXTRA": (
        "{path}: reading this slide needs OpenSlide",
        "install it with: pip install 'tilseg[wsi]'",
    ),
    "E-INPUT-REFERS": (
        "{path}: refers to {what}, which is not followed",
        "write it into one file of its own, for instance with gdal_translate",
    ),
    "E-INPUT-VRT": (
        "{path}: is a GDAL VRT, which refers to other files",
        "allow that with --allow-vrt, or write it into one file with gdal_translate",
    ),
    "E-INPUT-TRUNCATED": ("{path}: {reason}", "copy the file again"),
    "E-INPUT-READ": ("{path}: {reason}", "copy the file again, or save the image anew as a TIFF"),
    "E-INPUT-DTYPE": ("{path}: pixels are {dtype}", "convert them to one of {allowed}"),
    "E-INPUT-SCALE": (
        "{path}: pixels are {dtype}, the model's mean and deviation are of {wanted}",
        "scale and convert them to {wanted}, as the images were that it was trained on",
    ),
    "E-INPUT-BANDS": (
        "{path}: has {bands} bands, the model wants {wanted}",
        "choose with --bands {example}",
    ),
    "E-INPUT-BAND-NAMES": (
        "{path}: {reason}; its bands are {names}, the model's {wanted}",
        "add what is missing, or choose with --bands by number, in the model's order",
    ),
    "E-INPUT-BAND": ("{path}: there is no band {band}", "choose from its bands 1 to {bands}"),
    "E-INPUT-SHAPE": (
        "array of shape {shape} is no image",
        "give (rows, cols) or (rows, cols, bands)",
    ),
    "E-INPUT-ARRAY": (
        "{uri}: this array is not in the memory of this process",
        "save it as a file, which other processes can open",
    ),
    "E-INPUT-AMBIGUOUS": ("{path}: {found}", "choose {choose}"),
    "E-INPUT-PALETTE": (
        "{path}: its numbers stand for colours of a palette",
        "open its colours with --palette expand, or its class numbers with --palette index",
    ),
    "E-INPUT-SEGMENT": (
        "{path}: one compressed {kind} decodes to {size}, more than {bound}",
        "write it again with small tiles (gdal_translate -co TILED=YES, or vips tiffsave --tile)",
    ),
    "E-INPUT-SPARSE": (
        "{path}: declares {size}, of which {stored} of {count} {kind}s are stored",
        "cut out the part that holds data, for instance with gdal_translate -srcwin",
    ),
    "E-SCENE-DTYPE": (
        "{path}: pixels are {dtype}, those of {first} are {wanted}",
        "convert one of them, for instance with gdal_translate -ot",
    ),
    "E-SCENE-GRID": (
        "{path}: is {found}, {first} is {wanted}",
        "add --align to bring all to the finest grid, nearest; images of their own go to a folder, -o results/",
    ),
    "E-SCENE-ALIGN": (
        "{path}: can't be aligned to {grid}, for {reason}",
        "bring both on one grid first, for instance with gdalwarp",
    ),
    "E-PIXEL-UNKNOWN": (
        "{path}: states no pixel size",
        "give it, for instance with --pixel-size 0.25um",
    ),
    "E-PIXEL-FACTOR": (
        "{path}: its pixels are {times} times coarser than the {target} to segment at",
        "give another --mpp, or --mpp native to take them as they are",
    ),
    "E-INPUT-CHANGED": (
        "{path}: changed since the run began ({fields})",
        "run again on the file as it is now",
    ),
    "E-INPUT-NO-DATA": (
        "{path}: has no valid pixel in its sample, only nodata",
        "check its nodata value; there is nothing to segment",
    ),
    "E-TISSUE-NONE": (
        "{path}: no tissue {where}",
        "segment all of the image with --tissue none, or give another mask with --tissue FILE",
    ),
    "E-TISSUE-MASK": (
        "{path}: {reason}",
        "give a tissue mask that shows the whole image, 0 where there is none",
    ),
    "E-ROI": (
        "{path}: {reason}",
        "give polygons as GeoJSON: in pixels of the image, or in longitude and latitude on a map",
    ),
    "E-ROI-OUTSIDE": (
        "{path}: its polygons ({place}) lie outside the image of {image} pixels",
        "check that it was drawn on this image, in pixels of its finest level or with its CRS named",
    ),
    "E-TRAIN-EMPTY": ("{path}: holds no image", "give a folder with files ending in {suffixes}"),
    "E-TRAIN-PAIR": (
        "{path}: {reason}",
        "give every image one mask of the same name and place, or a table that names both",
    ),
    "E-TRAIN-SPLIT": (
        "{path}: {rows} x {cols} pixels can't be split into {parts}",
        "give {allowed}",
    ),
    "E-TRAIN-SIZE": (
        "{path}: the mask is {mask_rows} x {mask_cols} pixels, its image {rows} x {cols}",
        "make them equal",
    ),
    "E-TRAIN-PLACE": (
        "{path}: the mask does not lie where its image {image} lies",
        "bring both on one grid first",
    ),
    "E-TRAIN-TABLE": (
        "{path}: {reason}",
        "give a CSV with the columns image and mask, and where wanted split, group and patient",
    ),
    "E-TRAIN-PATIENT": (
        "all images are of the patient {name}, and some are needed of another for validation",
        "add images of another, or leave the column patient out",
    ),
    "E-TRAIN-CLASS": (
        "{path}: the mask holds {values}, the classes are {classes} (0 to {last}; {unlabelled} means not labelled)",
        "name every class with --classes, or say in a file what stands for which",
    ),
    "E-TRAIN-ONE-CLASS": (
        "{path}: the {part} masks hold {found}, and two or more are needed (255 means not labelled, it is no class)",
        "label more, use another --seed to split the images otherwise, or, where 255 is a class, "
        "give it `values = [255]` in the training's file",
    ),
    "E-TRAIN-BANDS": (
        "{path}: has {bands} bands, other training images have {wanted}",
        "give them all the same bands",
    ),
    "E-TRAIN-STATE": (
        "{path}: the state of an unfinished training is damaged",
        "remove it and train again",
    ),
    "E-MASK-DTYPE": (
        "the mask's pixels are {dtype}, where a mask of classes holds whole numbers",
        "round or convert it first",
    ),
    "E-MASK-NEGATIVE": (
        "the mask holds the class {value}, where classes are 0 and above",
        "name that value with --nodata if it means nothing",
    ),
    "E-MASK-BANDS": ("{path}: has {bands} bands", "give a mask with one band, the class numbers"),
    "E-MASK-NO-DATA": (
        "{path}: has no valid pixel, only nodata",
        "check its nodata value, or name another with --nodata",
    ),
    "E-FINISH-NOTHING": (
        "{path}: is no result and has no unfinished run beside it",
        "check the path, which is what -o was",
    ),
    "E-REGION-IMAGE": (
        "the image is {image} where the mask is {mask} (rows, cols)",
        "measure with the image the mask was made from",
    ),
    "E-VIEW-RESULT": ("{path}: {reason}", "give what tilseg run has written, or is writing"),
    "E-CLASSES-DTYPE": (
        "{path}: pixels are {dtype}, where a map of classes holds whole numbers",
        "round or convert it first",
    ),
    "E-CLASSES-BANDS": (
        "{path}: has {bands} bands",
        "give a map of classes with one, or with three of colours and a --legend of what they mean",
    ),
    "E-OBJECTS-NONE": (
        "{path}: holds no labels.zarr, which numbers objects",
        "make it: `tilseg run --labels`, or `tilseg measure --labels -o FOLDER` and give FOLDER",
    ),
    "E-CLASSES-NEGATIVE": (
        "{path}: holds the class {value}, where classes are 0 and above",
        "name that value with --ignore if it means nothing",
    ),
    "E-CLASSES-MANY": (
        "{path}: holds {count} different values, and up to {allowed} can be compared",
        "compare maps of classes; these look like numbers of objects",
    ),
    "E-CLASSES-NONE": ("{path}: {reason}", "check the values with --ignore, and the place"),
    "E-CLASSES-GRID": (
        "{path}: is {found}, but {grid} is {wanted}",
        "add --align to compare on that grid",
    ),
    "E-CHANGE-CLASSES": (
        "{path}: has the classes {found}, and none of those of {other}: {wanted}",
        "compare masks whose classes have the same names",
    ),
    "E-CLASSES-ALIGN": ("{path}: can't be aligned, for {reason}", "bring both on one grid first"),
    "E-LEGEND-UNKNOWN": (
        "{path}: holds {found}, which {legend} does not name",
        "add it to its classes or to its ignore",
    ),
    "E-TRUTH-VECTOR": ("{path}: {reason}", "expected polygons as GeoJSON, COCO or GeoPackage"),
    "E-TRUTH-EXTRA": (
        "{path}: reading this format needs pyogrio",
        "install it with: pip install 'tilseg[gis]'",
    ),
}

BLOCKS: Words = {
    "E-BLOCKS-FAILED": (
        "{failed} of {total} blocks failed ({tiles} tiles), nothing was published; first: {first}",
        "run the same command again to retry, or add --on-bad-tile mask",
    ),
}

MODEL: Words = {
    "E-MODEL-MISSING": (
        "model {name!r} is neither bundled nor a file{hint}",
        "use one of the bundled ({bundled}) or the path of a .safetensors file",
    ),
    "E-MODEL-DEFAULT": (
        "{path}: an image {place} with {bands} fits no model in the package ({models})",
        "give one with --model, or its bands with --bands",
    ),
    "E-MODEL-FORMAT": ("{path}: {reason}", "give a tilseg .safetensors model"),
    "E-MODEL-CODE": (
        "{path}: {what}, which may run code when it is loaded, so it is never loaded",
        "where you trust it, load it in a program of your own and save its weights with "
        "tilseg.models.network.save_model",
    ),
    "E-MODEL-CARD": (
        "{path}: the model card is wrong: {reason}",
        "save the model again with the card corrected",
    ),
    "E-MODEL-PARAMETERS": (
        "architecture {architecture!r} can't be built: {reason}",
        "correct the parameters",
    ),
    "E-MODEL-WEIGHTS": (
        "{path}: the weights do not fit the card: {reason}",
        "save the model again from the network that the card describes",
    ),
    "E-MODEL-NAN": ("{path}: weight {key!r} holds NaN or infinity", "use an undamaged model file"),
    "E-MODEL-INEXACT": (
        "{path}: not exact under tiling ({reason})",
        "allow it with --allow-inexact",
    ),
    "E-PRECISION-RANGE": (
        "{path}: on all of the image that --precision {precision} learns from the network gives NaN "
        "or infinity",
        "use --precision fp32, which names the tiles where it does",
    ),
    "E-PRECISION-MODEL": (
        "{path}: --precision {precision} is not for this network: {reason}",
        "use --precision bf16",
    ),
    "E-TRAIN-WEIGHTS": (
        "{path}: {reason}",
        "give weights of this network, or of a VGG-16 (torchvision's names) where it begins with one",
    ),
    "E-TRAIN-DIVERGED": (
        "the loss is {loss} at step {step}",
        "check the images for wrong values, or train with another --seed or --normalization image",
    ),
    "E-MODEL-CHANGED": (
        "{path}: is not the model the run was planned with",
        "restore that file, or start again with --overwrite",
    ),
}

OUTPUT: Words = {
    "E-OUTPUT-PARENT": (
        "{path}: its folder {parent} does not exist or can't be written",
        "make it first, or choose another place with -o",
    ),
    "E-OUTPUT-NAME": (
        "{path}: {reason}",
        "choose another with -o: a folder such as x.tilseg, or one file, x.tif or x.zarr",
    ),
    "E-OUTPUT-WRITE": (
        "{path}: could not be written ({reason}); finished blocks are kept",
        "free some space and run the same command again",
    ),
    "E-DISK": (
        "{path}: needs about {needed} more ({parts}), and at most {bound}, but {free} are free; finished blocks are kept",
        "free some space or choose another place with -o",
    ),
    "E-MODEL-WRITE": (
        "{path}: the model could not be written ({reason})",
        "free some space, or choose another place with -o",
    ),
    "E-EVALUATION-WRITE": (
        "{path}: the evaluation could not be written ({reason})",
        "free some space, or choose another place with -o",
    ),
    "E-OUTPUT-READBACK": (
        "{path}: reads back differently from what was written ({reason}); nothing was published",
        "check the disk and run the same command again",
    ),
    "E-POLYGON-DEGREES": (
        "{count} corners of regions have no longitude and latitude, which GeoJSON is in",
        "choose other formats with --polygons",
    ),
    "E-OUTPUT-INPUT": (
        "{path}: the output would touch the input {input}",
        "choose another with -o",
    ),
    "E-STDOUT": (
        "what the command has to say can't be written ({reason})",
        "free some space or send it elsewhere; a result that was announced is kept",
    ),
}

RESOURCES: Words = {
    "E-PRECISION-DEVICE": (
        "--precision {precision} needs an x86 CPU with AVX-512 VNNI",
        "use --precision bf16, or --device cpu if it has one",
    ),
    "E-NO-CUDA": ("device {device!r} was asked for, but {reason}", "use --device cpu"),
    "E-MEMORY": (
        "needs {needed} of memory, the budget is {budget}",
        "raise --memory or use a smaller --tile",
    ),
    "E-MEMORY-DEVICE": (
        "{device} has no room for an input of {rows} x {cols} pixels: {free} are free",
        "end what else runs there and continue, or begin anew with a smaller --tile or --device cpu",
    ),
    "E-MEMORY-SEGMENT": (
        "{path}: one strip, tile or chunk of it decodes to {size}, more than a quarter of the "
        "memory budget ({bound})",
        "raise --memory, or write the image again with small tiles",
    ),
    "E-WORKER-VERSION": (
        "a worker has {name} {worker}, the driver {driver}",
        "install the same on both",
    ),
    "E-WORKERS-DIED": (
        "no worker process stays alive",
        "look in the system's log for what kills them, often a lack of memory: use fewer --workers "
        "or a smaller --tile; finished blocks are kept",
    ),
    "E-SCHEDULER": ("{reason}", "check the address and that the scheduler runs"),
    "E-CLUSTER-EXTRA": (
        "--cluster slurm needs dask-jobqueue",
        "install it with: pip install 'tilseg[slurm]'",
    ),
    "E-CLUSTER": ("{reason}", "correct [slurm] in the file of --config, or ask your site"),
    "E-MEMORY-SPENT": (
        "the memory that this process may take is spent",
        "use a smaller --tile or fewer --workers, or close other programs; finished blocks are kept",
    ),
}

EXISTS: Words = {
    "E-EXISTS": (
        "{path}: exists and differs from this run in {fields}",
        "use --overwrite or another -o",
    ),
    "E-EXISTS-FOREIGN": ("{path}: exists and is not a tilseg result", "choose another with -o"),
    "E-EVALUATION-EXISTS": (
        "{path}: exists and holds no evaluation that could be replaced",
        "choose another with -o",
    ),
    "E-CHANGE-EXISTS": (
        "{path}: exists and holds more than an earlier change that could be replaced",
        "choose another with -o",
    ),
    "E-MEASURE-EXISTS": (
        "{path}: exists and holds more than tables and polygons of regions that could be replaced",
        "choose another with -o",
    ),
    "E-EXISTS-ADDED": (
        "{path}: holds {name}, which tilseg did not put there and --overwrite would remove",
        "move it elsewhere, or choose another output with -o",
    ),
    "E-EXISTS-DAMAGED": (
        "{path}: exists, but its receipt is damaged",
        "make it anew with --overwrite, or choose another -o",
    ),
    "E-PARTIAL-DAMAGED": (
        "{path}: the plan of this unfinished run is damaged",
        "start again with --overwrite",
    ),
    "E-PARTIAL": (
        "{path}: an unfinished run differs from this one in {fields}",
        "repeat its options, or start again with --overwrite",
    ),
    "E-TRAIN-EXISTS": (
        "{path}: exists, and this training would make another model: {fields} differ",
        "choose another with -o, or remove it",
    ),
    "E-TRAIN-PARTIAL": (
        "{path}: the unfinished training differs from this one in {fields}",
        "repeat its options, or remove it to begin again",
    ),
}

LOCKED: Words = {
    "E-LOCKED": (
        "{path}: another run owns it ({owner})",
        "wait for it, choose another -o, or, when you know that it is dead, add --break-lock",
    ),
    "E-LOCK-LOST": (
        "{path}: another run has taken it over ({owner})",
        "this one ends, what it finished is kept",
    ),
}

DAMAGE: Words = {
    "E-REGION-TABLE": (
        "a block's table of regions is damaged ({reason})",
        "compute that block again",
    ),
    "E-DAMAGE-BLOCK": (
        "{path}: what is stored at {window} is damaged ({reason})",
        "compute that block again",
    ),
    "E-VERIFY": (
        "{path}: {count} files differ from the receipt, the first is {first}",
        "run the same command again with --overwrite to make it anew",
    ),
    "E-VERIFY-RECEIPT": (
        "{path}: the receipt is damaged, nothing can be verified against it",
        "run the same command again with --overwrite to make it anew",
    ),
}

BATCH: Words = {
    "E-BATCH-FAILED": (
        "{failed} of {total} images failed, {table} says why",
        "run the same command again to retry them; the others are left as they are",
    ),
}

STOPPED: Words = {
    "E-BATCH-STOPPED": (
        "stopped after {done} of {total} images",
        "run the same command again to continue",
    ),
    "E-STOPPED": (
        "stopped after {done} of {total} blocks",
        "run the same command again to continue",
    ),
    "E-UNFINISHED": (
        "{path}: {done} of {total} blocks are done, and no result is made before all are",
        "run its command again, or all of its shards; those that are done end at once",
    ),
}
