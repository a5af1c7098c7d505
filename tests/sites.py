"""Folders of installed packages, as pip would have left them, made of the examples in documents."""

import re
from pathlib import Path


def install(folder: Path, document: Path, module: str) -> Path:
    """Install the module and the entry point that a document shows; return the folder for PYTHONPATH."""
    text = document.read_text(encoding="utf-8")
    (code,) = re.findall(rf"```python\n(# {module}\.py\n.*?)```", text, re.DOTALL)
    (entry,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    found = re.fullmatch(r'\[project\.entry-points\."(.+)"\]\n(.+)\n', entry)
    assert found is not None
    site = folder / "site"
    info = site / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{found[1]}]\n{found[2].replace(chr(34), '')}\n")
    return site
