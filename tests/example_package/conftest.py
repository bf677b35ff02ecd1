"""cifrun finds the package by its entry points: where it is not installed, nothing of it is imported or tested."""

from importlib.metadata import entry_points

collect_ignore = [] if "rotation" in entry_points(group="cifrun.flows").names else ["cifrun_example", "tests"]
