"""Parquet files from anywhere, read without trusting them."""

from prism_ray.parquet.reading import ParquetReader, read_table

__all__ = ["ParquetReader", "read_table"]
