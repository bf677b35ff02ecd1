"""A fuzz: altered runs and data, bad command lines, kills and full disks. It takes tens of minutes.

    pytest -m slow tests/fuzz                                   # all of it
    pytest -m slow "tests/fuzz/test_kills.py::NAME[17]"         # what failed, again: its number is its seed
    FUZZ_LOG=failed.txt pytest -m slow tests/fuzz               # with a file of what failed so far

A command ends with a sentence or does what it was told: no traceback, nothing that does not end, no other numbers,
nothing written outside of the directories it was given, nothing opened behind a symbolic link. What is done to a run is
a matter of the seed alone: kills are counted in operations on files and in steps, and no clock is used but for what
hangs.
"""
