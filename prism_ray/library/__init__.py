"""What `import prism_ray` offers to Python: a run as a torch Dataset and as tables, and two commands.

`prism_ray/__init__.py` has the public functions, which load these modules late.
"""
