"""The widget: `labelkit.explore(...)` makes one, and a question in a message is answered by a message."""

import pytest

import labelkit
from labelkit.explore.question import answer
from tests.explore.network import BOXES, LABELS, opinionated, picture

pytest.importorskip("anywidget", reason="anywidget is missing: pip install 'labelkit[explore]'")


@pytest.fixture
def explorer(monkeypatch):
    made = labelkit.explore("thin", rules=["fcos", "atss"])
    made.sent = []
    monkeypatch.setattr(made, "send", lambda content, *_: made.sent.append(content))
    return made


def test_it_holds_the_scene_and_the_page(explorer):
    assert explorer.scene["objects"] == [[12, 57, 116, 73]] and explorer.scene["rules"] == ["fcos", "atss"]
    assert explorer.image is None and explorer.options["url"] is False
    assert "labelkitExplorer" in explorer._esm and "export default" in explorer._esm and ".lkx" in explorer._css


def test_a_message_is_answered_by_a_message(explorer):
    question = {"id": 5, "size": [64, 64], "priors": "fcos", "objects": [[3, 3, 40, 40]], "rules": ["atss"]}
    explorer._handle_custom_msg({"kind": "ask", "question": question}, [])
    assert explorer.sent == [{"id": 5, "answer": answer(question)}]
    explorer._handle_custom_msg({"kind": "ask", "question": question | {"rules": ["none"]}}, [])
    assert explorer.sent[1]["id"] == 5 and "assigner must be one of" in explorer.sent[1]["error"]
    explorer._handle_custom_msg({"kind": "ask"}, [])
    assert (
        explorer.sent[2] == {"id": None, "error": explorer.sent[2]["error"]}
        and "must be an object" in explorer.sent[2]["error"]
    )
    explorer._handle_custom_msg("nothing", [])
    assert len(explorer.sent) == 3


def test_a_detector_answers_for_the_rules_that_ask_one(monkeypatch):
    made, sent = labelkit.explore(picture(), BOXES, labels=LABELS, detector=opinionated()), []
    monkeypatch.setattr(made, "send", lambda content, *_: sent.append(content))
    assert {"simota", "hambox"} <= set(made.options["rules"]) and made.options["priors"][-1] == "detector"
    question = made.scene | {"id": 3, "rules": ["poto"], "panel_rule": "poto"}
    made._handle_custom_msg({"kind": "ask", "question": question}, [])
    assert sent == [{"id": 3, "answer": answer(question, made.network)}] and sent[0]["answer"]["panels"]["story"]
    made._handle_custom_msg({"kind": "ask", "question": question | {"priors": "retinanet"}}, [])
    assert "choose the priors" in sent[1]["error"]


def test_the_package_is_a_function_and_stays_a_package():
    from labelkit.explore import question

    assert labelkit.explore.question is question and callable(labelkit.explore)


def test_a_scene_may_stand_in_the_place_of_the_picture():
    for scene in ("#size=64,64&objects=1,1,9,9", {"size": [64, 64], "objects": [[1, 1, 9, 9]]}):
        assert labelkit.explore(scene).scene == labelkit.explore(scene=scene).scene
        assert labelkit.explore(scene).scene["objects"] == [[1, 1, 9, 9]]
    with pytest.raises(OSError, match=r"priors=4\.png"):
        labelkit.explore("picture of priors=4.png")


def test_a_picture_travels_with_it(tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 30)).save(tmp_path / "picture.png")
    made = labelkit.explore(image=tmp_path / "picture.png", boxes=[[1, 2, 9, 9]])
    assert made.image.startswith("data:image/png;base64,") and made.scene["size"] == [30, 40]
    assert made.scene["objects"] == [[1, 2, 9, 9]]
