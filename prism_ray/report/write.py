"""The numbers of a report as files (`--data`): JSON, and Parquet for each table."""

import io

import pyarrow.parquet as pq

from prism_ray.errors import StoreError
from prism_ray.report.build import Report, encode_figures
from prism_ray.store import StoreFiles, layout


def write_data(report: Report, folder: str) -> list[str]:
    """Write figures.json and a Parquet file for each table; return their names. Old ones are replaced."""
    to = StoreFiles(folder, "--data")
    files = {"figures.json": encode_figures(report)}
    for name, table in report.tables.items():
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        files[f"{name}.parquet"] = sink.getvalue()
    for name, data in files.items():
        try:
            to.replace(name, data)
        except StoreError as error:
            raise StoreError(f"--data {folder}: {error.problem}; give another folder") from error
    to.remove_empty(layout.WIP)
    return list(files)
