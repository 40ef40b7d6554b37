"""docs/tags.md is the table of fedlight.core.tags, word for word."""

from pathlib import Path

from fedlight.core.tags import TAGS
from fedlight.tracking.pictures import ARM_PREFIX, HEATMAPS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "tags.md"


def test_the_document_is_the_table():
    rows = [line.strip("| ").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    assert {tag.strip("`"): meaning for tag, meaning in rows} == TAGS


def test_every_picture_is_named():
    assert all(heatmap.name in TAGS["picture/<name>"] for heatmap in HEATMAPS)
    assert ARM_PREFIX.startswith("bandit/")
