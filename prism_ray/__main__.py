"""`python -m prism_ray` is the command line."""

from prism_ray.cli import main

main(prog_name="prism-ray")
