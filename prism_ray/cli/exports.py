"""The command `export`: images and labels for use without this package, on disk or on the Hub."""

from typing import Any

import click

from prism_ray.cli.common import existing_run, main, say, store_argument
from prism_ray.errors import UsageError


@main.command()
@store_argument
@click.option("--to", "target", metavar="URL", help="New folder or URL to write to.")
@click.option(
    "--as",
    "kind",
    type=click.Choice(["folder", "dataset"]),
    help="folder (default): PNG files in class folders. dataset: a Hugging Face dataset with soft labels.",
)
@click.option("--image-set", metavar="NAME", help="The image set. Default: the first one of the config.")
@click.option("--set", "old_image_set", metavar="NAME", hidden=True)
@click.option("--without-labels", is_flag=True, help="Leave the soft labels out of a dataset.")
@click.option(
    "--push",
    "repository",
    metavar="USER/NAME",
    help="Send a dataset to a new, private repository of the Hugging Face Hub, in place of --to.",
)
def export(
    store: str,
    target: str | None,
    kind: str | None,
    image_set: str | None,
    old_image_set: str | None,
    without_labels: bool,
    repository: str | None,
) -> None:
    """Export the images of STORE for use without this package; as a dataset with their soft labels."""
    from prism_ray.config.renamed import note

    if old_image_set is not None:
        if image_set is not None:
            raise UsageError(
                "--set and --image-set are the old and the new name of one option, and both are given; "
                "remove --set"
            )
        say(f"note: {note('--set', '--image-set', f'--set {old_image_set}')}", err=True)
    kind = kind or ("dataset" if repository is not None else "folder")
    if repository is not None and kind != "dataset":
        raise UsageError("--push sends a dataset; leave out `--as folder`")
    if without_labels and kind != "dataset":
        raise UsageError("--without-labels is for --as dataset; class folders never have labels")
    if (target is None) == (repository is None):
        raise UsageError("give either a new folder with --to, or a new repository of the Hub with --push")
    files, run = existing_run(store)
    name = image_set or old_image_set or run.plan.image_sets[0]
    if repository is not None:
        _push(files, run, name, without_labels, repository)
        return
    assert target is not None
    said, code = _write(files, run, name, kind, target, without_labels)
    say(f"{said}\nNext: read them in Python with\n  {code}")


def _write(files: Any, run: Any, name: str, kind: str, target: str, without_labels: bool) -> tuple[str, str]:
    """Write an export; return what was written, and the Python code that reads it."""
    from prism_ray.run import NOT_IN_CONFIG
    from prism_ray.run.dataset import export_dataset, how_to_read_dataset
    from prism_ray.run.export import check_new, export_folder, how_to_read_folder
    from prism_ray.run.sets import commits_of_set
    from prism_ray.store import StoreFiles, layout

    its_run, commits = run.of_image_set(name, files.location), commits_of_set(files, run, name)
    relabel, labels = its_run.config.relabel, None
    if kind == "dataset" and not without_labels and relabel.mode != "online":
        try:
            labels = commits_of_set(files, run, name, "relabel")
        except UsageError as error:
            raise UsageError(f"{error}; or export the images alone, with --without-labels") from None
    to = StoreFiles(target, "--to")
    check_new(to)
    to.check_usable()
    to.remove_empty(layout.WIP)
    if kind == "folder":
        num_images = export_folder(files, its_run, name, commits, to)
        code = how_to_read_folder(to, its_run.facts.class_names)
    else:
        num_images = export_dataset(files, its_run, name, commits, to, labels=labels)
        code = how_to_read_dataset(to)
    note = "" if its_run is run else f" ({NOT_IN_CONFIG})"
    what = f"{num_images} images of {name}{note}"
    if labels is not None:
        what += f", with the soft labels of {relabel.num_label_epochs} epochs,"
    return f"{what} are in {to.location}", code


def _push(files: Any, run: Any, name: str, without_labels: bool, repository: str) -> None:
    """Write a dataset to a temporary folder and send it to the Hub."""
    from tempfile import TemporaryDirectory

    from prism_ray.run.push import Hub

    hub = Hub(repository)
    with TemporaryDirectory(prefix="prism-ray-") as folder:
        target = f"{folder}/dataset"
        said, _ = _write(files, run, name, "dataset", target, without_labels)
        address = hub.push(target)
    say(f"{said.removesuffix(target)}{address}, which is private; make it public in its settings")
    say(f"Next: read it in Python with\n  datasets.load_dataset({repository!r})")
