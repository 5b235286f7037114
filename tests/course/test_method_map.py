"""The map says of every assigner what two sets of predictions show of it."""

from functools import partial

import pytest
import torch

from labelkit import Predictions, Priors, plot
from labelkit.assigners import ASSIGNERS
from labelkit.similarity import nwd
from labelkit_course.method_map import METHODS, OPENING, ROWS, method_map

ARGUMENTS = {
    "hambox": {"k": 3, "decoded_thresh": 0.6},
    "rka": {"similarity": partial(nwd, constant=12.8)},
    "hungarian": {"image_size": (128, 128)},
}
PRIORS = Priors.anchors((128, 128), strides=(8, 16), sizes=((32,), (64,)))
TARGET = plot.SCENES["two overlapping"].target


def predicted(seed):
    generator = torch.Generator().manual_seed(seed)
    own = TARGET["boxes"][torch.randint(2, (len(PRIORS),), generator=generator)]
    share = torch.rand(len(PRIORS), 1, generator=generator)
    return Predictions(PRIORS.boxes + share * (own - PRIORS.boxes), torch.rand(len(PRIORS), 1, generator=generator))


def test_every_assigner_has_one_mark():
    assert sorted(method.assigner for method in METHODS) == sorted(ASSIGNERS)
    assert len({method.name for method in METHODS}) == len(METHODS) and set(OPENING) <= {m.name for m in METHODS}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_mark_is_in_its_field(method):
    assigner = ASSIGNERS[method.assigner](**ARGUMENTS.get(method.assigner, {}))
    one, other = (assigner(PRIORS, TARGET, predicted(seed)) for seed in (1, 2))
    assert one.positive.any()
    assert method.soft == bool(((one.score_target > 0) & (one.score_target < 1)).any())
    same = torch.equal(one.gt, other.gt) and torch.equal(one.score_target, other.score_target)
    assert method.dynamic == (not same) == assigner.needs_predictions


@pytest.mark.parametrize(("up_to", "marks"), [(4, 4), (5, 4), (9, 6), (18, len(METHODS))])
def test_a_chapter_adds_its_marks(up_to, marks):
    (ax,) = method_map(up_to).axes
    assert len(ax.collections) == marks
    names = [text.get_text().rsplit(" (", 1)[0] for text in ax.texts if text.get_text() != "none"]
    assert set(names) == {m.name for m in METHODS if m.chapter <= up_to} | set(OPENING)
    bold = {text.get_text() for text in ax.texts if text.get_fontweight() == "bold"}
    assert bold == {f"{m.name} ({m.chapter})" for m in METHODS if m.chapter == up_to}


def test_no_mark_leaves_its_field():
    for soft in (True, False):
        for dynamic in (True, False):
            assert sum((m.soft, m.dynamic) == (soft, dynamic) for m in METHODS) <= ROWS[soft]
