"""Assignment: masks, class targets, counts; one image and batches."""

import pytest
import torch

from labelkit import IGNORED, NEGATIVE, Assignment


def assignment(gt: list) -> Assignment:
    gt = torch.tensor(gt)
    zeros = torch.zeros(gt.shape)
    return Assignment(gt, zeros, zeros, zeros + 1)


def test_one_image(device):
    answer = assignment([1, NEGATIVE, 0, IGNORED, 1])
    answer = Assignment(*(getattr(answer, n).to(device) for n in ("gt", "similarity", "score_target", "weight")))
    assert answer.positive.tolist() == [True, False, True, False, True]
    assert answer.negative.tolist() == [False, True, False, False, False]
    assert answer.ignored.tolist() == [False, False, False, True, False]
    assert answer.class_targets(torch.tensor([7, 0], device=device)).tolist() == [1, 0, 8, -1, 1]
    assert answer.positives_per_gt(3).tolist() == [1, 2, 0]
    assert "3 positive, 1 negative, 1 ignored" in repr(answer)


def test_a_batch():
    answer = assignment([[0, NEGATIVE, IGNORED], [NEGATIVE, 1, 0]])
    labels = [torch.tensor([4]), torch.tensor([0, 2])]
    assert answer.class_targets(labels).tolist() == [[5, 0, -1], [0, 3, 1]]
    assert [counts.tolist() for counts in answer.positives_per_gt([1, 3])] == [[1], [1, 1, 0]]
    assert answer[1].gt.tolist() == [NEGATIVE, 1, 0]


def test_a_batch_of_none():
    answer = Assignment(torch.zeros(0, 3, dtype=torch.int64), *[torch.zeros(0, 3)] * 3)
    assert answer.class_targets([]).shape == (0, 3)
    assert answer.positives_per_gt([]) == [] and answer.pairs() == []


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.tensor([0, -1]), r"labels\[1\] must be a class counted from 0, got -1"),
        (torch.tensor([0.0, 0.5]), "labels must be a tensor of whole numbers, got torch.float32"),
        (torch.tensor([True, False]), "labels must be a tensor of whole numbers, got torch.bool"),
        (torch.tensor([[0], [1]]), r"labels must be a tensor of shape \[G\].*got \[2, 1\]"),
    ],
)
def test_a_label_that_is_no_class_is_named(labels, words, unchecked):
    """-1 + 1 would be background, and -2 + 1 ignored."""
    with pytest.raises(ValueError, match=words):
        assignment([0, NEGATIVE, 1]).class_targets(labels)
    with pytest.raises(ValueError, match=words.replace("labels", r"labels\[1\]", 1)):
        assignment([[NEGATIVE] * 3, [0, NEGATIVE, 1]]).class_targets([torch.zeros(0), labels])


@pytest.mark.parametrize("count", [1, -1, 2.0])
def test_a_count_that_leaves_out_a_ground_truth_is_named(count, unchecked):
    rule = rf"must be a count of at least 2 ground truths, got {count}"
    with pytest.raises(ValueError, match=rf"num_gts\[1\] {rule}"):
        assignment([[NEGATIVE], [1]]).positives_per_gt([0, count])
    if isinstance(count, int):
        with pytest.raises(ValueError, match=f"num_gts {rule}"):
            assignment([1]).positives_per_gt(count)


def test_the_pairs_of_the_positives():
    prior, gt = assignment([1, NEGATIVE, 0, IGNORED, 1]).pairs()
    assert prior.tolist() == [0, 2, 4] and gt.tolist() == [1, 0, 1]
    batch = assignment([[0, NEGATIVE, IGNORED], [NEGATIVE, 1, 0]]).pairs()
    assert [(prior.tolist(), gt.tolist()) for prior, gt in batch] == [([0], [0]), ([1, 2], [1, 0])]


def test_no_ground_truths():
    answer = assignment([NEGATIVE, IGNORED])
    assert answer.class_targets(torch.zeros(0, dtype=torch.int64)).tolist() == [0, -1]
    assert answer.positives_per_gt(0).tolist() == []


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="labels must hold a class for ground truth 3, got 2 labels"):
        assignment([3, NEGATIVE]).class_targets(torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"labels\[1\] must hold a class for ground truth 0, got 0"):
        assignment([[NEGATIVE], [0]]).class_targets([torch.zeros(0).long(), torch.zeros(0).long()])
    with pytest.raises(ValueError, match="labels must be a list of 2 tensors"):
        assignment([[NEGATIVE], [0]]).class_targets(torch.tensor([1]))
    with pytest.raises(ValueError, match="num_gts must be a list of 2 counts"):
        assignment([[NEGATIVE], [0]]).positives_per_gt(1)
    with pytest.raises(ValueError, match="labels must be a tensor for the assignment of one image, got list"):
        assignment([0]).class_targets([torch.tensor([1])])
    with pytest.raises(ValueError, match=r"num_gts must be one count for the assignment of one image, got \[1\]"):
        assignment([0]).positives_per_gt([1])
    with pytest.raises(ValueError, match="only a batch can be indexed"):
        assignment([0])[0]
