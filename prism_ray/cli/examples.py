"""An example for each command, at the end of its help."""

import click

from prism_ray.stages import stage_names

EXAMPLES = {
    "compact": "prism-ray compact runs/digits --max-mb 64",
    "compare": "prism-ray compare runs/digits-1 runs/digits-2 --baseline random-real",
    "config schema": "prism-ray config schema > schema.json",
    "config show": "prism-ray config show jobs/digits.yaml --set recover.ipc=10",
    "dashboard": "prism-ray dashboard runs/digits --port 8765 --no-open",
    "distill": "prism-ray distill jobs/digits.yaml --set seed=1 --store runs/digits-1",
    "export": "prism-ray export runs/digits --to digits-prism --image-set prism",
    "failures": "prism-ray failures runs/digits --json",
    "gc": "prism-ray gc runs/digits --dry-run",
    "methods": "prism-ray methods",
    "plan": "prism-ray plan jobs/imagenet-1k.yaml --set recover.ipc=10",
    "report": "prism-ray report runs/digits -o digits.html",
    "retry": "prism-ray retry runs/digits --failed",
    "schema": "prism-ray schema status > status.schema.json",
    "show": "prism-ray show runs/digits --class 3 --initial --to sheet.png",
    "status": "prism-ray status runs/digits --watch",
    "sweep": "prism-ray sweep jobs/sweeps/bn-teachers.yaml --dry-run",
    "teachers": "prism-ray teachers jobs/digits.yaml",
    "verify": "prism-ray verify runs/digits --repair",
} | {name: f"prism-ray {name} jobs/digits.yaml" for name in stage_names()}


def add_examples(group: click.Group, prefix: str = "") -> None:
    """Put the example of each command of a group into its help."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            add_examples(command, f"{prefix}{name} ")
        elif prefix + name in EXAMPLES:  # a package from outside may add a stage without one
            command.epilog = f"\b\nExample:\n  {EXAMPLES[prefix + name]}"  # \b: not wrapped
