"""`labelkit train`: a folder of one's own by one command, an option for every setting, errors in a sentence."""

import json
import re
import sys
from dataclasses import fields

import pytest

from labelkit.cli.train import option_name
from labelkit.training import load_detector, read_recipe, runs
from labelkit.training.naming import LONGEST, run_folder
from labelkit.training.recipe import Recipe
from labelkit.training.spoken import parse_arguments
from tests.cli.calling import call
from tests.squares import in_folders, squares

TINY = ["--steps", "2", "--batch-size", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set as a user has it: train and val, each with annotations.json and images."""
    return in_folders(tmp_path_factory.mktemp("mine"))


def test_every_field_of_a_recipe_has_its_option():
    shown = re.findall(r"^ +(--[\w-]+)", call("train", "--help").output, re.MULTILINE)
    assert {option_name(field.name) for field in fields(Recipe)} <= set(shown)


def test_every_option_arrives_in_the_recipe(folder, tmp_path, monkeypatch):
    seen = {}

    def train(recipe, out, **options):
        seen.update(recipe=recipe, out=out, options=options)
        return {"scores": {}, "seconds": {"training": 1}}

    monkeypatch.setattr("labelkit.training.train", train)
    other = {
        "assigner": "topk", "assigner_args": {"k": 4}, "detector": "fcos", "backbone": "resnet50_fpn",
        "weights": "imagenet", "box_loss": "ciou", "plain_loss": True, "anchor_scale": 3.0, "min_size": 320,
        "loss": None, "quality": "iou", "bins": 9, "second_assigner": "atss", "second_args": {"k": 4},
        "second_weights": "progressive", "warmup_assigner": "topk", "warmup_args": {"k": 4}, "warmup_share": 0.25,
        "nms_thresh": 0.75, "assign_on": "cpu",
        "detections": 7, "topk_candidates": 8, "data": str(folder), "val": str(folder / "val"), "images": 9,
        "tile": 96, "overlap": 12,
        "flip": True, "strict": True, "steps": 3, "batch_size": 5, "lr": 0.5, "weight_decay": 0.25, "warmup": 0.5,
        "clip": 1.5, "box_weight": 0.75, "seed": 11, "precision": "bf16-mixed", "workers": 2, "checkpoint_every": 6,
        "evaluate_every": 4,
    }  # fmt: skip
    assert set(other) == {field.name for field in fields(Recipe)}
    for given in (other, other | {"plain_loss": False, "loss": "vfl"}):  # those two do not go together
        words = []
        for name, value in given.items():
            if value is not None and value is not False:
                words += [option_name(name)] + ([] if value is True else ["k=4" if name.endswith("args") else value])
        result = call("train", *words, "--out", tmp_path / "run", "--device", "cpu", "--quiet")
        assert result.exit_code == 0, result.output
        assert seen["recipe"] == Recipe(**given) != Recipe()
    assert seen["options"] == {"resume": False, "accelerator": "cpu", "progress": False} and result.output == ""


def test_one_command_trains_measures_and_resumes(folder, tmp_path):
    out = tmp_path / "run"
    trained = call("train", "--data", folder, "--assigner", "topk", "--set", "k=3", *TINY, "--out", out)
    assert trained.exit_code == 0, trained.output
    assert "AP50" in trained.output and read_recipe(out).assigner_args == {"k": 3, "similarity": "iou"}
    again = call("train", "--out", out, "--resume", "--quiet")
    assert again.exit_code == 0 and again.output == ""
    other = call("train", "--out", out, "--resume", "--lr", "0.1", "--set", "k=9", "--steps", "2")
    assert other.exit_code == 0
    assert f"{out} goes on with its own settings; ignored: --set k=9, --lr 0.1\n" in other.stderr
    as_json = json.loads(call("train", "--out", out, "--resume", "--json").stdout)
    assert as_json == {"run": str(out)} | runs.read_json(out / runs.RESULT)


def test_without_a_checkpoint_resume_starts_anew(folder, tmp_path, monkeypatch):
    runs.write_json(tmp_path / runs.CONFIG, {"recipe": Recipe(data=str(folder), lr=0.1).as_dict()})
    seen = []
    monkeypatch.setattr("labelkit.training.train", lambda recipe, *_, **__: seen.append(recipe) or {})
    assert call("train", "--out", tmp_path, "--resume", "--quiet").exit_code == 0
    assert call("train", "--out", tmp_path, "--resume", "--data", folder, "--lr", "0.2", "--quiet").exit_code == 0
    assert [recipe.lr for recipe in seen] == [0.1, 0.2]  # the folder's own; then what was asked for


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--assigner", "atts"], "assigner must be one of max_iou, fcos, .* got 'atts'; did you mean 'atss'?"),
        (["--assigner", "topk", "--set", "n=3"], r"topk takes .*k.*unexpected keyword argument 'n'"),
        (["--assigner", "rka", "--set", "similarity=ndw"], "similarity must be one of .* did you mean 'nwd'?"),
        (["--assigner", "rka", "--data", "no/such/folder"], "similarity must be given"),
        (["--assigner", "topk", "--set", "k"], "--set must be NAME=VALUE, got 'k'"),
        (["--data", "no/such/folder"], "there is no folder 'no/such/folder'"),
        (["--data", "trees:3"], "data must be trees, trees:0, trees:1 or trees:2, got 'trees:3'"),
        (["--detector", "yolo"], "detector must be one of retinanet, fcos, got 'yolo'"),
        (["--weights", "coco"], "weights must be None for the small backbone"),
        (["--weights", "coco.pth"], "weights must be imagenet, coco or a file, and there is no file 'coco.pth'"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--second-assigner", "atts"], "second_assigner: assigner must be one of .* did you mean 'atss'?"),
        (["--second-assigner", "topk", "--second-set", "k"], "--second-set must be NAME=VALUE, got 'k'"),
        (["--warmup-set", "k=3", "--steps", "4"], r"warmup_args are of a warmup_assigner, .* got \{'k': 3\}"),
        (["--device", "gpu"], "device must be auto, cpu, cuda, cuda:N, mps or another of torch's, got 'gpu'"),
    ],
)
def test_errors_are_one_sentence_and_leave_nothing_behind(tmp_path, arguments, message):
    out = tmp_path / "run"
    small = [] if "--data" in arguments else ["--data", tmp_path]
    if not any(word in arguments for word in ("--data", "--steps", "--detector", "--assigner", "--device")):
        squares(2).to_coco(tmp_path)
    result = call("train", *small, *arguments, "--out", out)
    assert result.exit_code == 1
    assert "Traceback" not in result.output and result.stdout == ""
    assert re.search(message, result.output.replace("\n", " ")), result.output
    assert not out.exists()


def test_a_broken_annotation_file_is_counted_or_refused(folder, tmp_path):
    squares(3).to_coco(tmp_path / "train")
    path = tmp_path / "train" / "annotations.json"
    coco = json.loads(path.read_text())
    coco["annotations"][0]["bbox"] = [10, 10, 0, 5]
    path.write_text(json.dumps(coco))
    common = ["train", "--data", tmp_path, "--val", folder / "val", *TINY]
    strict = call(*common, "--strict", "--out", tmp_path / "strict")
    assert strict.exit_code == 1 and "annotation id 1" in strict.output and "[10, 10, 0, 5]" in strict.output
    counted = call(*common, "--out", tmp_path / "counted")
    assert counted.exit_code == 0, counted.output
    assert "kept 3 of 3 images, 5 of 6 annotations" in counted.output
    path.write_text(path.read_text()[:200])
    cut = call(*common, "--out", tmp_path / "cut")
    assert cut.exit_code == 1 and "annotations.json: not JSON" in cut.output


def test_the_default_folder_tells_the_arguments_apart(tmp_path, monkeypatch):
    names = [run_folder("digits", "topk", {"k": k}, 0).as_posix() for k in (3, 9)]
    assert names == ["runs/digits-topk-k=3-seed0", "runs/digits-topk-k=9-seed0"]
    nwd = {"similarity": {"name": "nwd", "constant": 12.8}, "bg_thresh": 0.3}
    assert run_folder("trees:1", "rka", nwd, 2).name == "trees-1-rka-bg_thresh=0.3-similarity=nwd-constant=12.8-seed2"
    monkeypatch.chdir(tmp_path)
    assert run_folder(".", "atss", {}, 0).name == f"{tmp_path.name}-atss-seed0"
    odd = run_folder("my data/ä: \\b?", "fcos", {"regress_ranges": [[0, 8]]}, 0).name
    assert re.fullmatch(r"[\w.=-]+", odd)
    long = [
        run_folder("digits", "fcos", {"regress_ranges": [[i, 8]] * 40 + [[0, n]]}, 0).name for i in (0,) for n in (1, 2)
    ]
    assert long[0] != long[1] and all(len(name) < LONGEST + 20 for name in long)


def test_arguments_are_plain_values():
    pairs = ["k=3", "similarity=nwd", "similarity.constant=12.8", "rescue=true", "center_radius=none", "variant=paper"]
    assert parse_arguments(pairs) == {
        "k": 3,
        "similarity": {"name": "nwd", "constant": 12.8},
        "rescue": True,
        "center_radius": None,
        "variant": "paper",
    }
    other_order = parse_arguments(["similarity.constant=5", "similarity=dotd"])
    assert other_order["similarity"] == {"name": "dotd", "constant": 5}
    for twice in (["k=3", "k=4"], ["similarity.constant=5", "similarity=dotd", "similarity.constant=6"]):
        with pytest.raises(
            ValueError, match=f"--set must name {twice[0].split('=')[0]} once, got '{twice[-1]}' besides"
        ):
            parse_arguments(twice)


NEAREST = """
from dataclasses import dataclass
from labelkit.assigners import Assigner, Steps
from labelkit.search.candidates import Pairs, nearest_per_level
from labelkit.search.choosing import best_per_prior

@dataclass(frozen=True)
class NearestK(Assigner):
    k: int = 9
    def assign(self, priors, gts):
        near = nearest_per_level(priors, gts.boxes, self.k)
        pairs = Pairs(near.prior, near.gt, 1 / (1 + near.value))
        return Steps(pairs, pairs, pairs[best_per_prior(pairs, gts.slot(pairs), gts.slots)])

def near(prior, gt, scale=16.0):
    return 1 / (1 + ((prior - gt) / scale).square().sum(dim=-1))
"""


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A folder that the user stands in, with a rule and a similarity in a file."""
    (tmp_path / "my_rules.py").write_text(NEAREST)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    yield tmp_path
    sys.modules.pop("my_rules", None)


def test_a_ten_line_rule_in_a_file_trains_with_one_command(folder, beside):
    trained = call("train", "--data", folder, "--assigner", "my_rules:NearestK", "--set", "k=3", *TINY, "--out", "run")
    assert trained.exit_code == 0, trained.output
    recipe = read_recipe("run")
    assert recipe.assigner == "my_rules:NearestK" and recipe.assigner_args == {"k": 3}
    assert call("evaluate", "run", "--device", "cpu").exit_code == 0
    detector, _ = load_detector("run", "last")
    assert repr(detector.assigner) == "NearestK(k=3)"
    assert call("train", "--out", "run", "--resume", "--quiet").exit_code == 0


def test_a_similarity_in_a_file_trains_with_one_command(folder, beside):
    words = ["--assigner", "rka", "--set", "k=2", "--set", "similarity=my_rules:near", "--set", "similarity.scale=8"]
    trained = call("train", "--data", folder, *words, *TINY, "--quiet")
    assert trained.exit_code == 0, trained.output
    (run,) = (beside / "runs").iterdir()
    assert read_recipe(run).assigner_args["similarity"] == {"name": "my_rules:near", "scale": 8}


def test_what_is_not_in_the_file_is_one_sentence(folder, beside):
    result = call("train", "--data", folder, "--assigner", "my_rules:Nearest", *TINY)
    assert result.exit_code == 1 and "Traceback" not in result.output
    said = result.stderr.replace("\n", " ")
    assert "my_rules has no 'Nearest'; did you mean 'NearestK'?; expected package.module:Name" in said
