"""The picture of the rooms has the arrows that there are today."""

from __future__ import annotations

import runpy

from PIL import Image

from tests.helpers import ROOT


def test_the_picture_is_up_to_date() -> None:
    with Image.open(ROOT / "docs/figures/rooms.png") as picture:
        drawn = picture.info["Description"]
    today = runpy.run_path(str(ROOT / "scripts/draw_rooms.py"))["described"]()
    assert drawn == today, "run python scripts/draw_rooms.py"
    assert "cif: " in today and "api" not in today.split("cif: ")[1].splitlines()[0]
