"""The explorer: which priors learn which object, while one drags it. `labelkit.explore(...)` opens it in a notebook.

One front end (front/) behind three transports: a local server (`labelkit explore`), a widget, a static page.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from labelkit.extras import explained

if TYPE_CHECKING:
    from labelkit.explore.widget import Explorer


class _Explore(ModuleType):
    """This package, which can be called too."""

    def __call__(
        self,
        image: Any = None,
        boxes: Any = None,
        scene: Any = None,
        *,
        labels: Any = None,
        detector: Any = None,
        **state: Any,
    ) -> "Explorer":
        """The explorer as a widget of JupyterLab (and VS Code and Colab); needs the extra `labelkit[explore]`.

        Args:
            image: a file of a picture, or its pixels, [3, H, W] uint8 or floats in 0..1; or a scene in its place.
            boxes: [G, 4] objects, xyxy in pixels of the image.
            scene: what to begin with: a name in `labelkit.scenes.SCENES`, a `Scene`, or what stands behind the # of an
                explorer's address, "size=128,128&priors=...". Without it, and without an image, four objects.
            labels: [G] class of each of the boxes, as the detector counts them; without it the detector says.
            detector: a RetinaNet or FCOS of torchvision's or labelkit's. It sees the image once; its own priors are
                then the priors "detector", and with them come the rules that ask for a network's predictions.
            **state: priors, rules, chosen, panel_rule, heat, in place of the scene's: see `labelkit.explore.state`.
        """
        with explained():
            from labelkit.explore.widget import Explorer
        from labelkit.explore.opening import names_a_scene, opened

        if scene is None and names_a_scene(image):
            image, scene = None, image
        return Explorer(opened(scene, image, boxes, labels=labels, detector=detector, **state))


sys.modules[__name__].__class__ = _Explore
explore = cast(_Explore, sys.modules[__name__])  # `labelkit.explore`, as labelkit's own face finds it
