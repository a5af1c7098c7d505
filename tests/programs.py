"""Programs that tests run in a process of their own, with all that they start; scripts that they import."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def run_program(source: str, *arguments: str, environment: dict[str, str], timeout: float) -> dict[str, Any]:
    """Run Python source; return the JSON object that it prints last. What hangs is killed as a whole."""
    process = subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        cwd=Path(__file__).parents[1],  # so that it can import from `tests`
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, err
    result: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return result


def load_script(path: Path) -> ModuleType:
    """Import a script that belongs to no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
