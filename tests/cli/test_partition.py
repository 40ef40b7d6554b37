"""``fedlight partition``: as a user runs it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image

from fedlight.cli import main

PARTITION = ("partition", "--config", "tiny.yaml")


def test_tables_and_files(capsys):
    noise = ("--data.corruption+", "LabelNoise", "--data.corruption.share", "1.0", "--data.corruption.level", "0.25")
    assert main([*PARTITION, "--data.partition", "DirichletByClient", *noise, "--out", "parts"]) == 0
    out = capsys.readouterr().out
    assert "DirichletByClient: 3 clients, 120 examples, 10 classes" in out
    assert "label noise (3 hit)" in out
    assert "Gini coefficient 0.00" in out
    assert "parts/partition.png, parts/clients.csv" in out
    with Path("parts/clients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["examples"] for row in rows] == ["40"] * 3
    assert [row["label_noise"] for row in rows] == ["0.25"] * 3
    assert sum(int(row[f"class_{digit}"]) for row in rows for digit in range(10)) == 120
    with Image.open("parts/partition.png") as picture:
        assert picture.width > 500


def test_many_clients_have_no_rows_of_their_own_and_nothing_is_written_unasked(capsys):
    before = set(Path().iterdir())
    assert main([*PARTITION, "--data.num_clients", "60"]) == 0
    out = capsys.readouterr().out
    assert "IID: 60 clients" in out
    assert "│ 59 " not in out
    assert set(Path().iterdir()) == before


def test_nothing_is_overwritten_unasked(refusal):
    Path("parts").mkdir()
    Path("parts/clients.csv").write_text("mine")
    line = refusal(*PARTITION, "--out", "parts")
    assert line == "partition: parts holds clients.csv already; choose another --out, or add --overwrite"
    assert Path("parts/clients.csv").read_text() == "mine"
    assert main([*PARTITION, "--out", "parts", "--overwrite"]) == 0
    assert Path("parts/clients.csv").read_text().startswith("client,examples")


def test_copies_and_corruptions_fit_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    parts = "[Rotation, FeatureNoise, {class_path: LabelNoise, init_args: {share: 1}}]"
    copies = ("--data.partition", "DuplicatedClients", "--data.partition.share", "0.4")
    assert main([*PARTITION, *copies, "--data.corruption", parts]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert "1 clients are copies" in out


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--data.partition", "DirichletByClient", "--data.partition.alpha", "0"),
            "data.partition.alpha is 0.0: a Dir",
        ),
        (("--data.partition", "ByColumn"), "data.partition (ByColumn): missing column; give it under init_args"),
        (
            ("--data.partition", "ByColumn", "--data.partition.column", "writer"),
            "the data set has no column 'writer' (it has none): name one",
        ),
        (
            ("--data.num_clients", "121"),
            "120 examples shared by 121 clients give 0 each, below min_samples = 1: set data.num_clients to at most",
        ),
        (
            ("--data.corruption+", "LabelNoise", "--data.corruption.share", "1.5"),
            "data.corruption (LabelNoise): share is 1.5: a share of clients must be in [0, 1]",
        ),
        (("--data.corruption", "LabelNoise"), "data.corruption: expected list, got LabelNoise"),
        (("--data.corruption+", "LabelNois"), "data.corruption: unknown class LabelNois; did you mean LabelNoise?"),
        (
            (
                *("--data.partition", "QuantitySkew", "--data.partition.amounts", "PowerLawAmounts"),
                *("--data.partition.amounts.exponent", "1"),
            ),
            "data.partition.amounts (PowerLawAmounts): exponent is 1.0: a power law",
        ),
        (("--out", "tiny.yaml"), "out: can't write to tiny.yaml"),
    ],
)
def test_wrong_input_is_one_line(refusal, options, line):
    assert refusal(*PARTITION, *options).startswith(line)
