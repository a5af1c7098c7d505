"""`prism-ray dashboard`: a page on a run that refreshes itself."""

import asyncio
import webbrowser

import click

from prism_ray.cli.common import existing_run, main, say, store_argument


@main.command()
@store_argument
@click.option("--port", default=0, show_default="a free one", type=click.IntRange(0, 65535))
@click.option(
    "--open/--no-open", "opens", default=True, show_default=True, help="Open the page in the browser."
)
def dashboard(store: str, port: int, opens: bool) -> None:
    """Show the run in STORE as a page of this machine, until Ctrl-C. Reads the store, and never writes to it.

    The page is only on 127.0.0.1, and asks for the token in its link. From another machine, forward the port:
    ssh -L PORT:127.0.0.1:PORT host.
    """
    from prism_ray.dashboard.server import serve
    from prism_ray.dashboard.state import DashboardState

    files, run = existing_run(store)

    def ready(link: str) -> None:
        say(f"{files.location} is at {link}")
        say("Ctrl-C ends the page, not the run")
        if opens:
            webbrowser.open(link)

    asyncio.run(serve(DashboardState(files, run), port, ready))
