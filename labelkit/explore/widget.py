"""The explorer as a widget: the page of `labelkit explore` in a cell's output, and its answers from this kernel."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from labelkit.explore.opening import Opened
from labelkit.explore.parts import script, style
from labelkit.explore.question import answer
from labelkit.explore.server import options

RENDER = """
function render({model, el}) {
  // Every view of this widget hears every answer: the view's own name tells which are meant for it.
  const waiting = new Map(), view = Math.random().toString(36).slice(2);
  model.on("msg:custom", message => {
    const asked = waiting.get(message.id);
    if (!asked) return;
    waiting.delete(message.id);
    if (message.error) asked.reject(new Error(message.error)); else asked.resolve(message.answer);
  });
  const ask = question => new Promise((resolve, reject) => {
    const id = `${view} ${question.id}`;
    waiting.set(id, {resolve, reject});
    model.send({kind: "ask", question: {...question, id}});
  });
  const changed = scene => { model.set("scene", scene); model.save_changes(); };
  const options = {...model.get("options"), changed};
  // A key that is pressed here is none of the notebook's: x would cut the cell, Enter leave a button for the code.
  el.addEventListener("keydown", event => { if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); });
  const unmount = labelkitExplorer.mount(el, model.get("scene"), model.get("image"), ask, options);
  return unmount;
}
export default {render};
"""


class Explorer(anywidget.AnyWidget):
    """`scene` follows what is done in the page: `explorer.scene["objects"]` are the boxes as they stand now.

    `network`: the detector's priors and predictions, where there is a detector; see `labelkit.explore.network`.
    """

    _esm = script() + RENDER
    _css = style()
    scene = traitlets.Dict().tag(sync=True)
    image = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    options = traitlets.Dict().tag(sync=True)

    def __init__(self, begun: Opened):
        super().__init__(scene=begun.scene, image=begun.url, options=options(begun.network) | {"url": False})
        self.network = begun.network
        self.on_msg(_answer)


def _answer(widget: Explorer, content: Any, _: Any) -> None:
    """A question of the page's, answered to the page."""
    if not isinstance(content, dict) or content.get("kind") != "ask":
        return
    question = content.get("question")
    number = question.get("id") if isinstance(question, dict) else None
    try:
        widget.send({"id": number, "answer": answer(question, widget.network)})
    except ValueError as error:
        widget.send({"id": number, "error": str(error)})
