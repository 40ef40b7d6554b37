"""docs/tags.md is the table of fedlight.core.tags, word for word."""

import ast
import re
from pathlib import Path

import fedlight.parts
from fedlight.core.tags import TAGS
from fedlight.tracking.pictures import ARM_PREFIX, HEATMAPS, OF_JOBS, WAITING

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "tags.md"


def test_the_document_is_the_table():
    rows = [line.strip("| ").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    assert {tag.strip("`"): meaning for tag, meaning in rows} == TAGS


def test_every_tag_of_the_parts_is_in_the_table():
    """A tag is the text of a string, or its beginning, that is a key of a dict or of an item that is set."""
    families = tuple(tag.partition("<")[0] for tag in TAGS if "<" in tag)
    found = set()
    for file in Path(fedlight.parts.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            keys = node.keys if isinstance(node, ast.Dict) else [getattr(node, "slice", None)]
            texts = [key.values[0] if isinstance(key, ast.JoinedStr) else key for key in keys]
            found |= {str(text.value) for text in texts if isinstance(text, ast.Constant)}
    tags = {text for text in found if re.match(r"[a-z]+/", text)}
    assert {"search/density", "bandit/plays/", "ratio/target_s"} <= tags
    assert not [tag for tag in tags if tag not in TAGS and not tag.startswith(families)]


def test_every_picture_is_named():
    names = [*(heatmap.name for heatmap in HEATMAPS), *OF_JOBS, WAITING, "fleet", "partition"]
    assert all(re.search(rf"\b{name}\b", TAGS["picture/<name>"]) for name in names)
    assert ARM_PREFIX.startswith("bandit/")
