"""How cost grows: python benchmarks/growth.py step|actors|classes, and then plot

Each command measures a family of costs in rounds and writes it into growth.json beside this file. `plot`
makes a picture of each family (docs/images/growth-*.png), and prints the laws.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
import laws
from laws import Series

_RESULTS = Path(__file__).with_name("growth.json")
_IMAGES = Path(__file__).parents[1] / "docs" / "images"


class _Numbers(click.ParamType):
    """Whole numbers with commas between them, in ascending order; may be empty."""

    name = "numbers"

    def convert(
        self, value: object, param: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, ...]:
        try:
            return tuple(sorted(int(word) for word in str(value).split(",") if word))
        except ValueError:
            self.fail(f"{value!r} is not numbers with commas between them", param, context)


NUMBERS = _Numbers()


@click.group(help=(__doc__ or "").partition("\n")[0])
@click.option("--results", type=click.Path(path_type=Path), default=_RESULTS, help="The JSON file.")
@click.pass_context
def main(context: click.Context, results: Path) -> None:
    context.obj = results


def _save(results: Path, family: str, series: Sequence[Series]) -> None:
    import torch
    from measure import machine

    command = " ".join(["growth.py", *sys.argv[1:]])
    laws.save(results, family, {"command": command, **machine(torch.device("cpu"))}, series)


@main.command(help="An iteration of recover against batch, resolution and BN teachers.")
@click.option("--arch", default="torchvision:resnet18", show_default=True)
@click.option("--batches", default="1,2,4,8,16,32,64", show_default=True, type=NUMBERS)
@click.option("--sizes", default="32,64,96,128,160,192,224", show_default=True, type=NUMBERS)
@click.option("--teachers", default="1,2,3,4,5,6", show_default=True, type=NUMBERS)
@click.option("--iterations", default=3, show_default=True, help="Measured iterations of a round.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=2, show_default=True, help="CPU threads.")
@click.pass_obj
def step(
    results: Path,
    arch: str,
    batches: tuple[int, ...],
    sizes: tuple[int, ...],
    teachers: tuple[int, ...],
    iterations: int,
    rounds: int,
    threads: int,
) -> None:
    import torch
    from growth_step import measure

    torch.set_num_threads(threads)
    device = torch.device("cpu")
    _save(results, "step", measure(arch, batches, sizes, teachers, rounds, iterations, device))


@main.command(help="The driver's work for a unit against the number of actors.")
@click.option("--of-threads", default="1,2,4,8,16,32,64", show_default=True, type=NUMBERS)
@click.option("--of-ray", default="1,2,4,8,16,32,64", show_default=True, type=NUMBERS)
@click.option("--units", default=600, show_default=True, help="Units of a round; of Ray's actors a third.")
@click.option("--rate", default=100.0, show_default=True, help="Units a second of all slow actors together.")
@click.option("--rounds", default=3, show_default=True)
@click.pass_obj
def actors(
    results: Path, of_threads: tuple[int, ...], of_ray: tuple[int, ...], units: int, rate: float, rounds: int
) -> None:
    from growth_actors import measure

    _save(results, "actors", measure(of_threads, of_ray, rounds, units, rate))


@main.command(help="Relabel and a student's step against the number of classes.")
@click.option("--arch", default="timm:test_resnet", show_default=True)
@click.option("--classes", "numbers", default="10,30,100,300,1000", show_default=True, type=NUMBERS)
@click.option("--images", default=33 * 64, show_default=True, help="Above 2,048, see growth_classes.py.")
@click.option("--size", default=32, show_default=True, help="Height and width of the images.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=2, show_default=True, help="CPU threads.")
@click.pass_obj
def classes(
    results: Path, arch: str, numbers: tuple[int, ...], images: int, size: int, rounds: int, threads: int
) -> None:
    import torch
    from growth_classes import measure

    torch.set_num_threads(threads)
    _save(results, "classes", measure(arch, numbers, images, size, rounds, torch.device("cpu")))


@main.command(help="A picture of each family that was measured, and its laws. Needs matplotlib.")
@click.option("--to", type=click.Path(path_type=Path), default=_IMAGES, help="The folder of the pictures.")
@click.pass_obj
def plot(results: Path, to: Path) -> None:
    from growth_plot import FAMILIES, draw

    for family, (how, series) in laws.load(results).items():
        click.echo(
            f"{how['command']}: {how['device']}, {how['cores']} cores, load {how['load']}, {how['date']}"
        )
        picture, found = draw(FAMILIES[family], series)
        (to / f"growth-{family}.png").write_bytes(picture)
        for law in found:
            click.echo(f"  {law}")


if __name__ == "__main__":
    main()
