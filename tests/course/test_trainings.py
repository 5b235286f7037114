"""A chapter's training is done once: found again by the same, trained anew for any other."""

from dataclasses import replace

import lightning as L
import pytest
import torch

import labelkit_course as course
from labelkit import datasets
from labelkit.training import Recipe, runs, train
from labelkit_course import trainings

RECIPE = Recipe(steps=1, batch_size=1)


@pytest.fixture(scope="module")
def data():
    return datasets.digits("train", n=2), datasets.digits("test", n=1)


def refused(*arguments):
    raise AssertionError("trained again")


def test_the_second_form_finds_the_run_of_the_first(data, work, monkeypatch):
    with course.run_folder(RECIPE, data) as folder:
        first = train(RECIPE, folder, data=data, resume=True, progress=False, accelerator="cpu")
    assert folder.is_relative_to(work)
    monkeypatch.setattr("labelkit.training.loop.Training.training_step", refused)  # nothing is trained again
    with course.run_folder(RECIPE, data) as again:
        second = train(RECIPE, again, data=data, resume=True, progress=False, accelerator="cpu")
    assert again == folder and second == runs.read_json(folder / runs.RESULT) and second["scores"] == first["scores"]


class Watch(L.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, *_):
        self.seen.append(torch.ones(2))

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def test_what_a_callback_hands_out_comes_back_with_the_run(data):
    for trained in (True, False):
        watch = Watch()
        with course.run_folder(RECIPE, data) as folder:
            assert (folder / runs.RESULT).is_file() is not trained
            train(RECIPE, folder, data=data, resume=True, callbacks=[watch], progress=False, accelerator="cpu")
        assert [one.tolist() for one in watch.seen] == [[1, 1]]


def test_what_a_training_depends_on_names_its_folder(data, monkeypatch):
    def name(recipe=RECIPE, data=data):
        with course.run_folder(recipe, data) as folder:
            return folder.name

    longer = datasets.digits("train", n=3), data[1]
    names = [name(), name(replace(RECIPE, seed=1)), name(data=longer), name(data=(data[0], data[0]))]
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
    assert len({*names, name()}) == 5
    assert name() == name()


def test_the_librarys_source_is_part_of_it(data, tmp_path, monkeypatch):
    (tmp_path / "labelkit").mkdir()
    source = tmp_path / "labelkit" / "__init__.py"
    monkeypatch.setattr(trainings.labelkit, "__file__", str(source))
    found = []
    for text in ("a = 1", "a = 2"):
        source.write_text(text)
        with course.run_folder(RECIPE, data) as folder:
            found.append(folder)
    assert found[0] != found[1]


def test_random_numbers_go_on_as_if_nothing_had_been_drawn(data):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with course.run_folder(RECIPE, data):
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)
