"""The names of the package that others may use: pinned, documented, and light to import."""

import importlib
import inspect
import subprocess
import sys

import prism_ray

NAMES = ["PrismRayError", "UsageError", "distill", "load", "open_run", "plan"]


def test_the_public_names_are_pinned() -> None:
    """Catches a name that users rely on and that is gone, or one that is public by accident."""
    assert sorted(prism_ray.__all__) == NAMES
    for name in prism_ray.__all__:
        assert inspect.getdoc(getattr(prism_ray, name)), name


def test_the_function_plan_outlives_the_import_of_the_room() -> None:
    """Catches the function `plan` replaced by the module prism_ray.plan: Python sets that attribute."""
    code = (
        "import prism_ray; from prism_ray.plan import Plan; import prism_ray.plan.fingerprint; "
        "assert prism_ray.plan.__name__ == 'plan' and prism_ray.plan.__module__ == 'prism_ray'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert callable(prism_ray.plan)
    assert inspect.ismodule(importlib.import_module("prism_ray.plan"))


def test_the_calls_have_hints_for_every_argument() -> None:
    """Catches a public function that a type checker takes for Any."""
    for name in ("distill", "load", "open_run", "plan"):
        signature = inspect.signature(getattr(prism_ray, name))
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(each.annotation is not each.empty for each in signature.parameters.values()), name
