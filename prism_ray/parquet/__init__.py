"""Reads Parquet files of unknown origin, and trusts nothing in them."""

from prism_ray.parquet.reader import ParquetReader, read_table

__all__ = ["ParquetReader", "read_table"]
