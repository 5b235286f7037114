"""The explorer as one file: scene, picture, front end and the rules in JavaScript, for a book or a mail.

It asks nobody for anything, so it opens from a disk too. Its rules are those that tests/explore/test_rules_js.py found
equal to the library's.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from labelkit.explore.opening import data_url, opened
from labelkit.explore.parts import code, in_script, script, style
from labelkit.explore.state import checked
from labelkit.scenes import SCENES

FRONT = Path(__file__).with_name("front")
RULES = ("boxes.js", "scene.js", "assigners.js", "rules.js")
HEAVIEST = 250_000  # bytes of a picture as text; with the front end the page stays under 400 kB
QUALITIES = (85, 70, 50, 30, 15)  # of JPEG, until a picture is light enough

# A corner of the Hubble eXtreme Deep Field (NASA, public domain): `datasets.hubble.deep_field("whole")`, x from 421,
# y from 485, with its boxes. torchvision's FCOS has a place every 8 px, and one of them is in the first object.
SKY: dict[str, Any] = {
    "size": [96, 128],
    "priors": "fcos",
    "objects": [
        [44, 28, 51, 35], [81, 2, 85, 5], [12, 11, 18, 17], [81, 24, 89, 32], [107, 28, 112, 34], [103, 37, 112, 46],
        [96, 47, 103, 55], [49, 52, 54, 58], [24, 57, 30, 64], [31, 60, 35, 64], [23, 63, 28, 68], [48, 56, 72, 80],
        [98, 67, 108, 77], [40, 76, 46, 83], [5, 75, 23, 88], [109, 79, 113, 83],
    ],
}  # fmt: skip
RULES_SHOWN = ["max_iou min_fg=0.5", "fcos", "atss", "rka"]  # the first is the bare threshold, which rescues nobody
SLIDING = {"objects": [[60, 60, 67, 67]], "rules": RULES_SHOWN}

HINT = "Drag an object by a few pixels and watch which places learn it."
HINT_SKY = (
    "Drag the galaxy's box slowly to the right: at 4 px three of these four rules give it 0 places, and nothing "
    "learns it."
)
HINT_SLIDING = (
    "Drag the box. The bare threshold never gives it a place, FCOS and ATSS give it one, two or four, depending on "
    "where it stands on the grid, and RKA always gives it three."
)

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Label assignment, by hand</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src \
'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'">
<style>{css}
.lkx.lkx-head {{ padding-bottom: 0 }}
.lkx-head h1 {{ font-size: 1.2rem; margin: .1rem 0 }}
.lkx-head p {{ max-width: 60rem }}
.lkx-framed :is(h1, .lkx-what) {{ display: none }}
.lkx-framed main .lkx {{ padding-top: 0 }}
.lkx-framed p {{ margin: .1rem 0; line-height: 1.35 }}
@media (max-width: 520px) {{
  .lkx-framed :is(.lkx-tools, .lkx-set, .lkx-handle, section) {{ display: none }}  /* one picture, to be dragged */
}}
main .lkx-lead {{ display: none }}
</style></head><body class="lkx-page">
<header class="lkx lkx-head"><h1>Which places learn which object?</h1>
<p><span class="lkx-what">A detector looks at a picture from thousands of places, and <b>label assignment</b> is the
rule that decides which of them learns which object.</span> Grey dots are places, blue ones learn an object.
<span id="hint"></span></p></header>
<label class="lkx-field" id="field"><span>example</span><select id="examples" aria-label="example"></select></label>
<main id="explorer"></main>
<script>{script}</script>
<script>
{{
  const begin = {begin}, place = document.getElementById("explorer"), chosen = document.getElementById("examples");
  const {{rules, priors, similarities, answer}} = labelkitRules;
  const options = {{rules, priors, similarities, own: true, url: true}}, ask = async question => answer(question);
  const say = text => {{ document.getElementById("hint").textContent = text; }};
  const field = document.getElementById("field");
  document.body.classList.toggle("lkx-framed", top !== self);  // the page around it says what label assignment is
  let leave = null;
  const open = () => {{
    const {{scene, image, hint}} = begin[chosen.value];
    leave?.();
    leave = labelkitExplorer.mount(place, scene, image, ask, options);
    place.querySelector(".lkx-tools").prepend(field);
    say(location.hash.length > 1 ? {hint} : hint);
  }};
  chosen.append(...begin.map(({{name}}, index) => new Option(name, index)));
  chosen.onchange = () => {{
    history.replaceState(null, "", "#");
    open();
    chosen.focus();
  }};
  onhashchange = () => say({hint});
  open();
}}
</script></body></html>
"""


def static_page(scene: Any = None, image: Any = None) -> str:
    """One HTML file that needs nothing else; under 400 kB.

    scene, image: what to begin with, as `labelkit.explore` takes them; image may be a data: URL. Without both, a corner
    of the deep sky. The fixed scenes of `labelkit.scenes.SCENES` stand beside it.
    """
    if scene is None and image is None:
        first = _example(
            "the deep sky", SKY | {"rules": RULES_SHOWN}, HINT_SKY, data_url((FRONT / "sky.png").read_bytes())
        )
    elif isinstance(image, str) and image.startswith("data:"):
        first = _example("this picture", opened(scene).scene, HINT, _light(base64.b64decode(image.partition(",")[2])))
    else:
        found = opened(scene, image)
        picture = None if found.picture is None else _light(found.picture)
        first = _example("this scene", found.scene, HINT, picture)
    examples = [first, _example("a 7 px box that slides", SLIDING, HINT_SLIDING)]
    for one in SCENES.values():
        examples.append(_example(one.title, {"size": list(one.size), "objects": one.boxes.tolist()}, HINT))
    parts = "\n".join((*map(code, RULES), script()))
    return PAGE.format(css=style(), script=parts, begin=in_script(examples), hint=in_script(HINT))


def _example(name: str, scene: dict[str, Any], hint: str, image: str | None = None) -> dict[str, Any]:
    return {"name": name, "scene": checked(scene), "image": image, "hint": hint}


def _light(picture: bytes) -> str:
    """A picture as a data: URL of at most `HEAVIEST` bytes."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    url = data_url(picture, kind)
    for quality in QUALITIES:
        if len(url) <= HEAVIEST:
            break
        file = io.BytesIO()
        Image.open(io.BytesIO(picture)).convert("RGB").save(file, "JPEG", quality=quality, optimize=True)
        url = data_url(file.getvalue(), "jpeg")
    return url
