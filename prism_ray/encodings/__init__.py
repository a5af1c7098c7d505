"""The encodings of soft labels by name: how the logits of a view become columns of a Parquet file, and back.

A new encoding needs a class in a module here and a row of `ENCODINGS`; `relabel.encoding` takes its name.
"""

from collections.abc import Mapping

from prism_ray.encodings.base import LabelEncoding
from prism_ray.encodings.fp16 import Fp16

__all__ = ["ENCODINGS", "LabelEncoding"]

ENCODINGS: Mapping[str, LabelEncoding] = {"fp16": Fp16()}
