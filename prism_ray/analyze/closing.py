"""The end of `distill`: what came out, where it is, and what to do next. All else is in `status`."""

from collections.abc import Iterator

from rich.console import Console

from prism_ray.analyze.summary import Summary, student_table
from prism_ray.run import Run, RunProgress
from prism_ray.shell import command
from prism_ray.stages.base import set_folder
from prism_ray.store import StoreFiles, layout
from prism_ray.store.remedy import resume_command
from prism_ray.wording import printable, size

_MAX_SETS = 4  # whose folders are named


def print_closing(
    files: StoreFiles, run: Run, progress: RunProgress, summary: Summary, console: Console
) -> None:
    """Print the verdict, the students, and the places of images and labels."""
    console.print(printable(f"Verdict: {summary.verdict.text}\n"))
    if summary.results.rows:
        console.print(student_table(summary.results, "Students (last epoch)"))
    for line in places(files, run, progress):
        console.print(line)


def places(files: StoreFiles, run: Run, progress: RunProgress) -> Iterator[str]:
    """Yield a line for the images, the labels, the report and the store, if there are any."""
    names = [name for name in run.plan.image_sets if progress.figures[f"recover/{name}"].num_rows]
    for folder, stage, noun in (("images", "recover", "images"), ("labels", "relabel", "views")):
        sums = progress.sums[stage]
        if not sums.num_rows:
            continue
        folders = [f"{set_folder(name)}{folder}" for name in names]
        more = f" and {len(folders) - _MAX_SETS} more" if len(folders) > _MAX_SETS else ""
        where = ", ".join(folders[:_MAX_SETS]) + more
        yield f"{folder.title():<14}{sums.num_rows:,} {noun}, {size(sums.num_bytes)}, in {where}"
    if files.exists(layout.REPORT):
        yield f"Report        {layout.REPORT}, as it was made last"
    yield f"Store         {files.location}"


def next_commands(files: StoreFiles, is_complete: bool) -> tuple[str, str]:
    """Return the two commands that follow."""
    if is_complete:
        return command("report", files.location), command("status", files.location)
    return command("status", files.location), resume_command(files)
