"""prism-ray: dataset distillation by PRISM, on Ray.

The package is used through its command line (`prism-ray --help`); docs/architecture.md draws the rooms.
Importing it loads nothing heavy: `prism_ray.plan`, `prism_ray.store` and `prism_ray.cli` need neither torch
nor Ray.
"""

__version__ = "0.1.0"
