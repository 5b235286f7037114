"""Which images a recipe names: the parent of train and val, one of the two, or a folder by itself."""

import pytest
import torch

from labelkit.assigners.ground_truths import flagged
from labelkit.datasets import BoxDataset
from labelkit.training.recipe import Recipe
from tests.squares import in_folders, squares


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return in_folders(tmp_path_factory.mktemp("mine"))


def test_parent_and_leaf_both_do(parent):
    whole = Recipe(data=str(parent))
    assert len(whole.train_set()) == 4 and len(whole.val_set()) == 2
    assert all(isinstance(dataset, BoxDataset) for dataset in whole.load())
    leaf = Recipe(data=str(parent / "train"), val=str(parent / "val"))
    assert [len(dataset) for dataset in leaf.load()] == [4, 2]
    assert len(Recipe(data=str(parent / "train"), val=str(parent)).val_set()) == 2
    with pytest.warns(UserWarning, match="no val images: measuring on the training images flatters"):
        assert len(Recipe(data=str(parent / "val")).val_set()) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": "nope"}, "data must be digits, trees, trees:K, sky or a folder, and there is no folder 'nope'"),
        ({"data": "PARENT/train/images"}, r"no known layout in .*images\. Looked for\n  labelkit: .*annotations\.json"),
        ({"data": "PARENT", "val": "nope"}, "val must be a folder, and there is no folder 'nope'"),
        ({"data": "PARENT", "val": "PARENT/train/images"}, "no known layout in .*images"),
        ({"data": "trees:3"}, "data must be trees, trees:0, trees:1 or trees:2, got 'trees:3'"),
    ],
)
def test_what_is_not_there_is_named(parent, settings, message):
    settings = {name: text.replace("PARENT", str(parent)) for name, text in settings.items()}
    with pytest.raises(ValueError, match=message):
        Recipe(**settings).load()


def test_regions_to_ignore_stay_in_the_training_targets(tmp_path):
    dataset = squares(2)
    dataset.targets[0]["iscrowd"][1] = 1
    dataset.to_coco(tmp_path)
    recipe = Recipe(data=str(tmp_path), flip=True)
    assert [recipe.train_set()[index][1]["iscrowd"].tolist() for index in (0, 1)] == [[0, 1], [0, 0]]


def test_regions_to_ignore_are_flagged_either_way():
    dataset = squares(2)
    dataset.targets[0]["iscrowd"][1] = 1
    assert flagged(dataset.targets[0]).tolist() == [False, True]
    boxes = torch.zeros(2, 4)
    assert flagged({"boxes": boxes}).tolist() == [False, False]
    assert flagged({"boxes": boxes, "ignore": torch.tensor([True, False])}).tolist() == [True, False]
    both = {"boxes": boxes, "iscrowd": torch.tensor([0, 1]), "ignore": torch.tensor([1, 0])}
    assert flagged(both).tolist() == [True, True]  # as the assigners read it


def test_training_images_are_mirrored_and_those_to_measure_on_are_not(parent):
    recipe = Recipe(data=str(parent), flip=True)
    plain = Recipe(data=str(parent)).train_set()[0][0]
    views = {bool((recipe.train_set()[0][0] == plain).all()) for _ in range(12)}
    assert views == {True, False}
    assert (recipe.val_set()[0][0] == Recipe(data=str(parent)).val_set()[0][0]).all()
