"""The report of a run: one HTML page that can be sent to others, and the numbers behind it as files.

It reads stores and writes nothing to them but the page. It needs the extra `report`. Torch is loaded late,
and only for what no store has: features for the projection, and initial images that no image set contains.
"""
