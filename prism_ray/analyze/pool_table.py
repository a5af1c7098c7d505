"""The figures of the teacher pool and their table; pool.py measures them. Loads no torch."""

from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class NetworkFigures:
    """One member of the pool."""

    name: str  # name in the pool
    arch: str  # architecture
    num_parameters: int  # weights and biases
    num_bn_layers: int  # batch normalization layers
    size: int  # pixels of a side of its input
    flops: int  # of one image forward; a multiplication and an addition are two
    step_seconds: float  # forward and backward to the input, per image
    step_bytes: int  # peak memory of such a step, per image, without the weights
    test_accuracy: float | None  # share in [0, 1]; None: not in the store yet, or no test images
    weights_sha256: str | None  # None: not in the store yet


@dataclass(frozen=True)
class PoolFigures:
    """The figures of the pool, and the conditions of the measurement."""

    device: str  # that measured, as PyTorch calls it: cpu, cuda
    batch_size: int  # images per forward pass
    num_threads: int  # of the CPU
    networks: tuple[NetworkFigures, ...]  # in the order of the pool

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return asdict(self)


def print_pool(figures: PoolFigures, console: Console) -> None:
    """Print the pool as a table."""
    table = Table(
        title="Teacher pool", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, show_edge=False
    )
    for column in ("name", "architecture"):
        table.add_column(column, no_wrap=True)
    for column in ("size", "parameters", "BN layers", "MFLOPs", "ms", "MiB", "accuracy"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    for network in figures.networks:
        accuracy, digest = network.test_accuracy, network.weights_sha256
        arch, at, weights = network.arch.partition("@")
        table.add_row(
            network.name,
            arch + at + weights.rpartition("/")[2],  # without the folders of a file
            str(network.size),
            f"{network.num_parameters:,}",
            str(network.num_bn_layers),
            f"{network.flops / 1e6:,.1f}",
            f"{1000 * network.step_seconds:.3g}",
            f"{network.step_bytes / 2**20:.3g}",
            "-" if accuracy is None else f"{100 * accuracy:.2f} %",
            "-" if digest is None else digest[:12],
        )
    console.print(table)
    console.print(
        "MFLOPs: forward. ms, MiB: forward and backward to the pixels with the BN statistics, without the "
        f"weights. All per image, in batches of {figures.batch_size} on {figures.device}"
        + (f", {figures.num_threads} threads." if figures.device == "cpu" else "."),
        highlight=False,
        soft_wrap=True,
    )
