"""The page in a real browser, where there is one: `make browser`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from experiments.benchmarking.page import page
from experiments.benchmarking.plan import Plan
from experiments.benchmarking.results import Row
from experiments.benchmarking.standings import Standings

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
ASK = """<script>
const table = document.querySelectorAll("table.sortable")[1], said = {};
const names = () => [...table.tBodies[0].rows].map(row => row.cells[0].textContent);
said.first = names();
table.querySelector("th button").click(); said.up = names();
table.querySelector("th button").click(); said.down = names();
said.sort = table.querySelector("th").getAttribute("aria-sort");
said.wider = document.documentElement.scrollWidth - innerWidth;
const dot = document.querySelector("svg.interval circle").getBoundingClientRect();
said.dot = dot.width; said.ground = getComputedStyle(document.body).backgroundColor;
const answer = document.createElement("pre"); answer.id = "said";
answer.textContent = JSON.stringify(said); document.body.append(answer);
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason=f"needs one of {', '.join(BROWSERS)}")
@pytest.mark.parametrize(("width", "dark"), [(500, True), (1280, False)])
def test_the_page_sorts_and_fits(
    plan: Plan, rows: list[Row], tmp_path: Path, width: int, dark: bool
) -> None:
    standings = Standings(plan, rows)
    (tmp_path / "page.html").write_text(page(standings).replace("</body>", ASK))
    assert BROWSER is not None
    arguments = ["--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--dump-dom"]
    arguments.append(f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    shown = subprocess.run(
        [BROWSER, *arguments, f"file://{tmp_path / 'page.html'}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    answer = re.search(r'<pre id="said">(.*?)</pre>', shown)
    assert answer is not None
    said = json.loads(answer[1])
    assert said["first"] == standings.labels(3)
    assert said["up"] == sorted(said["first"])
    assert said["down"] == sorted(said["first"], reverse=True)
    assert said["sort"] == "descending"
    assert said["wider"] <= 0
    assert said["dot"] == pytest.approx(9, abs=0.5)
    assert (said["ground"] == "rgb(255, 255, 255)") is not dark
