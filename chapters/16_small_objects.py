# %% [markdown]
# # 16 · See why small objects are lost, and compensate
#
# Chapter 15 ended with an object of 3 px that had no candidate at all, and a better matching could not help it, because
# there was nothing to match. Why does this happen to small objects and not to large ones? An object of 6 px meets six
# difficulties that one of 60 px never meets. This chapter shows each of them as a number on our images, takes FCOS
# apart to see where its small objects go, and builds the first method made against it.

# %%
import tempfile

import torch
from IPython.display import Markdown
from torch.nn.functional import avg_pool2d
from torchvision import ops

import labelkit_course as course
from labelkit import Priors, datasets, plot
from labelkit.assigners import FCOS, S3FD, MaxIoU
from labelkit.boxes import area, centers, encode_ltrb
from labelkit.detectors import retinanet
from labelkit.evaluation import PRESETS, size_index
from labelkit.losses import focal_loss
from labelkit.similarity import iou
from labelkit.training import train
from labelkit.training.recipe import Recipe
from labelkit_course import board as leaderboard

# %%
tiles = [item for item in datasets.neon_trees("test", fold=None) if len(item[1]["boxes"])]
photos = torch.stack([photo for photo, _ in tiles])
targets = [{key: target[key].as_subclass(torch.Tensor) for key in ("boxes", "labels")} for _, target in tiles]
crowns = torch.cat([target["boxes"] for target in targets])
sides = area(crowns).sqrt()
SIZES = {"under 8 px": (0, 8), "8 to 16 px": (8, 16), "16 px and more": (16, 1000)}

def by_size(values):
    """The mean of one value a crown, for each size."""
    return {name: values[(sides >= low) & (sides < high)].float().mean().item() for name, (low, high) in SIZES.items()}

# %%
tile_of = torch.cat([torch.full((len(target["boxes"]),), k) for k, target in enumerate(targets)])
fig, axes = plot.figure(3, width=3.2, height=3.5)
for ax, wanted in zip(axes, (6, 13, 30), strict=True):
    inside = ((centers(crowns) - 64).abs() < 40).all(dim=1)
    chosen = torch.where(inside, (sides - wanted).abs(), 1e3).argmin()
    x, y = (centers(crowns)[chosen] - 20).int().tolist()
    cut = photos[tile_of[chosen], :, y : y + 40, x : x + 40]
    plot.scene(ax, cut, crowns[chosen] - torch.tensor([x, y, x, y]), title=f"{sides[chosen]:.0f} px")
    ax.set_xticks(range(0, 41, 8))
    ax.set_yticks(range(0, 41, 8))
    ax.grid(color=plot.FAINT, lw=0.6)
plot.show(fig, alt=(
    "Three windows of 40 by 40 px of the aerial photographs, with lines every 8 px. The first crown is a blot smaller "
    "than one cell, the second covers about three cells, the third most of the window."))

# %% [markdown]
# Three crowns, each in a window of 40 px. The number above each is its side: the root of the area of its box. The grid
# has the spacing of the finest places that FCOS and RetinaNet use, 8 px. The left one is a blot smaller than one cell.
#
# **You will be able to**
# - name six difficulties of small objects, and measure each on your own annotations;
# - count objects in the size classes of COCO and AI-TOD, and say what happens on a class border;
# - compute how many objects a grid of points misses, before any training;
# - give five reasons why FCOS finds almost no object under 8 px, and say which of its parts do not help;
# - build S³FD's compensation, and recognise a port that gets it wrong.
#
# **You need** chapters 2, 5, 6 and 7. About 75 minutes to read and solve, and a minute of CPU.
#
# ## The question
#
# RetinaNet's rule calls an anchor positive from IoU 0.5, and background below 0.4 (chapter 5). We take it here
# *without* its low-quality rule, with one square anchor of 16, 32 and 64 px on strides 4, 8 and 16. Which crowns
# get an anchor at all?

# %%
priors = Priors.anchors((128, 128), (4, 8, 16), ((16,), (32,), (64,)))
fixed = MaxIoU(0.5, 0.4, allow_low_quality_matches=False)

def per_crown(rule, on=None):
    """How many positives each crown gets, on the priors `on`."""
    on = priors if on is None else on
    return torch.cat([rule(on, target).positives_per_gt(len(target["boxes"])) for target in targets])

photo, target = photos[24], targets[24]
got = fixed(priors, target).positives_per_gt(len(target["boxes"]))
fig, (ax,) = plot.figure(width=5.2, height=5.4)
plot.scene(ax, photo, title="fixed IoU 0.5 / 0.4, no low-quality rule")
plot.boxes(ax, target["boxes"][got > 0], "good")
plot.boxes(ax, target["boxes"][got == 0], "gt")
plot.legend(ax, good="has a positive anchor", gt="has none")
plot.show(fig, alt=(
    "One tile of forest. Crowns with a positive anchor are green, those without are orange: nearly all the small "
    "ones are orange."))

# %% tags=["nbval-check-output"]
starved = by_size(per_crown(fixed) == 0)
for name, share in starved.items():
    print(f"{name:>15}: {share:4.0%} of the crowns have no positive anchor")
assert [round(100 * share) for share in starved.values()] == [100, 37, 1]

# %% [markdown]
# Not one crown under 8 px has a positive anchor. The detector is not told that they exist. It is told that they
# are *background*, in every image, in every step. This is the worst of the six difficulties, but it is the fourth.
# In order:
#
# ## Difficulty 1: few pixels
#
# What is there to learn from?

# %% tags=["nbval-check-output"]
pixels = area(crowns)
mean_pixels = by_size(pixels)
print("                 crowns   pixels each   share of all crown pixels")
share_of_pixels = {}
for name, (low, high) in SIZES.items():
    here = (sides >= low) & (sides < high)
    share_of_pixels[name] = (pixels[here].sum() / pixels.sum()).item()
    print(f"{name:>15} {here.float().mean():6.0%} {mean_pixels[name]:11.0f} {share_of_pixels[name]:20.1%}")
assert share_of_pixels["under 8 px"] < 0.04 and (sides < 8).float().mean() > 0.17

# %% [markdown]
# 18 % of the crowns hold 3 % of the pixels. And the network does not even read them one by one. Its maps have
# strides of 4, 8, 16 and more: one number of a channel stands for that many pixels squared. The picture is a
# caricature of that, plain averages. A network can do better than averaging, but it has to learn how.

# %%
fig, axes = plot.figure(4, width=3.0, height=3.3)
for ax, stride in zip(axes, (1, 4, 8, 16), strict=True):
    coarse = avg_pool2d(photo[None], stride)[0].repeat_interleave(stride, 1).repeat_interleave(stride, 2)
    plot.scene(ax, coarse, title=f"stride {stride}")
    plot.boxes(ax, target["boxes"][area(target["boxes"]) < 64], "gt")
plot.show(fig, alt=(
    "The same tile averaged over 1, 4, 8 and 16 px. The boxes of the crowns under 8 px are drawn; at stride 8 each of "
    "them is one cell of nearly the colour of its neighbours."))

# %% [markdown]
# ## Difficulty 2: the demand on localisation
#
# Chapter 1 found that IoU forgives the same *share* of the side at every size. So an error in pixels costs small
# objects more. Here every side of every box is off by 1.5 px (standard deviation):

# %% tags=["nbval-check-output"]
generator = torch.Generator().manual_seed(0)
copies = crowns.repeat(20, 1)
noisy = copies + 1.5 * torch.randn(copies.shape, generator=generator)
noisy[:, 2:] = torch.maximum(noisy[:, 2:], noisy[:, :2] + 1)
good = (iou(copies, noisy) >= 0.5).view(20, -1).float().mean(dim=0)
still = by_size(good)
for name, share in still.items():
    print(f"{name:>15}: {share:4.0%} still count as found at IoU 0.5")
assert still["under 8 px"] < 0.5 < 0.99 < still["16 px and more"]
assert 6 * (1 - (1.9 / 1.95) ** 0.5) < 0.1  # chapter 1's tolerance at IoU 0.95

# %% [markdown]
# A detector that knows every crown, and is off by 1.5 px, misses more than half of the small ones at IoU 0.5. COCO's AP
# averages over thresholds up to 0.95, where a crown of 6 px may be shifted by less than a tenth of a pixel. The
# annotators were not that precise themselves.
#
# ## Difficulty 3: their share in the data
#
# How many small objects are there? It depends on who counts.

# %% tags=["nbval-check-output"]
for name in ("coco", "aitod", "soda_d"):
    classes = PRESETS[name].areas
    count = size_index(crowns, name).bincount(minlength=len(classes)).tolist()
    print(f"{name:>7}:", ", ".join(f"{label} {n}" for label, n in zip(classes, count, strict=True)))
assert size_index(crowns, "coco").bincount().tolist() == [724, 1]
assert size_index(crowns, "aitod").bincount().tolist() == [130, 403, 191, 1]

# %% [markdown]
# For COCO all our crowns but one are "small": below 32 × 32 px (its evaluation code). An AP of that class could not
# tell 6 px from 30 px. AI-TOD, a benchmark of aerial images whose objects measure 12.8 px on average (Wang 2020),
# splits it: *very tiny* up to 8 px, *tiny* up to 16, *small* up to 32. SODA-D draws its lines at 12, 20 and 32 px.
#
# The classes of evaluation have a quirk. COCO's code includes **both ends** of a range. An object of exactly 8 × 8
# belongs to *very tiny* and to *tiny*. With hand-drawn boxes that hardly happens. With whole pixels it does, here
# to one digit with an area of 256 px:

# %% tags=["nbval-check-output"]
digits = datasets.digits("train", 200)
numbers_of_pixels = torch.cat([target["area"] for target in digits.targets])
in_classes = {name: int(((numbers_of_pixels >= low) & (numbers_of_pixels <= high)).sum())
              for name, (low, high) in PRESETS["aitod"].areas.items()}
print(f"{len(numbers_of_pixels)} digits; in AI-TOD's classes: {in_classes}, together {sum(in_classes.values())}")
assert sum(in_classes.values()) > len(numbers_of_pixels)

# %% [markdown]
# ### Exercise 16.1: count by size class
# *Difficulty 1 of 5, 6 minutes.*
#
# Count objects as COCO's code does. `limits` is a list of (low, high) *side lengths* in pixels, the classes speak
# of areas: an object belongs to a class if its area lies between low² and high², both included.

# %%
def my_counts(boxes, limits):
    """How many of the boxes [N, 4] fall into each class (low side, high side), both ends included: list of ints."""
    # BEGIN SOLUTION 16.1
    areas = area(boxes)
    return [int(((areas >= low**2) & (areas <= high**2)).sum()) for low, high in limits]
    # END SOLUTION

# %%
course.check("16.1", my_counts)

# %% [markdown]
# The rarity has a second side: *where* they are. Few images may hold most of them. Then most training batches
# contain none (Kisantal 2019, section 3, found this in COCO, and repeated such images more often).

# %% tags=["nbval-check-output"]
tiny_in_tile = torch.tensor([int((area(target["boxes"]) < 64).sum()) for target in targets])
ranked = tiny_in_tile.sort(descending=True).values
print(f"{(tiny_in_tile == 0).float().mean():.0%} of the tiles hold no crown under 8 px; "
      f"the richest quarter of the tiles holds {ranked[: len(ranked) // 4].sum() / ranked.sum():.0%} of them")
assert ranked[: len(ranked) // 4].sum() / ranked.sum() > 0.5

# %% [markdown]
# ## Difficulty 4: starved positives
#
# The opening picture showed it. The reason is arithmetic. Let an object of $w \times w$ lie completely inside an
# anchor of $a \times a$. Then the intersection is the object, and the union is the anchor:
#
# $$\text{IoU} = w^2 / a^2$$
#
# No place of the anchor changes that. With $a = 16$, IoU 0.5 asks for $w \ge 16 \sqrt{0.5} = 11.3$ px.

# %% tags=["nbval-check-output"]
for w in (4, 6, 8, 10, 12):
    places = torch.rand(500, 2, generator=generator) * 16 + 50
    objects = torch.cat([places, places + w], dim=1)
    best = iou(priors.boxes[:, None], objects).amax(dim=0)
    torch.testing.assert_close(best, torch.full((500,), w * w / 256), rtol=0.001, atol=0)
    print(f"{w:3} px: best IoU {best.max():.2f}, wherever it lies")

# %% [markdown]
# Now the same rule with its usual addition: a crown that is left with nothing gets its best anchor, whatever the
# IoU. Chapter 5 showed that the tie-break of this rule matters. Here is every variant, and each number is one that
# "fixed IoU" may mean.

# %% tags=["nbval-check-output"]
rules = {
    "no low quality": fixed,
    "all ties": MaxIoU(0.5, 0.4, low_quality_ties="all"),
    "the first": MaxIoU(0.5, 0.4, low_quality_ties="first", low_quality_owner="gt"),
    "the nearest": MaxIoU(0.5, 0.4, low_quality_ties="nearest"),
}
given = {name: per_crown(rule) for name, rule in rules.items()}
print(f"{'positives a crown (starved)':28}" + "".join(f"{name:>18}" for name in SIZES))
for name, count in given.items():
    mean, none = by_size(count), by_size(count == 0)
    print(f"{name:28}" + "".join(f"{mean[size]:11.1f} ({none[size]:4.0%})" for size in SIZES))
assert by_size(given["all ties"])["under 8 px"] > 4 > 1.01 > by_size(given["the first"])["under 8 px"]

# %% [markdown]
# "All ties" gives the smallest crowns *more* than any other size: every anchor that contains the object has exactly
# the same IoU, so all of them tie. Their IoU is about 0.15. More positives, and poor ones (chapter 4).
#
# ## Difficulty 5: crowding
#
# Chapter 2 measured crowds after the network: two detections of one crown under 8 px overlap too little for
# suppression to see that they are one. Here is its main number again, five detections a crown, off by 1.5 px:

# %% tags=["nbval-check-output"]
kept_of = []
for target in targets:
    source = torch.arange(len(target["boxes"])).repeat_interleave(5)
    found = target["boxes"][source] + 1.5 * torch.randn(len(source), 4, generator=generator)
    found[:, 2:] = torch.maximum(found[:, 2:], found[:, :2] + 1)
    kept = ops.nms(found, torch.rand(len(source), generator=generator), 0.5)
    kept_of.append(source[kept].bincount(minlength=len(target["boxes"])))
doubles = by_size((torch.cat(kept_of) - 1).clamp(min=0))
for name, count in doubles.items():
    print(f"{name:>15}: {count:.1f} doubles a crown survive suppression at 0.5")
assert doubles["under 8 px"] > 10 * doubles["16 px and more"]

# %% [markdown]
# Crowds act before the network, too. Look at the last line of the table above: with the *nearest* best anchor, one
# small crown in five stays empty. Two neighbours can have the same nearest anchor, which then belongs to the one it
# fits better (`low_quality_owner="argmax"`). Small objects stand closer than the anchors are large.

# %% tags=["nbval-check-output"]
robbed = given["the nearest"] == 0
gaps = torch.cdist(centers(crowns), centers(crowns)).masked_fill(tile_of[:, None] != tile_of, 1e3)
nearest = gaps.fill_diagonal_(1e3).amin(dim=1)
tiny = sides < 8
print(f"{(robbed & tiny).sum()} of {tiny.sum()} crowns under 8 px are robbed by a neighbour")
print(f"median distance to the next crown: {nearest[robbed & tiny].median():.0f} px if robbed, "
      f"{nearest[tiny & ~robbed].median():.0f} px if not")
assert nearest[robbed & tiny].median() < nearest[tiny & ~robbed].median() and not (robbed & (sides >= 16)).any()

# %% [markdown]
# ## Difficulty 6: drowned gradients
#
# What moves the weights is the sum over all positives. If large objects have more of them, they have more of the
# sum. We take an untrained detector and look at the very first step: how much of the gradient on its outputs comes
# from crowns of each size?

# %%
torch.manual_seed(0)
detector = retinanet(1, box_loss="giou")
with torch.no_grad():
    outputs = detector.head(list(detector.backbone(photos).values()))

def gradient_shares(rule):
    """For each size its share of the gradient of the class loss and of the box loss, over all positives."""
    assignment = rule(priors, targets)
    image, prior = assignment.positive.nonzero(as_tuple=True)
    wanted = torch.stack([targets[i]["boxes"][assignment.gt[i, p]] for i, p in zip(image, prior, strict=True)])
    logits, deltas = (outputs[key][image, prior].requires_grad_() for key in ("cls_logits", "bbox_regression"))
    boxes = detector.decode(deltas, priors.boxes[prior])
    loss = focal_loss(logits, torch.ones_like(logits)).sum() + ops.generalized_box_iou_loss(boxes, wanted).sum()
    loss.backward()
    side = area(wanted).sqrt()
    masks = [(side >= low) & (side < high) for low, high in SIZES.values()]
    grads = (logits.grad.abs().sum(dim=1), deltas.grad.abs().sum(dim=1))
    return [[(grad[mask].sum() / grad.sum()).item() for mask in masks] for grad in grads]

# %%
learners = {**rules, "FCOS, radius 1.5": FCOS(center_radius=1.5)}
learners.pop("the nearest")
shares = {name: gradient_shares(rule) for name, rule in learners.items()}
fig, axes = plot.figure(2, width=4.8, height=3.4)
present = {name: ((sides >= low) & (sides < high)).float().mean().item() for name, (low, high) in SIZES.items()}
for ax, k, title in zip(axes, (0, 1), ("class loss", "box loss"), strict=True):
    bars = {"share of the crowns": present}
    bars |= {name: dict(zip(SIZES, both[k], strict=True)) for name, both in shares.items()}
    plot.bars_by_size(ax, bars, ylabel="share of the gradient")
    ax.set(title=title, ylim=(0, 1.1))
axes[0].get_legend().remove()
axes[1].get_legend().set_loc("upper left")
plot.show(fig, alt=(
    "Share of the first gradient by size, for four rules, beside the share of the crowns. Crowns under 8 px get far "
    "less than their share in the box loss under every rule."))

# %% tags=["nbval-check-output"]
print(f"crowns under 8 px are {present['under 8 px']:.0%} of all; their share of the first gradient:")
for name, (of_class, of_box) in shares.items():
    print(f"{name:>18}: class loss {of_class[0]:4.0%}, box loss {of_box[0]:4.0%}")
    count = per_crown(learners[name])
    assert abs(of_class[0] - (count[sides < 8].sum() / count.sum()).item()) < 0.01
assert shares["no low quality"][0][0] == 0
assert all(of_box[0] < 0.75 * present["under 8 px"] for _, of_box in shares.values())

# %% [markdown]
# The class column equals the share of positives, since an untrained detector says 0.01 everywhere and every
# positive pulls alike. Count positives by size, and you know the gradients before you train. FCOS with centre
# sampling (chapter 6) gives the small crowns 6 % of its class gradient, here with points from stride 4 on.
#
# ### Exercise 16.2: whose positives are they?
# *Difficulty 2 of 5, 8 minutes.*
#
# Compute that share for one image, from an assignment. `gt` has one entry a prior: the index of its ground truth,
# or −1 (negative) or −2 (ignored). `sides` has one length a ground truth. Without any positive the answer is 0.

# %%
def my_share_of_positives(gt, sides, low, high):
    """Share of the positive priors whose ground truth has low <= side < high, as a float."""
    # BEGIN SOLUTION 16.2
    positive = gt >= 0
    if not positive.any():
        return 0.0
    served = sides[gt[positive]]
    return ((served >= low) & (served < high)).float().mean().item()
    # END SOLUTION

# %%
course.check("16.2", my_share_of_positives)

# %% [markdown]
# ## Why FCOS finds almost none
#
# The first FCOS, and torchvision's, starts at stride 8, with ranges 0–64, 64–128 and so on (Tian 2019, section
# 3.2). On AI-TOD it reaches an AP of 2.3 on the very tiny objects (source below). We look at its labels on the crowns.
# Here are five reasons, each in a cell, and two parts of FCOS that seem made for small objects and do not help.
#
# ### Reason 1: the grid misses them
#
# A point must lie *inside* the box. Throw a box of $w \times h$ on a grid of points with spacing $s$, at a random
# place. In x it catches a column of points with the probability $\min(1, w/s)$, in y a row with $\min(1, h/s)$. The
# two are independent, so the box is missed with the probability
#
# $$1 - \min(1, w/s) \cdot \min(1, h/s).$$
#
# ### Exercise 16.3: missed by the grid
# *Difficulty 2 of 5, 8 minutes.*

# %%
def my_missed(boxes, stride):
    """Probability [N] that a box [N, 4] at a random place contains no point of a grid with this stride."""
    # BEGIN SOLUTION 16.3
    size = boxes[:, 2:] - boxes[:, :2]
    caught = (size / stride).clamp(max=1)
    return 1 - caught[:, 0] * caught[:, 1]
    # END SOLUTION

# %%
course.check("16.3", my_missed)

# %% tags=["nbval-check-output"]
points = Priors.points((128, 128), (8, 16, 32, 64, 128))
plain = per_crown(FCOS(), points)
width, height = (crowns[:, 2:] - crowns[:, :2]).unbind(1)
expected = 1 - (width / 8).clamp(max=1) * (height / 8).clamp(max=1)
for name in SIZES:
    print(f"{name:>15}: {by_size(plain == 0)[name]:4.0%} have no point, expected {by_size(expected)[name]:4.0%}")
assert abs(by_size(plain == 0)["under 8 px"] - by_size(expected)["under 8 px"]) < 0.05

# %% [markdown]
# Four of ten crowns under 8 px contain no point. The formula says so without an assigner, from the sizes alone. Ask
# it before you choose a stride:

# %%
lengths = torch.linspace(1, 20, 96)
lines = {f"stride {s}": 1 - (lengths / s).clamp(max=1) ** 2 for s in (4, 8, 16)}
fig, (ax,) = plot.figure(width=6.4, height=3.2)
plot.curves(ax, lengths, lines, xlabel="side of a square object in px", ylabel="share missed")
plot.show(fig, alt=(
    "Share of squares that contain no grid point, against their side. Stride 4 misses none from 4 px on, stride 8 "
    "misses 44 percent at 6 px, stride 16 misses 86 percent at 6 px."))

# %% [markdown]
# There is a small extra. "Inside" is strict: a point *on* a side does not count (chapter 6). For hand-drawn boxes
# that never happens. The digits have corners at whole pixels, and so have the points:

# %% tags=["nbval-check-output"]
def missed_digits(move):
    empty = []
    for target in digits.targets:
        boxes = target["boxes"].as_subclass(torch.Tensor)
        count = FCOS()(points, {"boxes": boxes + move}).positives_per_gt(len(boxes))
        empty.append((count == 0)[area(boxes) < 64])
    return torch.cat(empty).float().mean().item()

on_sides, between = missed_digits(0.0), missed_digits(0.3)
print(f"digits under 8 px without a point: {on_sides:.0%}; after moving every box by 0.3 px: {between:.0%}")
assert on_sides - between > 0.08

# %% [markdown]
# ### Reason 2: who is hit, is hit once
#
# The number of points in a box grows with its *area*. The loss is a sum over points.

# %% tags=["nbval-check-output"]
of_points = {name: plain[(sides >= low) & (sides < high)].sum().item() for name, (low, high) in SIZES.items()}
for name, count in of_points.items():
    print(f"{name:>15}: {by_size(plain)[name]:4.1f} points a crown; {present[name]:4.0%} of the crowns, "
          f"{count / plain.sum():4.0%} of the points")
assert of_points["under 8 px"] / plain.sum() < 0.04

# %% [markdown]
# ### Reason 3: centre-ness lowers what is left
#
# A large box has a point near its centre. A small one has the one point that happens to be inside, often near a
# side. At test time FCOS multiplies the class score by the predicted centre-ness (section 3.3 of its paper;
# torchvision takes the square root of the product). Suppose a *perfect* network: class score 1, centre-ness exact.

# %% tags=["nbval-check-output"]
best = []
for target in targets:
    answer = FCOS()(points, target)
    hit = answer.positive
    best.append(torch.zeros(len(target["boxes"])).scatter_reduce(0, answer.gt[hit], answer.similarity[hit], "amax"))
best = torch.cat(best)
hit = best > 0
score = {}
for name, (low, high) in SIZES.items():
    here = hit & (sides >= low) & (sides < high)
    score[name] = best[here].sqrt().mean().item()
    print(f"{name:>15}: best centre-ness {best[here].mean():.2f}, so a perfect score is {score[name]:.2f}")
assert score["under 8 px"] < 0.65 < 0.75 < score["16 px and more"]

# %% [markdown]
# Perfect detections of the small crowns stand *behind* those of the large ones in the list, and a score threshold
# meets them first.
#
# ### Reason 4: one level for everything
#
# The pyramid should separate sizes. The ranges start at 64 px, so an object of 6 px and one of 60 px are trained on
# the same map, by the same weights, beside each other.

# %% tags=["nbval-check-output"]
levels = torch.cat([points.levels[FCOS()(points, target).positive] for target in targets])
print(f"{(levels == 0).float().mean():.0%} of all positives are on the first of {len(points.level_sizes)} levels")
reach = torch.cat([encode_ltrb(target["boxes"][answer.gt[answer.positive]], points.centers[answer.positive]) / 8
                   for target in targets for answer in [FCOS()(points, target)]])
print(f"there the head regresses distances from {reach.quantile(0.01):.2f} to {reach.max():.2f} strides")
assert (levels == 0).all()

# %% [markdown]
# Four of five levels never see a positive.
#
# ### Reason 5: an eighth of a stride
#
# The head predicts distances in strides. How precise must it be? Chapter 1 has the tolerance: about 18 % of the side
# for a diagonal shift at IoU 0.5. In strides of 8 px:

# %% tags=["nbval-check-output"]
tolerance = by_size((1 - (2 / 3) ** 0.5) * sides)
for name, allowed in tolerance.items():
    print(f"{name:>15}: a shift of {allowed:.1f} px is allowed, {allowed / 8:.2f} strides")
assert tolerance["under 8 px"] / 8 < 0.17

# %% [markdown]
# The answer for a small object has to be right to about an eighth of the spacing of the numbers it is computed
# from.
#
# ### What does not help
#
# Centre sampling keeps the points within 1.5 strides of the centre: ±12 px. A crown under 8 px has no point farther
# away. And "the smallest ground truth wins" protects small objects only where a point lies in *two* boxes:

# %% tags=["nbval-check-output"]
sampled = per_crown(FCOS(center_radius=1.5), points)
contested = total = 0
for target in targets:
    inside = encode_ltrb(target["boxes"], points.centers[points.levels == 0][:, None]).amin(dim=-1) > 0
    contested, total = contested + int((inside.sum(dim=1) > 1).sum()), total + int((inside.sum(dim=1) > 0).sum())
print(f"centre sampling changes the points of {(sampled != plain)[tiny].sum()} of {tiny.sum()} crowns under 8 px")
print(f"of {total} points inside a crown, {contested} lie in two")
assert (sampled == plain)[tiny].all() and contested < 0.05 * total

# %% [markdown]
# What helps is the obvious: a finer map. The same rule from stride 4 on misses 2 % instead of 42 %.

# %% tags=["nbval-check-output"]
fine = Priors.points((128, 128), (4, 8, 16))
from_four = per_crown(FCOS(), fine)
for name in SIZES:
    print(f"{name:>15}: without a point {by_size(plain == 0)[name]:4.0%} from stride 8, "
          f"{by_size(from_four == 0)[name]:4.0%} from stride 4")
assert by_size(from_four == 0)["under 8 px"] < 0.05

# %% [markdown]
# It costs four times the places, and on AI-TOD it moved FCOS from 12.6 to 15.4 AP, and its very tiny objects from
# 2.3 to 6.0 (README of RFLA's code, Xu 2022, commit 198977b). Reasons 2, 3 and 5 remain. So the rest of this
# chapter, and the next two, change who is *assigned*.
#
# ## S³FD: lower the bar, then fill up
#
# Faces in a crowd photograph are as small as our crowns. S³FD (Zhang 2017, section 3.2) made the first repair that
# looks at each ground truth in turn:
#
# 1. **Lower the threshold** from 0.5 to 0.35. Each prior goes to its own best ground truth. As in SSD, the best
#    prior of every ground truth is forced to it.
# 2. **Compensate.** A ground truth with fewer than $N$ priors takes more: of the priors that are still free, whose
#    own best ground truth it is, those with IoU above 0.1, the best first, until it has $N$.
#
# With Difficulty 4's formula the three numbers turn into pixels. A threshold $t$ reaches objects of at least
# $16 \sqrt t$:

# %% tags=["nbval-check-output"]
for t in (0.5, 0.35, 0.1):
    reached = (sides >= 16 * t**0.5).float().mean()
    print(f"IoU {t:4}: from {16 * t**0.5:4.1f} px on, {reached:4.0%} of our crowns")
assert round(16 * 0.35**0.5, 1) == 9.5 and round(16 * 0.1**0.5, 1) == 5.1

# %%
lengths = torch.arange(4.0, 25, 0.5)
steps = {
    "0.5": MaxIoU(0.5, 0.4, False),
    "0.35": MaxIoU(0.35, 0.35, False),
    "0.35, best one forced": S3FD(n=1),
    "and filled up to 6 above 0.1": S3FD(n=6),
}
places = torch.rand(60, 2, generator=generator) * 16 + 50
lines = {name: [] for name in steps}
for side in lengths:
    single = [{"boxes": torch.cat([place, place + side])[None]} for place in places]
    for name, rule in steps.items():
        lines[name].append((rule(priors, single).positive.sum() / len(places)).item())
fig, (ax,) = plot.figure(width=6.6, height=3.5)
plot.curves(ax, lengths, lines, xlabel="side of a single square object in px", ylabel="positives")
plot.show(fig, alt=(
    "Positives of a single square against its side. With 0.5 none below 11 px, with 0.35 none below 9.5 px, with the "
    "forced one exactly one there, and filled up six from 5 px on."))
at = {name: dict(zip(lengths.tolist(), values, strict=True)) for name, values in lines.items()}
assert at["0.35"][9.0] == 0 < at["0.35"][10.0] and at["0.35"][20.0] > 3 * at["0.5"][20.0]
filled = at["and filled up to 6 above 0.1"]
assert filled[5.0] == 1 and filled[6.0] == filled[9.0] == 6
assert at["0.35, best one forced"][6.0] == 1

# %% [markdown]
# Read the figure from below. Lowering the threshold alone helps objects of 9.5 to 11 px, and makes the rich
# richer: at 20 px the count more than triples. Below 9.5 px nothing changes. The forced prior gives one. Only the
# compensation lifts 5 to 9 px to the level of the rest, and below 5 px even that fails.
#
# Here are both stages, written down for a table of IoUs, `[P, G]`. First stage one:

# %%
def stage_one(table, fg_thresh=0.35):
    best, owner = table.max(dim=1)
    gt = torch.where(best >= fg_thresh, owner, -1)
    for k in range(table.shape[1]):
        if table[:, k].max() > 0:
            gt[table[:, k].argmax()] = k
    return gt

one_tile = targets[24]["boxes"]
table = iou(priors.boxes[:, None], one_tile)
after_one = stage_one(table)
assert (after_one[table.amax(dim=1) >= 0.35] >= 0).all()

# %% [markdown]
# ### Exercise 16.4: fill up
# *Difficulty 4 of 5, 20 minutes.*
#
# Write stage two. A prior is free if stage one gave it to nobody. It may only go to the ground truth with which its
# own IoU is highest, the lower index on ties. It must have an IoU *above* `min_iou`. A ground truth that already has
# `n` priors takes none, and no one ends with more than `n` by this stage. Among equal IoUs the lower prior index
# comes first.

# %%
def my_compensation(table, gt, n, min_iou):
    """`gt` [P] after stage two. `table` [P, G] holds the IoUs (G may be 0), `gt` stage one's answer: an index or -1."""
    # BEGIN SOLUTION 16.4
    gt = gt.clone()
    if table.shape[1] == 0:
        return gt
    best, owner = table.max(dim=1)
    for k in range(table.shape[1]):
        free = ((gt < 0) & (owner == k) & (best > min_iou)).nonzero()[:, 0]
        order = best[free].argsort(descending=True, stable=True)
        missing = max(n - int((gt == k).sum()), 0)
        gt[free[order[:missing]]] = k
    return gt
    # END SOLUTION

# %%
course.check("16.4", my_compensation)

# %% [markdown]
# labelkit's `S3FD` does both stages on pairs, for a batch, without the table. Here it is held against stage one and
# the promises of stage two, on every tile.

# %%
for target in targets:
    table = iou(priors.boxes[:, None], target["boxes"])
    before, after = stage_one(table), S3FD()(priors, target).gt
    assert torch.equal(after[before >= 0], before[before >= 0])
    extra = ((before < 0) & (after >= 0)).nonzero()[:, 0]
    value, owner = table[extra].max(dim=1)
    assert torch.equal(owner, after[extra]) and ((value > 0.1) & (value < 0.35)).all()
    count = after[after >= 0].bincount(minlength=len(target["boxes"]))
    assert (count[after[extra]] <= 6).all()

# %%
fig, axes = plot.figure(2, width=4.6, height=4.9)
corner = {"boxes": one_tile[(one_tile[:, 2] < 74) & (one_tile[:, 3] < 74)]}
panels = (("fixed 0.5 / 0.4, no low quality", fixed), ("S³FD, n = 6", S3FD()))
for ax, (title, rule) in zip(axes, panels, strict=True):
    plot.scene(ax, photo[:, :80, :80], title=title)
    plot.assignment(ax, priors, rule(priors, corner), corner["boxes"], level=0)
    ax.set(xlim=(0, 80), ylim=(80, 0))
plot.show(fig, alt=(
    "A part of the tile with the priors of stride 4. Under the fixed rule half of the crowns have no positive; under "
    "S3FD every crown has at least one and most have six or more."))

# %% tags=["nbval-check-output"]
rules = {"fixed 0.5, no low quality": fixed, "0.35, none forced": steps["0.35"], "S3FD, n = 1": S3FD(n=1),
         "S3FD, n = 6": S3FD(), 'S3FD, n = "mean"': S3FD(n="mean")}
print(f"{'positives a crown (starved)':28}" + "".join(f"{name:>18}" for name in SIZES))
for name, rule in rules.items():
    count = per_crown(rule)
    mean, none = by_size(count), by_size(count == 0)
    print(f"{name:28}" + "".join(f"{mean[size]:11.1f} ({none[size]:4.0%})" for size in SIZES))
assert by_size(per_crown(S3FD()) == 0)["under 8 px"] == 0
assert by_size(per_crown(steps["0.35"]) == 0)["under 8 px"] == 1

# %% [markdown]
# ### Which N?
#
# The paper says: the average number of priors that stage one matched. The author's answers to questions in his
# repository (issues 12, 32 and 46 of sfzhang15/SFD) say 6. The training code was never published, so both readings
# live on: `n="mean"` and `n=6`. They differ most for the smallest: in a tile of small crowns the *average* is small
# too. The rule that should help the poor asks how the poor are doing on average.
#
# Ports had to guess. One counts *faces* where the paper counts priors: half of (faces whose best IoU is at least
# 0.35 plus those with at least 0.5). And it gives that many extra priors to the *image*, best IoU first, not to
# each face (yxlijun/S3FD.pytorch, commit bccf1d9, `layers/bbox_utils.py`). Here is that reading, in our own words:

# %%
def per_image(table):
    gt, (best, owner) = stage_one(table), table.max(dim=1)
    reached = table.amax(dim=0)
    count = (int((reached >= 0.35).sum()) + int((reached >= 0.5).sum())) // 2
    weak = torch.where((gt < 0) & (best > 0.1) & (best < 0.35), best, 0)
    extra = weak.topk(min(count, int((weak > 0).sum()))).indices
    gt[extra] = owner[extra]
    return gt

def extra_by_size(answers):
    added = []
    for target, gt in zip(targets, answers, strict=True):
        before = stage_one(iou(priors.boxes[:, None], target["boxes"]))
        new = gt[(before < 0) & (gt >= 0)]
        added.append(new.bincount(minlength=len(target["boxes"])))
    return by_size(torch.cat(added))

# %% tags=["nbval-check-output"]
readings = {
    "each face up to 6": [S3FD()(priors, target).gt for target in targets],
    "each face up to the mean": [S3FD(n="mean")(priors, target).gt for target in targets],
    "best of the image (a port)": [per_image(iou(priors.boxes[:, None], target["boxes"])) for target in targets],
}
print(f"{'extra priors a crown':28}" + "".join(f"{name:>18}" for name in SIZES))
added = {name: extra_by_size(answers) for name, answers in readings.items()}
for name, extra in added.items():
    print(f"{name:28}" + "".join(f"{extra[size]:18.2f}" for size in SIZES))
port = added["best of the image (a port)"]
assert port["under 8 px"] < 0.1 < port["16 px and more"] and added["each face up to 6"]["under 8 px"] > 3

# %%
fig, (ax,) = plot.figure(width=6.4, height=3.4)
plot.bars_by_size(ax, added, ylabel="extra priors a crown")
plot.show(fig, alt=(
    "Extra priors a crown by size. Compensating each face gives most to crowns under 8 px and none from 16 px on; the "
    "port gives none to the smallest and most to the largest."))

# %% [markdown]
# The port sends its compensation to those who need none. The best of the weak IoUs lie around *large* crowns, just
# under 0.35. It runs, it trains, its numbers look like numbers. Only a count by size shows that the method is gone.
#
# ## The experiment: the knob n
#
# How many should it be? We count positives by size, and the IoU of the positives that the small crowns get.

# %% tags=["nbval-check-output"]
print("   n   positives a crown, by size     IoU of the positives under 8 px   share of positives under 8 px")
knob = {}
for n in (1, 3, 6, 12, 24):
    rule = S3FD(n=n)
    mean = by_size(per_crown(rule))
    answers = [rule(priors, target) for target in targets]
    side = torch.cat([area(t["boxes"]).sqrt()[a.gt[a.positive]] for t, a in zip(targets, answers, strict=True)])
    value = torch.cat([a.similarity[a.positive] for a in answers])
    knob[n] = (mean["under 8 px"], value[side < 8].mean().item(), (side < 8).float().mean().item())
    print(f"{n:4}   " + "  ".join(f"{count:5.1f}" for count in mean.values())
          + f"{knob[n][1]:24.2f}{knob[n][2]:32.0%}")
assert max(row[1] for row in knob.values()) < 0.2 and knob[24][2] < knob[6][2]

# %% [markdown]
# The surprise is the IoU column: it hardly moves. All anchors that contain a small object have the *same* IoU with
# it, so the sixth is as good as the first, by this measure. S³FD's "best first" decides nothing there. Among equals
# the index decides, from the top of the image:

# %% tags=["nbval-check-output"]
bias = {}
for n in (1, 3, 6):
    offsets = []
    for target in targets:
        answer = S3FD(n=n)(priors, target)
        hit = answer.positive & (priors.levels == 0)
        offset = (priors.centers[hit] - centers(target["boxes"])[answer.gt[hit]])[:, 1]
        offsets.append(offset[area(target["boxes"])[answer.gt[hit]] < 64])
    bias[n] = -torch.cat(offsets).mean().item()
    print(f"n = {n}: priors of crowns under 8 px lie {bias[n]:.1f} px above the crown's centre")
assert bias[1] > 2 and bias[6] < bias[1] / 4

# %% [markdown]
# With n = 6 nearly all that contain the crown are taken, and most of the bias is gone: the cure is to ask for so many
# that ranking no longer matters. IoU ranks well where it is high, and is blind where the small objects live. That is
# where chapter 17 begins.
#
# And n runs out. From 12 on there is nothing left to take for the small ones, while the large ones fill up. Their
# share of the positives goes from 3 % up to 10 %, and back to 6 %. More for everyone is less for the poor.
#
# ## Does it help?
#
# Labels are not AP. So train, for 100 steps, a detector with the fixed rule without low-quality matches, and one
# with S³FD. Everything else is equal: data, seed, network, losses. The data are the digits, since 725 crowns are
# too few to measure on (chapter 7).

# %%
train_set, test_set = datasets.digits("train", 800), datasets.digits("test", 60)

def scores_of(assigner, **arguments):
    recipe = Recipe(assigner=assigner, assigner_args=arguments, steps=100, checkpoint_every=100)
    with tempfile.TemporaryDirectory() as folder:
        return train(recipe, folder, data=(train_set, test_set), progress=False)["scores"]

trained = {
    "fixed 0.5, no low quality": scores_of("max_iou", allow_low_quality_matches=False),
    "S3FD, n = 6": scores_of("s3fd"),
}

# %%
classes = {"very tiny": "verytiny", "tiny": "tiny", "small": "small"}
bars = {name: {label: scores[f"AP50_{key}"] for label, key in classes.items()} for name, scores in trained.items()}
fig, (ax,) = plot.figure(width=6.0, height=3.4)
plot.bars_by_size(ax, bars, ylabel="AP at IoU 0.5")
plot.show(fig, alt=(
    "AP at IoU 0.5 for AI-TOD's classes very tiny, tiny and small, after 100 steps. The fixed rule has zero for very "
    "tiny; S3FD is ahead in all three."))
# measured with seeds 0 to 2: very tiny 0.00 and 0.11 to 0.15, tiny 0.11 to 0.20 and 0.37 to 0.46
ours, theirs = trained["S3FD, n = 6"], trained["fixed 0.5, no low quality"]
assert theirs["AP50_verytiny"] < 0.01 and ours["AP50_verytiny"] > 0.02
assert ours["AP50"] > theirs["AP50"] + 0.05
assert all(ours[f"AP50_{key}"] > theirs[f"AP50_{key}"] for key in classes.values())
assert ours["num_gts_medium"] < 20  # too few above 32 px to say anything

# %% [markdown]
# The classes are AI-TOD's; its *medium* has too few digits here to say anything. The fixed rule finds *nothing*
# under 8 px: it was taught that such objects are background, and learned it. With S³FD they are found, at the same
# cost. 100 steps are short, and the gap for the
# larger classes is partly a matter of speed: more positives, faster start. The leaderboard has 750 steps, three
# seeds, and the fixed rule with its low-quality variants. Its rows were trained with anchors on the corners of the
# cells, and are being trained again with anchors in mid-cell (chapter 3). AP and differences are in percent.

# %%
board = leaderboard.read(datasets.data_dir() / "results", "digits", "full")
shown = ["max_iou, no low quality", "max_iou, all ties", "max_iou, nearest tie", "fcos", "s3fd"]
assert all(run["scores"]["AP50_0-8"] > 0.5 for run in board["fcos"].values())
Markdown(leaderboard.table({name: board[name] for name in shown}))

# %% [markdown]
# The "fcos" of this table has its points from stride 4 on, and it does find small objects: that is the finer map again.
# A difference in bold has the same sign in every seed and exceeds 1.5. What is not bold is not claimed. S³FD
# against the others:

# %%
s3fd, fixed = board["s3fd"], board["max_iou, no low quality"]
assert "**+" in leaderboard.difference(s3fd, fixed) and "**+" in leaderboard.difference(s3fd, fixed, "AP50_0-8")
assert "**-" in leaderboard.difference(s3fd, board["max_iou, all ties"], "AP50_0-8")
given = {name: board[name][0]["positives"]["0-8"]["positives"] for name in shown}
assert given["max_iou, all ties"] > 5.9 > 5.5 > given["s3fd"] > 4.5 and round(given["max_iou, nearest tie"]) == 1
nearest = board["max_iou, nearest tie"]
assert "**-" in leaderboard.difference(s3fd, nearest) and "**" not in leaderboard.difference(s3fd, nearest, "AP50_0-8")
Markdown(leaderboard.compare(board, *(("s3fd", name) for name in shown[:4])))

# %% [markdown]
# Against a rule that leaves small objects without anchors, compensation brings nearly everything. Against the
# low-quality rule with all ties it brings **less** under 8 px, and more from 8 to 16 px. That rule gives the smallest
# objects more positives than S³FD, about 6 against 5. With ties to the nearest centre the fixed rule gives them one, is
# level with S³FD under 8 px, and ahead overall. So the number of positives alone decides nothing (chapter 4).
#
# ## The card
#
# | | S³FD |
# |---|---|
# | who may match | every prior that overlaps; in stage two those that stage one left free |
# | how well | IoU |
# | who is chosen | IoU ≥ 0.35, or the best of a ground truth; then the best above 0.1, up to N each |
# | who wins | a prior's own best ground truth; a forced one wins over that, the last of them |
# | cost | as max-IoU: one pass over the pairs, one sort for each ground truth |
# | breaks | under 5 px only the forced prior is left; among equal IoUs the index decides; no ignored band |
# | name it | both thresholds, n or the mean, the order of ties |
#
# **Next.** Three of the six difficulties come from IoU itself: it is strict, it is 0 without contact, and it is
# constant inside an anchor. Chapter 17 replaces it.
#
# ## Recap
#
# - Six difficulties: few pixels, strict localisation, rarity, starved positives, crowding, drowned gradients. Each is
#   a count on annotations and priors. None needs training.
# - An object of side $w$ inside an anchor of side $a$ has IoU $(w/a)^2$, wherever it lies.
# - FCOS from stride 8 misses $1 - \min(1, w/s)\min(1, h/s)$ of the boxes. Those it hits get one point, off-centre,
#   on a level shared by all sizes. Centre sampling changes nothing for them.
# - S³FD: 0.35 instead of 0.5 helps from 9.5 px on; the fill-up above 0.1 helps from 5 px on.
# - A port may compensate the image instead of each face. Count positives by size, and you see it.
#
# ## Recall
#
# <details><summary>1. Your anchors start at 32 px. From which side does an object reach IoU 0.5, and what does 0.35
# change?</summary>
#
# From 32 · √0.5 = 22.6 px. With 0.35 from 32 · √0.35 = 18.9 px. The threshold alone moves little; smaller anchors
# move much.
# </details>
#
# <details><summary>2. FCOS at stride 8: why does a smaller centre radius not help an object of 6 px?</summary>
#
# It has at most one point, well within 1.5 strides. Centre sampling only removes points.
# </details>
#
# <details><summary>3. Lowering the threshold from 0.5 to 0.35 gave large objects three times the positives. Why can
# that hurt the small ones?</summary>
#
# The loss is a sum over positives. If the large ones have more of them, and the small ones none or one, the small
# ones' share of the gradient falls.
# </details>
#
# ## References
#
# - S. Zhang and others, *S³FD: Single Shot Scale-invariant Face Detector*, ICCV 2017, arXiv 1708.05237, section 3.2;
#   issues 12, 32 and 46 of sfzhang15/SFD: N = 6.
# - Z. Tian and others, *FCOS: Fully Convolutional One-Stage Object Detection*, ICCV 2019, arXiv 1904.01355, section 3.
# - J. Wang and others, *Tiny Object Detection in Aerial Images*, ICPR 2020: AI-TOD, its sizes and classes.
# - C. Xu and others, *RFLA: Gaussian Receptive Field based Label Assignment for Tiny Object Detection*, ECCV 2022,
#   arXiv 2208.08738; numbers of FCOS from the README of its code.
# - M. Kisantal and others, *Augmentation for Small Object Detection*, 2019, arXiv 1902.07296, section 3.
# - G. Cheng and others, *Towards Large-Scale Small Object Detection*, TPAMI 2023, arXiv 2207.14096: SODA-D.
# - B. Weinstein and others, the tree crowns: `data/neon_trees/ATTRIBUTION.md`.
