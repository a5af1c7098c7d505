"""The page as one HTML file, with the chart library and all data, and a policy that allows no more.

The Content-Security-Policy names every script and style by its hash. Images are data in the file, and nothing
can be fetched or sent. Data are JSON in elements that browsers do not run.
"""

import base64
import hashlib
import json
import re
from importlib.resources import files as package_files
from importlib.util import find_spec
from typing import Any

from prism_ray.analyze.fair import fair_tables
from prism_ray.analyze.plotly_script import plotly_script
from prism_ray.analyze.results import number_text
from prism_ray.analyze.text_table import TextTable
from prism_ray.errors import UsageError
from prism_ray.report.build import Report
from prism_ray.report.classes import extremes
from prism_ray.report.outcome import headline
from prism_ray.report.rows import ClassRow
from prism_ray.report.text import percent, shown, variance_text
from prism_ray.run import package_versions

MAX_BYTES = 30 * 10**6
_NEEDED = ("jinja2", "plotly")
# Plotly and its maps make these elements if they are missing, which the policy forbids: so the page has them.
_PLOTLY_STYLE = "/* rules of Plotly */"
_PLOTLY_STYLE_IDS = re.compile(r'getElementById\("([0-9a-f]{64})"\)')


def check_extra() -> None:
    """Raise UsageError if the packages of the extra `report` are missing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"a report needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            "installed; run `pip install 'prism-ray[report]'`"
        )


def render(report: Report) -> bytes:
    """Return the page as UTF-8."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("prism_ray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shown, "percent": percent}
    script, style = _asset("report.js"), _asset("report.css")
    plotly = plotly_script().replace("</script", "<\\/script")
    page = environment.get_template("report.html.j2").render(
        report=report,
        outcome=report.outcome,
        pages=report.pages,
        headlines=_headlines(report),
        version=package_versions()["prism-ray"],
        policy=_policy([script, plotly], [style, _PLOTLY_STYLE]),
        script=script,
        style=style,
        plotly_style=_PLOTLY_STYLE,
        plotly_style_ids=["plotly.js-style-global", *sorted(set(_PLOTLY_STYLE_IDS.findall(plotly)))],
        plotly=plotly,
        charts=_json({chart.id: chart.figure | {"height": chart.height} for chart in report.charts()}),
        pictures=_json(_pictures(report)),
        pictures_note=_pictures_note(report),
        order=_json([row.label for row in _by_diversity(report)]),
        extremes=_extremes(report),
        fair_tables=[
            (name if len(report.outcome.fair) > 1 else "", fair_tables(figures))
            for name, figures in report.outcome.fair
        ],
        has_variance=any(row.cosine_variance for row in report.class_rows),
        has_verified=any(row.verified is not None for row in report.class_rows),
        loss_panels=[(page, each) for page in report.pages for each in page.losses],
        loss_titles=_loss_titles(report),
        atlases=[
            (f"atlas-{row}-{block}", atlas.data)
            for row, each in enumerate(report.pictures.rows)
            for block, atlas in enumerate(each.atlases)
        ],
    )
    return page.encode(errors="backslashreplace")


def _headlines(report: Report) -> list[dict[str, Any]]:
    """Return the answers at the top: one for all stores, or one for each if they cannot be compared."""
    outcome = report.outcome
    if not outcome.apart:
        complete = all(summary.complete for summary in outcome.summaries)
        return [{"store": "", "headline": headline(outcome.verdict, complete), "verdict": outcome.verdict}]
    return [
        {"store": page.name, "headline": headline(each.verdict, each.complete), "verdict": each.verdict}
        for page, each in zip(report.pages, outcome.summaries, strict=True)
    ]


def _pictures(report: Report) -> dict[str, Any]:
    """Return what the page must know of the image grids; the atlases are elements of their own."""
    pictures = report.pictures
    blocks = pictures.rows[0].atlases if pictures.rows else ()
    several = len(report.pages) > 1
    return {
        "side": pictures.form.side if pictures.form else 0,
        "blocks": [list(atlas.labels) for atlas in blocks],
        "names": [shown(name) for name in report.class_names],
        "rows": [
            {
                "name": shown(row.image_set) or f"initial images of {shown(', '.join(row.starts))}",
                "store": shown(row.store) if several else "",
                "starts": [shown(name) for name in row.starts] if row.image_set else [],
                "columns": [atlas.num_columns for atlas in row.atlases],
                "missing": [list(map(list, atlas.missing)) for atlas in row.atlases],
            }
            for row in pictures.rows
        ],
    }


def _pictures_note(report: Report) -> str:
    """Return what the grids leave out, in sentences."""
    form, rows = report.pictures.form, report.pictures.rows
    if form is None or not rows:
        return ""
    ipc, num_classes = max(row.ipc for row in rows), report.pictures.num_classes
    parts = []
    if form.num_ipc < ipc:
        parts.append(f"the first {form.num_ipc} of {ipc} images of each class")
    if len(form.labels) < num_classes:
        parts.append(f"{len(form.labels):,} of {num_classes:,} classes, evenly chosen")
    size = f"Thumbnails have {form.side} x {form.side} pixels."
    return f"To keep the file small, it has only {' of '.join(parts)}. {size}" if parts else size


def _by_diversity(report: Report) -> list[ClassRow]:
    """Return the classes of the first measured set that is no control, the least diverse first."""
    rows = [row for row in report.class_rows if row.cosine_mean is not None]
    sets = list(dict.fromkeys((row.store, row.image_set) for row in rows))
    own = [key for key in sets if key[1] not in report.controls] or sets
    chosen = [row for row in rows if (row.store, row.image_set) == own[0]] if own else []
    return sorted(chosen, key=lambda row: -(row.cosine_mean or 0.0))


def _extremes(report: Report) -> list[TextTable]:
    """Return the least and the most diverse classes as tables; none without measures."""
    rows = _by_diversity(report)
    if len(rows) < 2:
        return []
    of = shown(rows[0].image_set) + (f" · {rows[0].store}" if len(report.pages) > 1 else "")
    columns = ("class", "cosine", "its variance", "verified", "students")
    return [
        TextTable(
            f"The {len(some)} {what} diverse classes of {of}",
            columns,
            tuple(
                (
                    shown(row.class_name, 40),
                    number_text(row.cosine_mean, ".3f"),
                    variance_text(row.cosine_variance),
                    percent(row.verified),
                    percent(row.student_accuracy),
                )
                for row in some
            ),
        )
        for what, some in zip(("least", "most"), extremes(rows), strict=True)
    ]


def _loss_titles(report: Report) -> list[str]:
    several = len(report.pages) > 1
    return [
        f"{shown(each.image_set)} · {page.name}" if several else shown(each.image_set)
        for page in report.pages
        for each in page.losses
    ]


def _json(values: Any) -> str:
    """Return JSON that cannot end the element that it is in; pure ASCII."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(scripts: list[str], styles: list[str]) -> str:
    return (
        f"default-src 'none'; script-src {_hashes(scripts)}; style-src {_hashes(styles)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hashes(texts: list[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _asset(name: str) -> str:
    """Return a script or style of this package as it stands in the page."""
    return (package_files("prism_ray.report") / "page" / name).read_text("utf-8").replace("\r\n", "\n")
