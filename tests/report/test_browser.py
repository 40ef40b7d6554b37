"""The page in a real browser: it shows everything, in light and dark, on a desk and on a phone."""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from synthetic_runs import write_run

from fedlight.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium or Chrome to take screenshots")

PROBE = """<script>
addEventListener("load", () => {
  const root = document.documentElement, seen = [];
  seen.push("title=" + document.title);
  seen.push("overflow=" + (root.scrollWidth - root.clientWidth));
  const hidden = [...document.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth + 1);
  seen.push("scrolled=" + hidden.length);
  const drawings = [...document.querySelectorAll(".picture svg")];
  seen.push("drawings=" + drawings.filter(e => e.getBBox().width > 100 && e.clientHeight > 100).length);
  const images = [...document.querySelectorAll("image")];
  Promise.allSettled(images.map(e => { const i = new Image(); i.src = e.href.baseVal; return i.decode(); }))
    .then(done => {
      seen.push("images=" + done.filter(d => d.status === "fulfilled").length + "/" + images.length);
      seen.push("requests=" + performance.getEntriesByType("resource").filter(r => !r.name.startsWith("data:")).length);
      document.body.dataset.seen = seen.join("|");
    });
});
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    for seed in range(3):
        ratios = {"prune/ratio/0": [0.5, 0.25, 0.1], "prune/ratio/1": [0.9, 0.8, 0.7]}
        write_run(folder, "SynFL", seed, [0.5, 0.7 + 0.01 * seed, 0.8], [10.0, 20.0, 30.0])
        write_run(folder, "FedMP", seed, [0.6, 0.75, 0.8 + 0.02 * seed], [8.0, 18.0, 29.0], "FedMP", **ratios)
    return write_report(folder)


def browse(tmp_path, *arguments):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", *arguments]
    environment = {**os.environ, "HOME": str(tmp_path)}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=True, env=environment).stdout


def probe(tmp_path, *arguments):
    """What PROBE has seen; images are decoded beside the browser's virtual time, which may be over before they are."""
    for _ in range(5):
        if told := re.search('data-seen="([^"]*)"', browse(tmp_path, *arguments)):
            return dict(part.split("=") for part in told.group(1).split("|"))
    raise AssertionError("the page's images were not decoded in any of five visits")


@pytest.mark.parametrize(("width", "scrolled"), [(1200, False), (500, True)])
def test_nothing_is_broken_or_cut_off(page, tmp_path, width, scrolled):
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    seen = probe(tmp_path, f"--window-size={width},900", "--dump-dom", probed.as_uri())
    assert seen["title"] == "Comparison of SynFL and FedMP"
    assert seen["overflow"] == "0"
    # On a desk tables fit; on a phone they scroll by themselves and the page doesn't.
    assert (int(seen["scrolled"]) > 0) == scrolled
    assert seen["drawings"] == "4"
    loaded, images = seen["images"].split("/")
    assert loaded == images
    assert int(images) > 0
    assert seen["requests"] == "0"


@pytest.mark.parametrize("dark", [False, True])
def test_a_screenshot_shows_the_page(page, tmp_path, dark):
    picture = tmp_path / "page.png"
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    browse(tmp_path, *scheme, "--window-size=1200,2400", f"--screenshot={picture}", page.as_uri())
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert pixels.shape == (2400, 1200, 3)
    assert (np.median(pixels) < 64) == dark
    # Every quarter of what is above the fold of a very long screen has something on it.
    assert all(part.std() > 5 for part in np.array_split(pixels, 4))
    # Okabe and Ito's blue, the first variant's colour, is on the page.
    assert (np.abs(pixels - (0x00, 0x72, 0xB2)).sum(axis=2) < 12).sum() > 50
