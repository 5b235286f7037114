"""Rules and similarities of one's own: by name, by an installed package's name, in hand; what is said of wrong ones."""

import json
import sys
from dataclasses import dataclass
from functools import partial

import pytest

from labelkit.assigners import RKA, Assigner, MaxIoU, Steps, TopK
from labelkit.search.candidates import Pairs, nearest_per_level
from labelkit.search.choosing import best_per_prior
from labelkit.similarity import nwd
from labelkit.training import Recipe, build_assigner, build_similarity, load_detector, own, read_recipe, train
from labelkit.training.rules import described, plain_arguments
from tests.squares import TINY, run, squares

HERE = __name__


def near(prior, gt, scale=16.0):
    return 1 / (1 + ((prior - gt) / scale).square().sum(dim=-1))


@dataclass(frozen=True)
class Softly:
    """A similarity as an object with its constants."""

    scale: float = 8.0

    def __call__(self, prior, gt):
        return near(prior, gt, self.scale)


@dataclass(frozen=True)
class NearestK(Assigner):
    k: int = 9

    def assign(self, priors, gts):
        found = nearest_per_level(priors, gts.boxes, self.k)
        pairs = Pairs(found.prior, found.gt, 1 / (1 + found.value))
        return Steps(pairs, pairs, pairs[best_per_prior(pairs, gts.slot(pairs), gts.slots)])


class Plain(Assigner):
    """Not a dataclass, and keeps its argument all the same."""

    def __init__(self, k):
        self.k = k

    def assign(self, priors, gts):
        return NearestK(self.k).assign(priors, gts)


class Forgetful(Plain):
    def __init__(self, number):
        super().__init__(number)


def by_function(priors, targets, predictions, k=2):
    return NearestK(k)(priors, targets)


def test_a_rule_by_its_name_takes_its_arguments():
    assert build_assigner(f"{HERE}:NearestK", {"k": 3}) == NearestK(3)
    assert build_assigner(f"{HERE}:Plain", {"k": 3}).k == 3
    assert build_assigner(f"{HERE}:by_function") is by_function
    bound = build_assigner(f"{HERE}:by_function", {"k": 5})
    assert isinstance(bound, partial) and bound.func is by_function and bound.keywords == {"k": 5}


def test_a_similarity_by_its_name_takes_its_constants():
    assert build_similarity(f"{HERE}:near") is near
    bound = build_similarity({"name": f"{HERE}:near", "scale": 4})
    assert bound.func is near and bound.keywords == {"scale": 4}
    assert build_similarity({"name": f"{HERE}:Softly", "scale": 4}) == Softly(4)
    rule = build_assigner("rka", {"k": 2, "similarity": f"{HERE}:near"})
    assert rule == RKA(k=2, similarity=near)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (f"{HERE}:NearestK", {"k": 3}),
        ("rka", {"similarity": f"{HERE}:near"}),
        ("rka", {"similarity": {"name": f"{HERE}:near", "scale": 3.0}}),
        ("rka", {"similarity": {"name": f"{HERE}:Softly", "scale": 3.0}}),
        (f"{HERE}:Plain", {"k": 4}),
        (f"{HERE}:by_function", {"k": 4}),
    ],
)
def test_the_recipe_keeps_the_string_and_makes_the_same_rule_of_it(name, arguments):
    recipe = Recipe(assigner=name, assigner_args=arguments, data="mine")
    values = json.loads(json.dumps(recipe.as_dict()))
    again = Recipe.from_dict(values)
    assert again.assigner == name and again.assigner_args.items() >= arguments.items()
    assert again.as_dict() == values
    assert plain_arguments(again.rule()) == plain_arguments(recipe.rule()) and type(again.rule()) is type(recipe.rule())


def test_the_folder_the_user_stands_in_is_importable(tmp_path, monkeypatch):
    (tmp_path / "of_this_folder.py").write_text("def alike(prior, gt):\n    return (prior * gt).sum(-1)\n")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    assert build_similarity("of_this_folder:alike").__name__ == "alike"
    assert sys.path[-1] == str(tmp_path)  # after all others: a file called random.py hides nothing


EXPECTED = "expected package.module:Name of a class"
WRONG = [
    ("no_such:Rule", rf"assigner 'no_such:Rule': there is no module 'no_such', neither in .*; {EXPECTED}"),
    ("labelkit.no:Rule", "there is no module 'labelkit.no'"),
    ("mine.py:Rule", r"there is no module 'mine'.*write mine:Rule, without .py"),
    (f"{HERE}:NearestKK", rf"{HERE} has no 'NearestKK'; did you mean 'NearestK'\?; {EXPECTED}"),
    (f"{HERE}:", f"{HERE} has no ''"),
    (":Rule", "assigner ':Rule': .* cannot be imported: ValueError: Empty module name"),
    (f"{HERE}:HERE", rf"assigner '.*:HERE' is a str, which cannot be asked; {EXPECTED}"),
    ("atts", "assigner must be one of max_iou, .*, or package.module:Name, got 'atts'; did you mean 'atss'"),
]


@pytest.mark.parametrize(("name", "message"), WRONG)
def test_a_wrong_name_is_said_with_what_is_expected(name, message):
    with pytest.raises(ValueError, match=message):
        build_assigner(name)


def test_wrong_arguments_are_said_with_the_right_ones():
    with pytest.raises(ValueError, match=r"assigner .*:NearestK takes k=9: .*unexpected keyword argument 'n'"):
        build_assigner(f"{HERE}:NearestK", {"n": 3})
    with pytest.raises(ValueError, match=r"assigner .*:by_function takes priors, targets, predictions, k=2:"):
        build_assigner(f"{HERE}:by_function", {"n": 3})
    with pytest.raises(ValueError, match=r"similarity .*:near takes prior, gt, scale=16.0:"):
        build_similarity({"name": f"{HERE}:near", "sigma": 3})
    with pytest.raises(ValueError, match=r"similarity 'no_such:near': there is no module .* expected .*elementwise"):
        build_similarity("no_such:near")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package\n", "broken_0 cannot be imported: No module named 'no_such_package'"),
        ("def rule(:\n", "broken_1 cannot be imported: SyntaxError: "),
        ("1 / 0\n", "broken_2 cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_fails_is_said_with_its_reason(tmp_path, monkeypatch, text, message):
    name = message.split()[0]
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=message):
        build_assigner(f"{name}:Rule")


def test_an_installed_package_brings_rules_by_name(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(f"from {HERE} import NearestK\n")
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[labelkit.assigners]\nnearest_k = theirs:NearestK\nlost = theirs:Lost\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert build_assigner("nearest_k", {"k": 2}) == NearestK(2)
    recipe = Recipe(assigner="nearest_k", data="mine")
    assert recipe.as_dict()["assigner"] == "nearest_k" and recipe.as_dict()["assigner_args"] == {"k": 9}
    with pytest.raises(ValueError, match="assigner must be one of max_iou, .*nearest_k.* did you mean 'nearest_k'"):
        build_assigner("nearest_kk")
    with pytest.raises(ValueError, match="assigner 'lost' of an installed package, .*: theirs has no 'Lost'"):
        build_assigner("lost")


def test_a_rule_in_hand_trains_and_comes_back(tmp_path):
    run(TINY, tmp_path / "run", assigner=NearestK(3))
    recipe = read_recipe(tmp_path / "run")
    assert recipe.assigner == f"{HERE}:NearestK" and recipe.assigner_args == {"k": 3}
    assert load_detector(tmp_path / "run")[0].assigner == NearestK(3)


@pytest.mark.parametrize(
    ("rule", "name", "arguments"),
    [
        (TopK(k=3), "topk", {"k": 3, "similarity": "iou"}),
        (RKA(similarity=partial(nwd, constant=5.0)), "rka", {"similarity": {"name": "nwd", "constant": 5.0}}),
        (RKA(similarity=Softly(4)), "rka", {"similarity": {"name": f"{HERE}:Softly", "scale": 4}}),
        (Plain(2), f"{HERE}:Plain", {"k": 2}),
        (by_function, f"{HERE}:by_function", {}),
        (partial(by_function, k=7), f"{HERE}:by_function", {"k": 7}),
    ],
)
def test_a_rule_in_hand_is_described(rule, name, arguments):
    found, values = described(rule)
    assert found == name and values.items() >= arguments.items()
    assert plain_arguments(build_assigner(found, values)) == plain_arguments(rule)


def test_a_rule_that_no_other_process_finds_is_said_and_trains(tmp_path):
    @dataclass(frozen=True)
    class Local(NearestK):
        pass

    with pytest.warns(UserWarning, match=r"Local is known to this process alone.*put it into a file"):
        name, arguments = described(Local(4))
    assert "<locals>" in name and build_assigner(name, arguments) == Local(4)
    own._handed_over.pop(name)
    with pytest.raises(ValueError, match="has no .*Local"):
        build_assigner(name, arguments)


def test_what_a_recipe_cannot_keep_is_refused():
    with pytest.raises(ValueError, match="keeps functions by their name, and .*lambda.* give it one with def"):
        described(lambda priors, targets, predictions: None)
    with pytest.raises(ValueError, match="keeps functions by their name"):
        described(RKA(similarity=lambda prior, gt: near(prior, gt)))
    with pytest.raises(ValueError, match=r"Forgetful must keep its argument number as self.number"):
        described(Forgetful(3))
    with pytest.raises(ValueError, match=r"Plain must have plain arguments for the recipe, got k="):
        described(Plain({1, 2}))


def test_train_finds_a_folder_by_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = squares(), squares(4, seed=1)
    train(TINY, assigner=MaxIoU(0.6), data=data, progress=False, accelerator="cpu")
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("digits-max_iou-") and read_recipe(folder).rule() == MaxIoU(0.6)
