"""Test files mirror modules: tests/<room>/test_<module>.py, or the test that is named here."""

from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "prism_ray"

# Modules without a file of their own, and the test through which they are covered.
COVERED_BY = {
    "__main__.py": "test_cli.py",
    "analyze/pool_table.py": "analyze/test_pool.py",
    "analyze/preview.py": "test_cli.py",
    "analyze/results.py": "analyze/test_compare.py",
    "analyze/forecast_table.py": "forecast/test_preview.py",
    "calibrate/__main__.py": "calibrate/test_process.py",
    "calibrate/measure.py": "calibrate/test_process.py",
    "calibrate/rig.py": "calibrate/test_process.py",
    "cli/common.py": "test_cli.py",
    "cli/dashboard.py": "dashboard/test_server.py",
    "analyze/closing.py": "cli/test_output.py",
    "analyze/plotly_script.py": "dashboard/test_server.py",
    "cli/exports.py": "run/test_export.py",
    "cli/reports.py": "report/test_write.py",
    "cli/runs.py": "test_cli.py",
    "cli/stores.py": "test_cli.py",
    "cli/sweeps.py": "sweep/test_drive.py",
    "collect/real_images.py": "collect/test_scores.py",
    "config/collect.py": "config/test_base.py",
    "config/selection.py": "stages/test_draws.py",
    "data/decode.py": "data/test_folder_images.py",
    "data/index.py": "data/test_indexing.py",
    "device.py": "work/test_memory.py",
    "crops.py": "test_geometry.py",
    "encodings/base.py": "encodings/test_encodings.py",
    "encodings/dense.py": "encodings/test_encodings.py",
    "encodings/top_k.py": "encodings/test_encodings.py",
    "encodings/values.py": "encodings/test_encodings.py",
    "methods/base.py": "methods/test_outside.py",
    "orchestrate/actor.py": "orchestrate/test_actors.py",
    "orchestrate/cluster.py": "orchestrate/test_session.py",
    "orchestrate/patience.py": "orchestrate/test_dispatch.py",
    "orchestrate/window.py": "orchestrate/test_scheduler.py",
    "forecast/kept.py": "forecast/test_preview.py",
    "parts/redraw.py": "parts/test_view_columns.py",
    "parts/rows.py": "run/test_compact.py",
    "parts/views.py": "relabel/test_views.py",
    "pipeline.py": "test_resume.py",
    "recover/setting.py": "recover/test_engine.py",
    "report/features.py": "report/test_build.py",
    "report/figure.py": "report/test_charts.py",
    "report/rows.py": "report/test_write.py",
    "report/store_page.py": "report/test_render.py",
    "run/dataset.py": "run/test_export.py",
    "run/sets.py": "run/test_load.py",
    "run/paths.py": "test_job_submission.py",
    "sealed.py": "recover/test_state.py",
    "sweep/forecast.py": "sweep/test_table.py",
    "stages/collect.py": "plan/test_plan.py",
    "stages/evaluate.py": "plan/test_plan.py",
    "stages/formation.py": "plan/test_plan.py",
    "stages/measure.py": "plan/test_plan.py",
    "stages/recover.py": "plan/test_plan.py",
    "stages/relabel.py": "plan/test_plan.py",
    "stages/squeeze.py": "plan/test_plan.py",
    "store/retries.py": "s3/test_s3.py",
    "teachers/layers.py": "collect/test_statistics.py",
    "teachers/training_state.py": "teachers/test_squeeze.py",
    "trackers/base.py": "run/test_tracking.py",
    "trackers/mlflow.py": "run/test_tracking.py",
    "trackers/tensorboard.py": "run/test_tracking.py",
    "trackers/trackio.py": "run/test_tracking.py",
    "trackers/wandb.py": "run/test_tracking.py",
    "work/collect.py": "work/test_worker.py",
    "work/context.py": "work/test_worker.py",
    "work/measure.py": "work/test_worker.py",
    "work/recover.py": "work/test_worker.py",
    "work/relabel.py": "work/test_worker.py",
    "work/squeeze.py": "work/test_worker.py",
}


def test_every_module_has_its_test_or_is_named_here() -> None:
    """Catches a module that nobody tests, and a table of tests that have gone."""
    without = set()
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE)
        own = TESTS / module.parent / f"test_{module.stem}.py"
        if module.stem != "__init__" and not own.exists():
            without.add(module.as_posix())
    assert without == COVERED_BY.keys()
    assert [name for name in set(COVERED_BY.values()) if not (TESTS / name).exists()] == []
