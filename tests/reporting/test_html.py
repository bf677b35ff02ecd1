"""The page says what the tables say, and fits a laptop's window and a phone."""

from __future__ import annotations

import base64
import html
import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
import yaml

from cifrun.reporting.html import breakable, page, typeset

from .example_runs import read, write, write_measured, write_pairs


def text_of(cell: str) -> str:
    """What one reads of a piece of HTML."""
    return html.unescape(re.sub(r"<[^>]*>", "", cell)).replace("\N{NO-BREAK SPACE}", " ").strip()


def test_the_page_has_the_numbers_of_the_tables(tmp_path: Path) -> None:
    report = read(write_measured(tmp_path))
    shown = page(report)
    bodies = [re.findall(r"<td class=[^>]*>(.*?)</td>", body) for body in re.findall(r"(?s)<tbody>.*?</tbody>", shown)]
    for part, cells in zip(report.tables(), bodies, strict=True):
        told = [cell if isinstance(cell, str) else cell.parts[0] for row in part.rows for cell in row]
        assert len(cells) == len(told)
        for cell, number in zip(cells, told, strict=True):
            assert text_of(typeset(number)) in text_of(cell)


def test_rows_of_a_dataset_stand_together_where_there_are_several(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    assert "rowgroup" not in page(read(tmp_path)).partition("<body>")[2]
    write(tmp_path / "rings", dataset={"name": "rings"}, likelihood=-3.0)
    shown = page(read(tmp_path)).partition("<body>")[2]
    assert re.findall(r'scope="rowgroup"><span>(\w+)', shown) == ["rings", "two_uniforms"] * 2  # of fit and of cost


def test_an_arrow_points_to_what_is_better(tmp_path: Path) -> None:
    shown = page(read(write_pairs(tmp_path)))
    assert "log-likelihood&nbsp;↑<small>nats</small>" in shown and "KL to the truth&nbsp;↓" in shown


def test_what_a_run_says_of_itself_is_text_and_no_html(tmp_path: Path) -> None:
    path = write(tmp_path / "a<b>", likelihood=-1.5, status="failed")
    write(tmp_path / "good")
    shown = page(read(tmp_path))
    assert str(path) not in shown and "a&lt;b&gt;: failed" in shown


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    (tmp_path / "cif1/figures/density.png").write_bytes(b"\x89PNG picture")
    shown = page(read(tmp_path))
    assert re.findall(r'(?:src|href)="(?!data:)', shown) == [] and "http" not in shown
    assert shown.count("data:image/png;base64,") == 2  # the curves, and the one figure there is


def test_a_picture_that_is_a_link_is_not_shown(tmp_path: Path) -> None:
    """Nor one that is something else, or can't be read; a sentence says so, and the page has the rest."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG secret")
    figures = write(tmp_path / "runs" / "a", likelihood=-1.5) / "figures"
    (figures / "density.png").symlink_to(secret)
    (figures / "samples.png").mkdir()
    (figures / "marginals.png").write_text("root:x:0:0")
    os.mkfifo(figures / "reconstructions.png")
    (figures / "lipschitz.png").write_bytes(b"\x89PNG picture")
    shown = page(read(tmp_path / "runs"))
    encoded = [base64.b64decode(found) for found in re.findall(r"base64,([^\"]*)", shown)]
    assert len(encoded) == 2 and b"\x89PNG picture" in encoded
    assert "density is missing" in shown and "is a symbolic link, which is not followed" in shown
    assert "marginals is no picture" in shown and "reconstructions is missing" in shown


def test_folders_that_are_links_are_not_followed_either(tmp_path: Path) -> None:
    figures = write(tmp_path / "runs" / "a", likelihood=-1.5) / "figures"
    figures.rename(tmp_path / "secret")
    (tmp_path / "secret" / "density.png").write_bytes(b"\x89PNG secret")
    figures.symlink_to(tmp_path / "secret")
    assert page(read(tmp_path / "runs")).count("data:image/png") == 1


def test_no_name_is_markup_of_the_page(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)> \x1b[2J \u202e"
    write(tmp_path / "a", dataset={"name": "file", "path": f"/data/{name}.csv", "columns": [name]}, likelihood=-1.5)
    write(tmp_path / "b", dataset={"name": "file", "path": f"/data/{name}.csv", "columns": ["b"]}, likelihood=-1.5)
    shown = page(read(tmp_path))
    assert "<img src=x" not in shown and "\x1b" not in shown and "\u202e" not in shown and "&lt;img src=x" in shown


@pytest.mark.parametrize("value", ["$\\frac{$", "x" * 100_000, "ü☃\u202e", "a\nb", "_", "$a$b$"])
def test_no_setting_keeps_the_curves_from_being_drawn(value: str, tmp_path: Path) -> None:
    """It tells two rows apart, so that it is in their labels."""
    write(tmp_path / "a", likelihood=-1.5)
    file = write(tmp_path / "b", likelihood=-1.6) / "config.yaml"
    data = yaml.safe_load(file.read_text())
    data["optimizer"]["schedule"] = value
    file.write_text(yaml.safe_dump(data))
    report = read(tmp_path)
    assert len(report.groups) == 2 and report.columns == ["optimizer.schedule"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert page(report).count("data:image/png") == 1
    assert all(path.is_file() for path in report.write(tmp_path / "report"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IWAE_100 of 5 % < 1", "IWAE<sub>100</sub> of 5&nbsp;% &lt; 1"),
        ("1.15e−6", "1.15·10<sup>−6</sup>"),
        ("1e10", "1·10<sup>10</sup>"),
    ],
)
def test_text_is_typeset(text: str, expected: str) -> None:
    assert typeset(text) == expected


def test_names_break_after_dots_and_underscores() -> None:
    assert breakable("optimizer.weight_decay 0.1") == "optimizer.<wbr>weight_<wbr>decay 0.1"


def test_the_page_needs_no_scrolling_sideways(tmp_path: Path) -> None:
    """In a browser: at the width of a laptop's window and of a phone, nothing is wider than the place it has."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs Chromium")
    shown = page(read(write_measured(tmp_path)))
    assert shown.count("<table>") == 5
    frames = "".join(f'<iframe width="{width}" srcdoc="{html.escape(shown)}"></iframe>' for width in (1200, 390))
    script = """onload = () => { for (const frame of document.querySelectorAll("iframe")) {
        const wide = [...frame.contentDocument.querySelectorAll("*")].filter(e => e.scrollWidth > e.clientWidth + 1
            && (e.matches("html") || getComputedStyle(e).overflowX != "visible"));
        const told = wide.map(e => `${e.innerText.slice(0, 30)} ${e.scrollWidth} > ${e.clientWidth}`);
        frame.outerHTML = `<p>at ${frame.width} too wide: ${told}.</p>` } }"""
    file = tmp_path / "frames.html"
    file.write_text(f'<meta charset="utf-8">{frames}<script>{script}</script>', encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    told = ["--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", file.as_uri()]
    done = subprocess.run([browser, *options, *told], capture_output=True, text=True, timeout=600)
    assert "at 1200 too wide: ." in done.stdout and "at 390 too wide: ." in done.stdout, done.stdout
    assert "CONSOLE" not in done.stderr
