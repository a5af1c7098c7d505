"""What a shell completes after `prism-ray`: keys of the config after --set, files and folders elsewhere."""

from typing import Any

import click
from click.shell_completion import CompletionItem


def complete_path(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete a path. URLs are not completed."""
    return [CompletionItem(incomplete, type="file")]


def complete_key(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the key of `--set KEY=VALUE`."""
    from prism_ray.config.complaints import all_config_keys

    names = (key for key in all_config_keys() if key.startswith(incomplete))
    return [CompletionItem(f"{name}=") for name in names if "=" not in incomplete]


def complete_schema(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the command of `prism-ray schema COMMAND`."""
    from prism_ray.cli.outputs import COMMANDS

    return [CompletionItem(name) for name in COMMANDS if name.startswith(incomplete)]


PATH: dict[str, Any] = {"shell_complete": complete_path}
KEY: dict[str, Any] = {"shell_complete": complete_key}
