"""The anchors of a detector, drawn in float32 and kept for every size of image."""

from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from labelkit.devices import shipped
from labelkit.priors import Priors

KEPT_SIZES = 16


class CachedAnchors(AnchorGenerator):
    """An anchor generator of torchvision's that draws in float32 and remembers.

    torchvision draws its anchors in the dtype of the feature maps: under autocast a corner beyond 256 px is then
    off by up to a pixel and more. Here they are float32 always, computed once an image size; the `KEPT_SIZES` latest
    sizes are kept. `strides`: the nominal ones, see `Priors.from_torchvision`. `on`: the device that the priors are
    drawn on and stay on, None for that of the feature maps; these get the same boxes, bit for bit, without waiting.
    """

    def __init__(self, generator: AnchorGenerator, strides: tuple[float, ...] | None = None, on: str | None = None):
        super().__init__(generator.sizes, generator.aspect_ratios)
        self.training = generator.training
        self.generator = generator
        self.strides = strides
        self.on = on
        self._latest: Priors | None = None
        self._known: dict[tuple, tuple[Priors, Tensor]] = {}  # and the boxes where the feature maps are

    @property
    def priors(self) -> Priors:
        """Those of the last images."""
        if self._latest is None:
            raise ValueError("priors follow the size of the images, and the detector has seen none yet")
        return self._latest

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        height, width = image_list.tensors.shape[-2:]
        feature_sizes = tuple((feature.shape[-2], feature.shape[-1]) for feature in feature_maps)
        device = feature_maps[0].device
        key = (height, width, feature_sizes, device)
        if key not in self._known:
            if len(self._known) >= KEPT_SIZES:
                self._known.pop(next(iter(self._known)))
            on = device if self.on is None else self.on
            priors = Priors.from_torchvision(self.generator, (height, width), feature_sizes, self.strides, on)
            self._known[key] = priors, shipped(priors.boxes, device)
        self._latest, boxes = self._known[key]
        return [boxes] * len(image_list.image_sizes)
