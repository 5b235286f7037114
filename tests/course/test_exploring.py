"""The explorer on the stage: the committed detectors, the rows' rules, and the command that opens it."""

import pytest
import torch
from typer.testing import CliRunner

from labelkit.explore.question import answer, rule_of
from labelkit.training.measuring import assigned
from labelkit.training.rules import plain_arguments
from labelkit_course import entries, exploring, on_stage
from labelkit_course.cli import course
from labelkit_course.rows import VARIANTS, Cell


def test_a_rows_own_rule_gives_the_labels_that_its_detector_was_taught():
    """Simota asks the network, so that the stage's own way and the explorer's meet in the predictions."""
    found = exploring.opened("simota", "digits")
    entry = on_stage.entry_of("simota", "digits")
    image, target = entries.stage_pictures("digits")[entry.place]
    taught = assigned(entries.trained_detector(entry.folder, entry.name), [image], [target])
    labels = answer(found.scene, found.network)["rules"]
    assert list(labels) == ["simota", "max_iou", "atss", "tal"]
    assert labels["simota"]["per_object"] == taught.positives_per_gt([len(target["boxes"])])[0].tolist()
    assert found.scene["objects"] == target["boxes"].tolist() and found.scene["size"] == [128, 128]
    assert torch.equal(found.network.labels, target["labels"])


@pytest.mark.parametrize("data", ["sky", "digits"])
def test_a_rows_rule_is_written_as_the_explorer_reads_it(data):
    for row in VARIANTS:
        wanted = Cell(data, "full", row, 0).recipe(data).rules()["assigner"]
        read = rule_of(exploring._written(row, data, (200, 160)), (200, 160))
        assert type(read) is type(wanted) and plain_arguments(read) == plain_arguments(wanted), row
    assert exploring._written("rka, dotd", "sky", (8, 8)) == "rka similarity=dotd similarity.constant=8.1"


def test_the_command_opens_what_it_is_told(monkeypatch):
    served = []
    monkeypatch.setattr("labelkit_course.cli.serve", lambda *arguments: served.append(arguments))
    words = ["explore", "tal, k=10", "--picture", "star", "--port", "9000", "--no-browser"]
    result = CliRunner().invoke(course, words)
    assert result.exit_code == 0, result.output
    ((begun, port, browser),) = served
    assert (port, browser) == (9000, False) and begun.scene["rules"][0] == "tal k=10 alpha=0.5"
    assert begun.scene["objects"] == entries.stage_pictures("sky")[1][1]["boxes"].tolist()
    for words, sentence in (
        (["ats"], "row must be one of"),
        (["atss", "--picture", "moon"], "picture must be one of sky, star, digits, got 'moon'"),
    ):
        result = CliRunner().invoke(course, ["explore", *words])
        assert result.exit_code == 1 and sentence in result.stderr and len(served) == 1


def test_in_a_notebook_it_is_a_widget():
    pytest.importorskip("anywidget", reason="anywidget is missing: pip install 'labelkit[explore]'")
    made = exploring.explore("atss", "digits", rules=["atss", "poto"], heat="nwd")
    assert made.scene["rules"] == ["atss", "poto"] and made.scene["heat"] == "nwd" and made.image
    assert "detector" in made.options["priors"] and made.network.size == (128, 128)
