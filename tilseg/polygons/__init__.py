"""Outlines of regions as polygons, as if the mask had never been cut, and the files that hold them.

corners -> chains -> outlines -> pieces trace and join; placing gives coordinates; shapes hands them to
geojson and arrow_files; `files.write_polygons` is what a run and `tilseg.measure` call.
"""
