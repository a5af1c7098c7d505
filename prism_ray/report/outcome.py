"""What the runs are worth, by the room analyze: the verdict, the fair scores, figures over runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from prism_ray.analyze.compare import Comparison, check_comparable, default_baseline, shared_rows
from prism_ray.analyze.compare import compare as compare_runs
from prism_ray.analyze.fair import FairFigures, fair_figures, missing_controls, spread_notes
from prism_ray.analyze.results import Results, student_spread
from prism_ray.analyze.summary import Summary, summarise
from prism_ray.analyze.verdict import Verdict, judge, observe
from prism_ray.errors import UsageError
from prism_ray.methods import find_method
from prism_ray.report.opened import Opened

_NO_GAIN = 0.02  # an interval that ends here or below shows that there is no gain to speak of
_MAX_NAMED = 3


@dataclass(frozen=True)
class Outcome:
    """The verdict on one run, or on several runs together if they can be compared."""

    verdict: Verdict
    apart: str  # why several stores have no verdict together; "" for one store, or if they have one
    summaries: tuple[Summary, ...]  # of each store
    fair: tuple[tuple[str, FairFigures], ...]  # of the runs together (""), or of each store by its name
    comparison: Comparison | None  # of several runs
    notes: tuple[str, ...]  # what the +- means, and which controls are missing
    results: tuple[tuple[str, Results], ...]  # the rows of each store


def judge_stores(stores: Sequence[Opened]) -> Outcome:
    """Return the outcome; raises StoreError if a commit does not have the figures of its unit."""
    summaries = tuple(summarise(each.files, each.run, each.progress) for each in stores)
    observed = [observe(each.files, each.run, each.progress) for each in stores]
    results = tuple((each.name, seen.results) for each, seen in zip(stores, observed, strict=True))
    first = stores[0].run
    apart, comparison = "", None
    if len(stores) > 1:
        try:
            check_comparable({each.name: (each.run, each.progress) for each in stores})
        except UsageError as error:
            apart = str(error)
    if apart or len(stores) == 1:
        fair = tuple((each.name, s.fair) for each, s in zip(stores, summaries, strict=True))
        verdict, over = summaries[0].verdict, [results[0][1]]
    else:
        shared, left_out = shared_rows([each.results for each in observed])
        if left_out:
            stores[0].note(f"{', '.join(left_out)}: not compared, because not all runs have it")
        comparison = compare_runs(shared, default_baseline(first)) if any(e.rows for e in shared) else None
        verdict, over = judge(first, observed), shared
        fair = (("", fair_figures(first, shared)),)
    notes = spread_notes(fair[0][1], student_spread(over), over_runs=len(over) > 1)
    missing = missing_controls(first.config)
    return Outcome(
        verdict, apart, summaries, fair, comparison, (*notes, *([missing] if missing else ())), results
    )


@dataclass(frozen=True)
class Headline:
    """The answer to "is the set any good?" in a few words."""

    tone: str  # good, level, bad, unknown
    text: str
    detail: str


def headline(verdict: Verdict, complete: bool) -> Headline:
    """Return the answer, from the figures of a verdict: the best image set against its control."""
    if not verdict.gains:
        return Headline("unknown", "Nothing to compare with" if complete else "No verdict yet", "")
    best, hard = verdict.gains[0], {gain.image_set: gain for gain in verdict.hard_label_gains}
    if best.level == "above" and best.is_sure:
        better = [gain.image_set for gain in verdict.gains if gain.level == "above" and gain.is_sure]
        tone, text = "good", f"{_listed(better)} better than random real images"
    elif best.level == "BELOW" and best.is_sure:
        tone, text = "bad", "Worse than random real images"
    elif best.interval is not None and best.interval[1] <= _NO_GAIN:
        tone, text = "level", "No better than random real images"
    else:
        points = f"{100 * abs(best.gain):.1f} points {best.level.lower()}"
        where = "level with" if best.level == "level" else points
        tone, text = "level", f"Not sure: {best.image_set} is {where} random real images"
    detail = ""
    if best.image_set in hard and best.level == "above":
        other = hard[best.image_set]
        kept = other.is_sure and other.level == "above"
        detail = (
            "It gains with hard labels too."
            if kept
            else ("With hard labels in place of the soft ones no gain is shown.")
        )
    return Headline(tone, text, detail)


def _listed(names: Sequence[str]) -> str:
    """Return names as the subject of a sentence, with its verb."""
    if len(names) == 1:
        return f"{names[0]} is"
    if len(names) > _MAX_NAMED:
        return f"{', '.join(names[:_MAX_NAMED])} and {len(names) - _MAX_NAMED} more are"
    return f"{', '.join(names[:-1])} and {names[-1]} are"


def what_was_distilled(opened: Opened) -> str:
    """Return in one sentence what the run made of what."""
    run, facts = opened.run, opened.run.facts
    made = []
    for name, its_run in run.image_sets.items():
        config = its_run.config.image_sets[name]
        method = find_method(config.method)
        if method is not None and method.optimises:
            made.append((name, method.title, config.ipc))
    ipcs = sorted({ipc for _, _, ipc in made}) or sorted(
        {each.ipc for each in run.config.image_sets.values()}
    )
    count = " or ".join(map(str, ipcs))
    noun = "image" if ipcs == [1] else "images"
    titles = list(dict.fromkeys(title for _, title, _ in made))
    by = f" by {' and '.join(titles)}" if titles else ", selected and not optimised,"
    size, source = run.config.data.image_size, run.config.data.source
    classes = "1 class" if facts.num_classes == 1 else f"{facts.num_classes:,} classes"
    return (
        f"{sum(facts.train_counts):,} real images of {source} in {classes} became {count} {noun} per class"
        f"{by} at {size} x {size} pixels (seed {run.config.seed})."
    )
