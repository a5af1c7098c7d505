"""Plotly's script, for pages that carry or serve it themselves: nothing is fetched from elsewhere."""

from functools import cache
from importlib.resources import files as package_files

from prism_ray.errors import UsageError


@cache
def plotly_script() -> str:
    """Return plotly.min.js of the package plotly; raises UsageError if that is not installed."""
    try:  # as a file: `import plotly.offline` loads pandas
        text = (package_files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")
    except ImportError:
        raise UsageError(
            "charts are drawn with plotly, which is not installed; pip install 'prism-ray[report]'"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
