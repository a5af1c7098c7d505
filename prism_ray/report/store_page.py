"""The parts of the page that belong to one store: its teachers, its cost, its config, its hashes, its use."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prism_ray.analyze.results import number_text
from prism_ray.analyze.summary import Summary
from prism_ray.analyze.text_table import TextTable
from prism_ray.config import RecoverConfig, dump_config
from prism_ray.report.figure import Chart
from prism_ray.report.opened import Opened
from prism_ray.report.outcome import what_was_distilled
from prism_ray.report.rows import DrawRow, LossPoint
from prism_ray.report.run_charts import loss_charts, squeeze_chart, stage_table, supervision_chart, time_chart
from prism_ray.report.supervision import Supervision
from prism_ray.report.text import percent, shown, variance_text
from prism_ray.report.timeline import Cost, Timeline
from prism_ray.run import package_versions
from prism_ray.shell import command
from prism_ray.store.remedy import resume_command
from prism_ray.wording import duration, size


@dataclass(frozen=True)
class SetLosses:
    """The losses of one image set; no charts if the store has no curves of it."""

    image_set: str
    charts: tuple[Chart, ...]
    text: str
    matrix: Chart | None


@dataclass(frozen=True)
class StorePage:
    """What the page says about one store."""

    name: str
    location: str
    lead: str
    state: str
    next: str  # command that resumes the run; "" if it is complete
    teachers: TextTable
    made_by: str  # the teachers in a sentence
    cost: str  # in a sentence
    images: TextTable
    losses: tuple[SetLosses, ...]
    squeeze: Chart | None
    time: Chart | None
    stages: TextTable
    counts: tuple[tuple[str, str], ...]  # of attempts and the like
    config: str
    facts: TextTable
    hashes: TextTable
    code: tuple[tuple[str, str], ...]  # what it does, and the code
    notes: tuple[str, ...]

    def charts(self) -> list[Chart]:
        found = [self.squeeze, self.time]
        for each in self.losses:
            found += [*each.charts, each.matrix]
        return [chart for chart in found if chart is not None]


def make_store_page(
    opened: Opened, number: int, summary: Summary, supervision: Supervision, timeline: Timeline
) -> StorePage:
    """Return the parts of the page of store `number`."""
    prefix, run = f"store{number}", opened.run
    states = {stage.stage: (stage.state, stage.num_done, stage.num_units) for stage in summary.stages}
    state = "complete" if summary.complete else "incomplete"
    if summary.driver is not None and summary.driver.alive:
        state += "; a driver is at work"
    return StorePage(
        name=opened.name,
        location=opened.files.location,
        lead=what_was_distilled(opened),
        state=state,
        next="" if summary.complete else resume_command(opened.files),
        teachers=_teacher_table(opened, summary, supervision.draws),
        made_by=_made_by(opened, summary, supervision.draws),
        cost=_cost_text(timeline.cost, summary),
        images=_image_table(opened, summary),
        losses=tuple(_losses(opened, supervision, prefix)),
        squeeze=squeeze_chart(supervision.losses, prefix),
        time=time_chart(timeline, prefix),
        stages=stage_table(timeline, states),
        counts=_counts(timeline.cost),
        config=shown_lines(dump_config(run.config)),
        facts=_facts(opened),
        hashes=_hashes(opened),
        code=_code(opened, summary),
        notes=tuple(shown(note, 600) for note in opened.notes),
    )


def shown_lines(text: str) -> str:
    """Return a text of several lines with its invisible characters as escapes."""
    return "\n".join(shown(line) for line in text.split("\n"))


def _losses(opened: Opened, supervision: Supervision, prefix: str) -> list[SetLosses]:
    teachers = [teacher.name for teacher in opened.run.config.teachers.pool]
    found = []
    for index, (name, number) in enumerate(supervision.num_batches.items()):
        losses: list[LossPoint] = [each for each in supervision.losses if each.image_set == name]
        draws: list[DrawRow] = [each for each in supervision.draws if each.image_set == name]
        own = f"{prefix}-set{index}"
        charts = tuple(loss_charts(losses, own))
        text = ""
        if not number:
            text = "No batch of this image set is done yet."
        elif not charts:
            text = "This run has no curves: a version of prism-ray that kept none made these images."
        elif supervision.num_shown[name] < number:
            text = f"{supervision.num_shown[name]} of {number:,} batches are drawn, evenly chosen."
        found.append(SetLosses(name, charts, text, supervision_chart(draws, teachers, own)))
    return found


def _roles(opened: Opened, draws: Sequence[DrawRow]) -> dict[str, list[str]]:
    """Return what each teacher did, in words."""
    config, roles = opened.run.config, defaultdict(list)
    sets = [
        (name, its_run.config, its_run.config.image_sets[name])
        for name, its_run in opened.run.image_sets.items()
    ]
    optimised = [(name, whole, each) for name, whole, each in sets if isinstance(each, RecoverConfig)]
    for name, _, each in optimised:
        roles[each.primary].append(f"primary of {name}")
    shares: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    batches: defaultdict[str, set[str]] = defaultdict(set)
    for draw in draws:
        shares[draw.teacher, draw.image_set].append(draw.share)
        batches[draw.image_set].add(draw.batch)
    for (teacher, name), values in shares.items():
        share = sum(values) / len(batches[name])
        roles[teacher].append(
            f"statistics of {name}" + (f" ({100 * share:.0f} % of draws)" if share < 0.995 else "")
        )
    for name in config.label_teachers:
        roles[name].append("soft labels")
    for name in config.analyze.verifiers:
        roles[name].append("verifier, only judges")
    roles[config.feature_teacher].append("features")
    return roles


def _teacher_table(opened: Opened, summary: Summary, draws: Sequence[DrawRow]) -> TextTable:
    known = {teacher.name: teacher for teacher in summary.teachers}
    roles, rows = _roles(opened, draws), []
    for teacher in opened.run.config.teachers.pool:
        figures = known.get(teacher.name)
        accuracy = figures.test_accuracy if figures else None
        if figures and accuracy is None:
            accuracy = figures.validation_accuracy
        rows.append(
            (
                shown(teacher.name),
                shown(teacher.arch, 80),
                f"{figures.num_parameters:,}" if figures else "-",
                percent(accuracy, 2),
                "; ".join(roles[teacher.name]) or "none",
            )
        )
    columns = ("teacher", "network", "parameters", "accuracy on real images", "what it did")
    return TextTable("Teachers", columns, tuple(rows))


def _made_by(opened: Opened, summary: Summary, draws: Sequence[DrawRow]) -> str:
    config = opened.run.config
    primaries = {
        its_run.config.image_sets[name].primary
        for name, its_run in opened.run.image_sets.items()
        if isinstance(its_run.config.image_sets[name], RecoverConfig)
    }
    matched = dict.fromkeys(draw.teacher for draw in draws)
    ordered = [teacher.name for teacher in config.teachers.pool]
    parts = []
    if primaries:
        parts.append(f"classes from {_listed(n for n in ordered if n in primaries)}")
    if matched:
        parts.append(f"statistics from {_listed(n for n in ordered if n in matched)}")
    parts.append(f"soft labels from {_listed(config.label_teachers)}")
    if config.analyze.verifiers:
        parts.append(f"judged by {_listed(config.analyze.verifiers)}")
    text = "; ".join(parts)
    makers = {*primaries, *matched, *config.label_teachers}  # a verifier alone made nothing
    accuracies = [
        t.test_accuracy for t in summary.teachers if t.name in makers and t.test_accuracy is not None
    ]
    reach = ""
    if accuracies:
        low, high = f"{100 * min(accuracies):.1f}", f"{100 * max(accuracies):.1f}"
        reach = (
            f" The teachers reach {low} % on real test images."
            if low == high
            else (f" The teachers reach {low} to {high} % on real test images.")
        )
    return f"{text[0].upper()}{text[1:]}.{reach}"


def _listed(names: Any) -> str:
    *first, last = [shown(name) for name in names] or ["none"]
    if len(first) > 7:
        return f"{', '.join(first[:7])} and {len(first) - 6} more"
    return f"{', '.join(first)} and {last}" if first else last


def _cost_text(cost: Cost, summary: Summary) -> str:
    if not cost.actor_seconds:
        return "Nothing is done yet."
    text = f"{duration(cost.actor_seconds)} of actors' work"
    if cost.wall_seconds is not None:
        at_once = cost.actor_seconds / max(cost.wall_seconds, 1.0)
        text += f" in {duration(cost.wall_seconds)}, {at_once:.1f} at a time on average"
        if cost.num_hosts > 1:
            text += f" on {cost.num_hosts} machines"
    gpus = cost.gpus_per_actor
    if gpus == 0.0:
        text += f": {cost.actor_hours * cost.threads_per_actor:.3g} CPU-thread hours, no GPU"
    elif gpus is not None:
        text += f": {cost.actor_hours * gpus:.3g} GPU-hours"
    else:
        text += f": {cost.actor_hours:.3g} actor-hours, which are GPU-hours if each actor had a GPU"
    return f"{text}. The store takes {size(sum(cost.bytes_by_stage.values()))}."


def _image_table(opened: Opened, summary: Summary) -> TextTable:
    """Return the images of each set: number, cost, diversity, bytes of images and labels."""
    sets = (*summary.results.image_sets, *summary.other_results.image_sets)
    rows = []
    for each in sets:
        images, labels = (opened.progress.figures[f"{stage}/{each.name}"] for stage in ("recover", "relabel"))
        epochs = opened.run.image_sets[each.name].config.relabel.num_label_epochs
        per_image = (
            labels.num_bytes / each.num_images / epochs if each.num_images and labels.num_bytes else None
        )
        rows.append(
            (
                shown(each.name),
                each.method,
                f"{each.num_images:,}",
                f"{each.seconds:,.1f}",
                number_text(each.images_per_second, ".2f"),
                number_text(each.cosine_mean, ".3f"),
                variance_text(each.cosine_variance),
                " ".join(percent(share) for share in each.verified.values()) or "-",
                size(images.num_bytes),
                size(labels.num_bytes) if labels.num_bytes else "-",
                number_text(per_image, ".0f"),
            )
        )
    columns = (
        *("image set", "method", "images", "actor s", "images/s of an actor", "cosine", "its variance"),
        *("verified", "images, bytes", "labels, bytes", "bytes per label"),
    )
    return TextTable("Image sets", columns, tuple(rows))


def _counts(cost: Cost) -> tuple[tuple[str, str], ...]:
    return (
        ("Failed attempts, each repeated", f"{cost.num_failed:,}"),
        ("Units set aside", f"{cost.num_set_aside:,}"),
        ("Units that resumed from a checkpoint", f"{cost.num_resumed:,}"),
        ("Teachers found in an actor's cache", _recorded(cost.num_hits)),
        ("Teachers loaded", _recorded(cost.num_loads)),
        ("Actors lost with their machines (preemptions)", _recorded(cost.num_preempted)),
    )


def _recorded(number: int | None) -> str:
    return "not recorded" if number is None else f"{number:,}"


def _facts(opened: Opened) -> TextTable:
    run, here = opened.run, package_versions()
    rows = [
        ("begun", run.created_at, ""),
        ("plan version", str(run.plan_version), ""),
        ("threads per actor", str(run.num_threads), ""),
        ("hash of the real images", run.facts.identity, ""),
    ]
    rows += [
        (name, version, here.get(name, "-") if here.get(name) != version else "")
        for name, version in run.versions.items()
    ]
    return TextTable(
        "Versions",
        ("what", "of the run", "of this report, if another"),
        tuple((shown(a), shown(b, 120), shown(c)) for a, b, c in rows),
    )


def _hashes(opened: Opened) -> TextTable:
    rows = []
    for scope, fingerprint in opened.run.fingerprints.items():
        commit = opened.progress.commits.get(scope)
        sha256 = commit.files[0].sha256 if commit and commit.files else ""
        rows.append((shown(scope, 100), fingerprint, sha256))
    return TextTable(
        "Fingerprints and hashes", ("scope", "fingerprint", "SHA-256 of its first file"), tuple(rows)
    )


def _code(opened: Opened, summary: Summary) -> tuple[tuple[str, str], ...]:
    location, first = opened.files.location, next(iter(opened.run.image_sets))
    return (
        (
            "Images, labels, students and units as tables",
            f"import prism_ray\n\nrun = prism_ray.open_run({location!r})\n"
            f"images = run.images({first!r})  # a pyarrow.Table; datasets.Dataset(images) takes it\n"
            "students = run.students().to_pandas()",
        ),
        (
            "What the students train with, as a torch dataset",
            f"import prism_ray\n\ndata = prism_ray.load({location!r}, {first!r})\n"
            "for epoch in range(data.num_epochs):\n    data.set_epoch(epoch)\n"
            "    for image, label, soft_label, view in data: ...",
        ),
        (
            "A Hugging Face dataset with soft labels, for people without prism-ray",
            command("export", location, "--as", "dataset", "--image-set", first, "--to", "FOLDER"),
        ),
        (
            "Check every file, and compare with runs of other seeds",
            f"{command('verify', location)}\n{command('compare', location, 'STORE...')}",
        ),
    )
