# %% [markdown]
# # 05 · Let a threshold decide: RetinaNet
#
# Thousands of anchors, a few objects. This chapter builds the rule that most detectors start from: measure IoU,
# cut at a threshold. Then it looks for the objects that the rule forgets.

# %%
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

import labelkit_course as course
from labelkit import IGNORED, NEGATIVE, Priors, datasets, plot
from labelkit.assigners import MaxIoU
from labelkit.boxes import area, decode_deltas, encode_deltas
from labelkit.similarity import iou

# %%
object_box = torch.tensor([[30.0, 34, 94, 98]])
three = torch.tensor([[36.0, 28, 100, 92], [16, 22, 80, 86], [2, 4, 66, 68]])
fig, axes = plot.figure(3, width=3.2, height=3.6)
for ax, anchor, value in zip(axes, three, iou(three, object_box).tolist(), strict=True):
    plot.scene(ax, (128, 128), object_box, title=f"IoU {value:.2f}")
    plot.boxes(ax, anchor, "prior", fill=True)
    plot.legend(ax, "gt", prior="anchor")
plot.show(fig, alt=(
    "One object, three anchors of the same size. The first covers nearly all of it, with IoU "
    "0.70. The second is moved further, IoU 0.46. The third covers one corner, IoU 0.18."))
assert [round(value, 2) for value in iou(three, object_box).tolist()] == [0.70, 0.46, 0.18]

# %% [markdown]
# The left anchor should learn the object, and the right one should not. What about the middle one?
#
# **You will be able to**
# - label anchors by two thresholds, and say what happens at exactly 0.4 and 0.5;
# - write the targets that the network is trained with: classes −1, 0, class + 1, and (tx, ty, tw, th);
# - build the best-anchor rule of Faster R-CNN, and name the three choices on which its implementations differ;
# - find the objects in a data set that end without an anchor, and say why.
#
# **You need** chapters 1 (IoU), 3 (anchors) and 4 (positive, negative, ignored; the four questions). About
# 70 minutes to read and solve, and half a minute of CPU.
#
# ## The question
#
# Chapter 4 told apart positive and negative anchors, but left open who decides. The first rule that comes to
# mind: **an anchor that touches an object is positive**, and it serves the object that it overlaps most. Here it
# is on two objects and 64 anchors of 64 px, one at every 16 px.

# %%
scene = plot.SCENES["two overlapping"]
anchors = Priors.anchors((128, 128), strides=(16,), sizes=((64,),))
touching = MaxIoU(fg_thresh=1e-6, bg_thresh=1e-6, allow_low_quality_matches=False)(anchors, scene.target)
farthest = touching.similarity.argmin()

fig, axes = plot.figure(2)
plot.scene(axes[0], scene, title="touching makes positive")
plot.points(axes[0], anchors.centers[touching.positive], "positive")
plot.scene(axes[1], scene, title=f"one of them: IoU {touching.similarity[farthest]:.3f}")
plot.boxes(axes[1], anchors.boxes[farthest], "positive", fill=True)
plot.show(fig, alt=(
    "Left: two overlapping objects and the centres of all 64 anchors, each marked as a "
    "positive. Right: one of these anchors, which lies in a corner of the image and touches "
    "its object with a small part."))

# %% tags=["nbval-check-output"]
asked = encode_deltas(scene.boxes[touching.gt], anchors.boxes).abs().amax(dim=0)
print(f"{touching.positive.sum()} of {len(anchors)} anchors are positive")
print(f"{(touching.similarity < 0.2).sum()} of them have an IoU under 0.2")
print(f"one has to move sideways by {asked[0]:.2f} of its width")
assert touching.positive.all() and (touching.similarity < 0.2).sum() == 31 and asked[0] > 1

# %% [markdown]
# Every anchor of the image is a positive, and nothing is left to be background. 31 of them have an IoU under 0.2
# with their object, and the network is told "object" all the same. One would have to move by more than its own
# width to fit.
#
# So overlap is not enough. **How much overlap does an anchor need?** That number is the threshold.
#
# ## Two thresholds, three labels
#
# Slide one anchor of 64 px over an object of 64 px. IoU rises, peaks at 1 and falls. Cut the curve twice:
#
# - IoU of 0.5 or more: **positive**. The anchor learns this object.
# - IoU under 0.4: **negative**. The anchor learns "background".
# - In between: **ignored**. The anchor learns nothing from this image.

# %%
still = torch.tensor([0.0, 0, 64, 64])
steps = torch.linspace(-64, 64, 257)
sliding = still + torch.stack([steps, torch.zeros_like(steps)], dim=1).repeat(1, 2)
value = iou(sliding, still)
fig, (ax,) = plot.figure(width=6.4, height=3.6)
parts = {"negative": value < 0.4, "ignored": (value >= 0.4) & (value < 0.5), "positive": value >= 0.5}
for role, part in parts.items():
    plot.points(ax, torch.stack([steps, value], dim=1)[part][::3], role)
ax.set(title="IoU against the shift in px", xlim=(-66, 66), ylim=(-0.03, 1.05))
for threshold in (0.4, 0.5):
    ax.axhline(threshold, color=plot.GREY, lw=1)
plot.legend(ax, "positive", "ignored", "negative")
plot.show(fig, alt=(
    "IoU of a sliding anchor against its shift, a peak of 1 at 0. Above 0.5 the points are "
    "positive, from 0.4 to 0.5 ignored, below 0.4 negative. The ignored band is a few pixels "
    "wide on each side."))

# %% [markdown]
# Why not one cut? On the slope, one pixel decides between "object" and "background", while the image under the
# anchor hardly changes. Two anchors that look alike would be taught opposite answers. The ignored band between the
# cuts keeps the two answers apart.
#
# With several objects an anchor looks at the one that it overlaps most. Call that best IoU $m_a$:
#
# $$m_a = \max_g \text{IoU}(a, g), \qquad \text{label}(a) = \begin{cases}
# \text{positive for } \arg\max_g \text{IoU}(a, g) & m_a \ge 0.5 \\
# \text{ignored} & 0.4 \le m_a < 0.5 \\
# \text{negative} & m_a < 0.4 \end{cases}$$
#
# These are RetinaNet's numbers (Lin 2017, section 4, "Anchors"). Faster R-CNN has two stages. The first, its proposal
# network, takes 0.7 and 0.3 (Ren 2015, section 3.1.2). For one anchor, in code:

# %%
def label_of_one_anchor(ious, fg_thresh=0.5, bg_thresh=0.4):
    best = max(ious)
    if best >= fg_thresh:
        return ious.index(best)
    return IGNORED if best >= bg_thresh else NEGATIVE

assert label_of_one_anchor([0.1, 0.7]) == 1
assert label_of_one_anchor([0.5, 0.1]) == 0 and label_of_one_anchor([0.49]) == IGNORED
assert label_of_one_anchor([0.4]) == IGNORED and label_of_one_anchor([0.39]) == NEGATIVE
assert label_of_one_anchor([0.6, 0.6]) == 0

# %% [markdown]
# The assertions pin the boundaries. Exactly 0.5 is positive, exactly 0.4 is ignored: each threshold belongs to the
# label *above* it. Between two equal objects the first wins.
#
# On our scene, next to the rule from above:

# %%
thresholds_only = MaxIoU(fg_thresh=0.5, bg_thresh=0.4, allow_low_quality_matches=False)
cut = thresholds_only(anchors, scene.target)
fig, axes = plot.figure(2, height=4.4)
for ax, answer, title in zip(axes, (touching, cut), ("touching", "0.5 and 0.4"), strict=True):
    plot.scene(ax, scene, title=title)
    plot.assignment(ax, anchors, answer, scene.boxes)
    plot.legend(ax, "gt", "positive", "ignored", "negative")
plot.show(fig, alt=(
    "The 64 anchors under both rules. Touching: all positive, their boxes cover the whole "
    "image. With thresholds: seven positives near the centres of the two objects, five "
    "ignored around them, the other 52 negative."))
assert [int(cut.positive.sum()), int(cut.ignored.sum()), int(cut.negative.sum())] == [7, 5, 52]

# %% [markdown]
# Seven positives remain, each close to its object. The five ignored ones lie beside them.
#
# ### Exercise 05.1: two thresholds
# *Difficulty 2 of 5, 10 minutes.*
#
# Label all anchors at once. You get the table of IoU, a row for each anchor and a column for each object. Return
# one whole number for each anchor: the column of its object, `NEGATIVE` or `IGNORED`. An image without objects has
# a table `[P, 0]`: all anchors are negative there.

# %%
def my_two_thresholds(table, fg_thresh, bg_thresh):
    """The label int64 [P] of every anchor, from the IoU table [P, G]: object's index, NEGATIVE or IGNORED."""
    # BEGIN SOLUTION 05.1
    if table.shape[1] == 0:
        return torch.full((len(table),), NEGATIVE)
    best, label = table.max(dim=1)
    label[best < fg_thresh] = IGNORED
    label[best < bg_thresh] = NEGATIVE
    return label
    # END SOLUTION

# %%
course.check("05.1", my_two_thresholds)

# %% [markdown]
# ## What the network is asked
#
# The labels say which object an anchor serves. Training needs two things more: a class to predict, and a box.
#
# ### Classes: −1, 0, class + 1
#
# Classes are counted from 0: "cat" may be 0 and "dog" 1. In the class *targets*, background needs a number too. The
# usual convention gives it 0, moves the classes up by one, and marks ignored anchors by −1. Beware: `gt` counts
# objects and has other codes, those of torchvision's `Matcher`.
#
# | anchor | in `assignment.gt` | in `class_targets` |
# |---|---|---|
# | positive for object 3, a dog | 3 | 2 |
# | negative | `NEGATIVE` = −1 | 0 |
# | ignored | `IGNORED` = −2 | −1 |
#
# So −1 means "background" on the left and "ignored" on the right. Mixing them up raises no error.

# %% tags=["nbval-check-output"]
labels = torch.tensor([4, 0])
targets = cut.class_targets(labels)
print("of the two objects:", labels.tolist())
print("in the targets:    ", {int(t): int((targets == t).sum()) for t in targets.unique()})
assert (targets[cut.gt == 0] == 5).all() and (targets[cut.gt == 1] == 1).all()
assert (targets[cut.ignored] == -1).all() and (targets[cut.negative] == 0).all()

# %% [markdown]
# RetinaNet has no output for background. It has one yes-or-no output for each class, so a background anchor is
# a row of zeros, and an ignored anchor is left out of the sum. Chapter 4's focal loss then runs over these rows.

# %%
def class_rows(targets, num_classes):
    counted = targets[targets >= 0]
    return torch.nn.functional.one_hot(counted, num_classes + 1)[:, 1:]

rows = class_rows(targets, num_classes=5)
assert rows.shape == (64 - 5, 5) and rows.sum() == 7

# %% [markdown]
# ### Exercise 05.2: class targets
# *Difficulty 2 of 5, 8 minutes.*
#
# Write the right column of the table above from the left one. `gt` holds an object's index, `NEGATIVE` or `IGNORED`
# for each anchor, `labels` the class of each object. Mind that `labels[-1]` is no error in Python. An image without
# objects has no labels.

# %%
def my_class_targets(gt, labels):
    """Class targets int64 [P]: -1 ignored, 0 background, class + 1 for positives. gt: int64 [P], labels: int64 [G]."""
    # BEGIN SOLUTION 05.2
    targets = torch.zeros_like(gt)
    targets[gt == IGNORED] = -1
    positive = gt >= 0
    targets[positive] = labels[gt[positive]] + 1
    return targets
    # END SOLUTION

# %%
course.check("05.2", my_class_targets)

# %% [markdown]
# ### Boxes: (tx, ty, tw, th)
#
# A positive anchor is asked to become its object's box. Chapter 3 coded that as a move, measured in anchor sizes,
# and a stretch, as a logarithm.

# %%
anchor, wanted = torch.tensor([24.0, 24, 88, 88]), torch.tensor([40.0, 36, 104, 116])
tx, ty, tw, th = encode_deltas(wanted, anchor).tolist()
fig, (ax,) = plot.figure(width=4.4, height=4.6)
plot.scene(ax, (128, 128), wanted, title=f"tx {tx:.2f}   ty {ty:.2f}   tw {tw:.2f}   th {th:.2f}")
plot.boxes(ax, anchor, "positive")
plot.points(ax, [[56, 56]], "positive")
plot.points(ax, [[72, 76]], "gt")
ax.annotate("", (72, 76), (56, 56), arrowprops={"arrowstyle": "->", "lw": 1.6})
plot.legend(ax, "gt", positive="anchor")
plot.show(fig, alt=(
    "An anchor of 64 by 64 px and its object, 64 by 80 px. An arrow leads from the anchor's "
    "centre to the object's. The four targets stand above: 0.25, 0.31, 0 and 0.22."))

assert (tx, ty, tw) == (16 / 64, 20 / 64, 0) and abs(th - torch.tensor(80 / 64).log()) < 1e-6
assert torch.allclose(decode_deltas(encode_deltas(wanted, anchor), anchor), wanted)

# %% [markdown]
# With centre $(x, y)$ and size $w, h$ of the object, and $x_a, y_a, w_a, h_a$ of the anchor (Ren 2015, equation 2):
#
# $$t_x = \frac{x - x_a}{w_a}, \quad t_y = \frac{y - y_a}{h_a}, \quad t_w = \ln\frac{w}{w_a}, \quad
# t_h = \ln\frac{h}{h_a}$$
#
# Decoding is the way back: it turns the four numbers that the network says into a box.
#
# Here lies a second reason for the threshold. IoU of 0.5 or more is a promise to the part of the network that
# regresses boxes: **the targets are small**. No side can differ by more than a factor of 2, and no centre can be
# further away than half an anchor. A million random pairs say the same:

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
unit = torch.tensor([0.0, 0, 1, 1])
corner, size = torch.rand(1_000_000, 2) * 2 - 1, torch.exp(torch.rand(1_000_000, 2) * 2 - 1)
pairs = torch.cat([corner, corner + size], dim=1)
for threshold in (0.5, 0.7):
    close = pairs[iou(unit, pairs) >= threshold]
    most = encode_deltas(close, unit).abs().amax(dim=0)
    print(f"IoU {threshold} or more: |tx| up to {most[0]:.1f}, |tw| up to {most[2]:.1f}")
    assert most[2:].max() <= -torch.tensor(threshold).log()
    assert most[:2].max() <= (1 / threshold - 1) / 2

# %% [markdown]
# The bounds are $|t_w| \le \ln(1/t)$ and $|t_x| \le (1/t - 1)/2$ for a threshold $t$, in each direction on its own.
#
# ## The object that gets nothing
#
# Two thresholds look complete. Now the scene with four objects, and a pyramid with one square anchor a cell:
# 16 px at every 4 px, 32 px at every 8, 64 px at every 16. The side is 4 strides on each level, as in RetinaNet.
# Most of the later cells use this pyramid.

# %% tags=["nbval-check-output"]
pyramid = Priors.anchors((128, 128), strides=(4, 8, 16), sizes=((16,), (32,), (64,)))
sizes_scene = plot.SCENES["four sizes"]
strict = thresholds_only(pyramid, sizes_scene.target)
best = iou(pyramid.boxes[:, None], sizes_scene.boxes).amax(dim=0)
for side, got, value in zip((8, 16, 32, 64), strict.positives_per_gt(4).tolist(), best.tolist(), strict=True):
    print(f"{side:2} px: {got} positives, its best anchor has IoU {value:.2f}")
assert strict.positives_per_gt(4).tolist() == [0, 3, 4, 3] and best[0] == 0.25

# %%
fig, axes = plot.figure(3, width=3.2, height=3.9)
for level, ax in enumerate(axes):
    plot.scene(ax, sizes_scene, title=f"anchors of {16 * 2**level} px")
    plot.assignment(ax, pyramid, strict, sizes_scene.boxes, level=level)
plot.legend(axes[1], "gt", "positive", "ignored", "negative")
plot.show(fig, alt=(
    "Four objects on the three levels of the pyramid. The objects of 16, 32 and 64 px each "
    "have three or four positives on the level of their size. The object of 8 px has none: "
    "its surroundings are all negative."))

# %% [markdown]
# The object of 8 px has no positive. It is worse than missing: all anchors on it are **negative**. The network is
# told, in each epoch, that this object is background.
#
# The best anchor had no chance. An anchor of 16 px that contains the whole object has the IoU 64 / 256 = 0.25, and no
# anchor of the pyramid is smaller. The position of an object matters as well. Here is the best IoU that square objects
# can get, at the luckiest and at the unluckiest place between the anchors. The grey lines are the thresholds 0.4, 0.5
# and 0.7.

# %%
places = torch.cartesian_prod(torch.arange(64, 72.5, 0.5), torch.arange(64, 72.5, 0.5))

def best_ious(side):
    boxes = torch.cat([places - side / 2, places + side / 2], dim=1)
    return iou(pyramid.boxes[:, None], boxes).amax(dim=0)

sides = torch.arange(4.0, 73)
by_place = torch.stack([best_ious(side) for side in sides])
fig, (ax,) = plot.figure(width=6.6, height=3.6)
lines = {"luckiest place": by_place.amax(dim=1), "unluckiest place": by_place.amin(dim=1)}
plot.curves(ax, sides, lines, xlabel="side of the object in px", ylabel="best IoU")
for threshold in (0.4, 0.5, 0.7):
    ax.axhline(threshold, color=plot.GREY, lw=1)
ax.set_xticks([8, 16, 24, 32, 48, 64])
plot.show(fig, alt=(
    "Best IoU against the side of a square object. It rises from 0.06 at 4 px to 1 at 16 px, "
    "and has further peaks at 32 and 64 px with valleys near 0.5 between. At unlucky places "
    "the peaks are flat, at about 0.64."))

# %% tags=["nbval-check-output"]
lucky, unlucky = lines.values()
print(f"the luckiest place:   nothing up to {sides[lucky < 0.5].max():.0f} px")
print(f"the unluckiest place: nothing up to {sides[unlucky < 0.5].max():.0f} px")
print(f"sizes that reach 0.7: {(lucky >= 0.7).sum()} of {len(sides)} if lucky, {(unlucky >= 0.7).sum()} if not")
assert sides[lucky < 0.5].max() == 11 and (lucky[12:] > 0.5).all() and (unlucky < 0.7).all()

# %% [markdown]
# On the left the curves fall off a cliff: under 12 px no place is lucky enough for 0.5, however the anchors lie.
# Between two anchor sizes lies a valley, whose floor just reaches 0.5. The gap between the curves is luck: the same
# object, some pixels to the side, gets other labels. At the threshold 0.7 luck decides over more than half of the
# sizes.
#
# RetinaNet fills the valleys with nine anchors a cell, three sizes and three shapes. The cliff stays: none of the nine
# has a smaller area than the square of 16 px.
#
# ## The best anchor is positive, whatever its IoU
#
# Faster R-CNN knew the problem. Its positives are of two kinds (Ren 2015, section 3.1.2):
#
# 1. the anchor, or anchors, with the highest IoU with an object;
# 2. an anchor with an IoU above 0.7 with any object. Its negatives are under 0.3.
#
# The authors say that the second kind usually suffices, and that the first is there for rare cases. How rare are
# they on our trees? This counts the trees that the second kind leaves with nothing.

# %% tags=["nbval-check-output"]
trees = [target for _, target in datasets.neon_trees("test", fold=None)]
nine = Priors.anchors(
    (128, 128), strides=(4, 8, 16), ratios=(0.5, 1, 2),
    sizes=[[4 * stride * 2 ** (k / 3) for k in range(3)] for stride in (4, 8, 16)],
)

def share_without(assigner, priors, targets):
    counts = assigner(priors, targets).positives_per_gt([len(target["boxes"]) for target in targets])
    return (torch.cat(counts) == 0).float().mean().item()

proposals = MaxIoU(fg_thresh=0.7, bg_thresh=0.3, allow_low_quality_matches=False)
rare = {name: share_without(proposals, priors, trees) for name, priors in {"1": pyramid, "9": nine}.items()}
for name, share in rare.items():
    print(f"{name} anchor(s) a cell: {share:.0%} of the trees have no anchor of IoU 0.7")
assert rare["1"] > 0.7 and rare["9"] > 0.5 and area(nine.boxes).min().round() == 16 * 16

# %% [markdown]
# Not rare at all: more than half of the trees, even with nine anchors a cell. On small objects the first rule is
# the main rule.
#
# Today it is called the **low-quality rule**, since it accepts matches of any quality. RetinaNet's paper names only
# the two thresholds; torchvision, detectron2 and mmdet switch the rule on for RetinaNet too. Read down the column of
# an object: every anchor whose IoU equals the column's maximum is **claimed**. A claimed anchor becomes positive.
#
# $$q_g = \max_a \text{IoU}(a, g), \qquad g \text{ claims } a \iff \text{IoU}(a, g) = q_g > 0$$

# %%
column = torch.tensor([0.05, 0.25, 0.2, 0.25, 0.0])
claimed = (column == column.max()) & (column > 0)
assert claimed.tolist() == [False, True, False, True, False]

# %% [markdown]
# The comparison is exact: the two numbers must agree to the last bit. That is fragile where one side is computed in
# another order. A low-memory variant for detectron2 that tiled the computation lost 1 to 2 points of AP (chapter 7) to
# it, its author reports (issue 3750 there). In labelkit one function computes every IoU.
#
# ### Exercise 05.3: who is claimed
# *Difficulty 2 of 5, 8 minutes.*
#
# Mark all pairs that the rule claims, for every object at once. Ties claim together. An object that overlaps no
# anchor claims nothing.

# %%
def my_claims(table):
    """Which pairs the low-quality rule claims: bool [P, G], from the IoU table [P, G] of P anchors, G objects."""
    # BEGIN SOLUTION 05.3
    best = table.amax(dim=0)
    return (table == best) & (table > 0)
    # END SOLUTION

# %%
course.check("05.3", my_claims)

# %% [markdown]
# ## Three choices that nobody names
#
# The sentence "the best anchor becomes positive" hides three decisions. Libraries decide differently, and papers
# seldom say which they used. Each decision changes which small objects are learned at all.
#
# ### First choice: which of the tied anchors?
#
# All anchors of one size that contain a small object whole have the same IoU with it: the ratio of the areas. So ties
# are the normal case. The rule can take **all** of them (torchvision, detectron2, mmdet), the **first** in order (SSD,
# and mmdet with `gt_max_assign_all=False`), or the one with the **nearest** centre.

# %%
grid32 = Priors.anchors((128, 128), strides=(8,), sizes=((32,),))
tiny = {"boxes": torch.tensor([[63.0, 63, 69, 69]]), "labels": torch.tensor([0])}
fig, axes = plot.figure(3, width=3.2, height=3.9)
tied = {}
for ax, ties in zip(axes, ("all", "first", "nearest"), strict=True):
    answer = MaxIoU(low_quality_ties=ties)(grid32, tiny)
    tied[ties] = answer.positive.nonzero().flatten().tolist()
    plot.scene(ax, (128, 128), title=ties)
    plot.assignment(ax, grid32, answer, tiny["boxes"])
    ax.set(xlim=(32, 96), ylim=(96, 32))
plot.legend(axes[1], "gt", "positive", "negative")
plot.show(fig, alt=(
    "An object of 6 px among anchors of 32 px. All: nine anchors around it are positive. "
    "First: the upper left of the nine. Nearest: the one whose centre is closest to the "
    "object's."))
assert [len(found) for found in tied.values()] == [9, 1, 1]
assert tied["first"][0] == min(tied["all"]) and tied["nearest"] != tied["first"]
assert answer.similarity[tied["nearest"]] == 36 / 1024

# %% [markdown]
# Nine anchors with an IoU of 36 / 1024 = 0.035 each, or one. "First" takes the upper left one, for no better reason
# than the order in memory. Its centre lies outside the object.
#
# ### Second choice: who owns a claimed anchor?
#
# The small object claims an anchor. But that anchor may overlap a larger neighbour more. Does it serve the object
# that **claims** it (mmdet), or the one it **overlaps most** (torchvision, detectron2)? labelkit says
# `low_quality_owner="gt"` and `"argmax"`.

# %%
nested = {"boxes": torch.tensor([[32.0, 32, 64, 64], [50, 46, 58, 54]]), "labels": torch.tensor([0, 0])}
variants = {
    "argmax, all (torchvision)": MaxIoU(),
    "gt, all (mmdet)": MaxIoU(low_quality_owner="gt"),
    "gt, nearest": MaxIoU(low_quality_owner="gt", low_quality_ties="nearest"),
}
fig, axes = plot.figure(3, width=3.2, height=3.9)
served = {}
for ax, (name, assigner) in zip(axes, variants.items(), strict=True):
    answer = assigner(grid32, nested)
    served[name] = answer.positives_per_gt(2).tolist()
    plot.scene(ax, (96, 96), nested["boxes"])
    for role, chosen in {"negative": answer.negative, "positive": answer.gt == 0, "good": answer.gt == 1}.items():
        plot.points(ax, grid32.centers[chosen], role)
    ax.set(xlim=(16, 80), ylim=(80, 16), title=f"{name}\nlarge: {served[name][0]}   small: {served[name][1]}")
plot.legend(axes[1], "gt", "negative", positive="serves the large", good="serves the small")
plot.show(fig, alt=(
    "A small object inside a large one. Owner argmax: nine positives, all for the large "
    "object. Owner gt, all ties: nine positives, all for the small one. Owner gt, nearest: "
    "three for the large, one for the small."))
assert list(served.values()) == [[9, 0], [0, 9], [3, 1]]

# %% [markdown]
# Each of the two defaults starves one of the objects. With "argmax" the small object claims nine anchors, and the
# large one gets them all. With "gt" the small one takes all nine, among them the four good anchors of the large one.
# Claiming only the nearest anchor leaves something to both.
#
# The matrix in detectron2's own test shows the same difference. Its three objects stand in rows, four anchors in
# columns, the thresholds are 0.7 and 0.3.

# %% tags=["nbval-check-output"]
quality = torch.tensor([[0.15, 0.45, 0.20, 0.60], [0.30, 0.65, 0.05, 0.10], [0.05, 0.40, 0.25, 0.40]])

def looked_up(prior, gt):
    return quality[gt[..., 0].long(), prior[..., 0].long()]

def numbered(n):
    return torch.tensor([[float(i), 0, i + 1, 1] for i in range(n)])

four, of_three = Priors.from_boxes(numbered(4)), {"boxes": numbered(3), "labels": torch.zeros(3, dtype=torch.int64)}
answers = {}
for owner in ("argmax", "gt"):
    rule = MaxIoU(0.7, 0.3, low_quality_owner=owner, similarity=looked_up)
    answers[owner] = rule(four, of_three).gt.tolist()
    print(f"{owner:>7}: {answers[owner]}")
assert answers["argmax"] == Matcher(0.7, 0.3, allow_low_quality_matches=True)(quality).tolist() == [-2, 1, -1, 0]
assert answers["gt"] == [-2, 2, -1, 2]

# %% [markdown]
# Object 2 has two best anchors, with IoU 0.4 each. The objects 0 and 1 claim these two as well. Under "gt" the last
# object that claims an anchor keeps it: object 2 takes both, and the others end with nothing, although their best IoU
# was higher. Under "argmax" it is object 2 that ends with nothing.
#
# ### Third choice: what does an object claim that overlaps nothing?
#
# An object can overlap no anchor at all: after a random crop it may lie outside the image. Its column is all
# zeros. The maximum is 0. And *every* anchor equals the maximum.

# %% tags=["nbval-check-output"]
outside = torch.tensor([[40.0, 40, 80, 80], [300, 300, 320, 320]])
theirs = Matcher(0.5, 0.4, allow_low_quality_matches=True)(box_iou(outside, pyramid.boxes))
ours = MaxIoU()(pyramid, {"boxes": outside, "labels": torch.tensor([0, 0])})
print(f"torchvision's Matcher: {(theirs >= 0).sum()} positives of {len(pyramid)}")
print(f"labelkit's MaxIoU:     {ours.positive.sum()} positives")
assert (theirs >= 0).all() and 0 < ours.positive.sum() < 20

# %%
fig, axes = plot.figure(2, height=4.4)
on_level = pyramid.levels == 1
for ax, gt, title in zip(axes, (theirs, ours.gt), ("torchvision's Matcher", "labelkit"), strict=True):
    plot.scene(ax, (128, 128), outside[:1], title=f"{title}, anchors of 32 px")
    for role, chosen in {"negative": gt == NEGATIVE, "ignored": gt == IGNORED, "positive": gt >= 0}.items():
        plot.points(ax, pyramid.centers[chosen & on_level], role)
    plot.legend(ax, "gt", "positive", "ignored", "negative")
plot.show(fig, alt=(
    "One object in the image and one far outside, the level with anchors of 32 px. "
    "torchvision's Matcher: every anchor is positive. labelkit: only the few that fit the "
    "object in the image."))

# %% [markdown]
# One stray annotation turns the whole image into foreground. No error, no warning. detectron2 and mmdet (with its
# RetinaNet settings) do the same. labelkit's rule needs an IoU above 0: an object that overlaps nothing claims
# nothing. Still, check your annotations after cropping.
#
# ### Exercise 05.4: the whole rule
# *Difficulty 4 of 5, 15 minutes.*
#
# Put it together as torchvision does it: two thresholds, the low-quality rule with **all** ties, and the claimed
# anchor belongs to the object that it **overlaps most**. Only one thing is better: an object that overlaps nothing
# claims nothing. `priors.boxes` are the anchors `[P, 4]`. Images without objects exist.

# %%
def my_max_iou(priors, gt_boxes, fg_thresh=0.5, bg_thresh=0.4):
    """RetinaNet's rule for one image: for each prior its object's index, NEGATIVE or IGNORED; int64 [P]."""
    # BEGIN SOLUTION 05.4
    if len(gt_boxes) == 0:
        return torch.full((len(priors),), NEGATIVE)
    table = iou(priors.boxes[:, None], gt_boxes)
    best, own = table.max(dim=1)
    label = own.clone()
    label[best < fg_thresh] = IGNORED
    label[best < bg_thresh] = NEGATIVE
    claimed = ((table == table.amax(dim=0)) & (table > 0)).any(dim=1)
    label[claimed] = own[claimed]
    return label
    # END SOLUTION

# %%
course.check("05.4", my_max_iou)

# %% [markdown]
# If it passed, your function can stand in for labelkit's in the demonstrations, from the next cells on.

# %%
course.use("05.4", my_max_iou)
retinanet = course.assigner("max_iou")
answer = retinanet(pyramid, sizes_scene.target)
assert answer.positives_per_gt(4).min() > 0

# %% [markdown]
# ## The library's version
#
# `MaxIoU` gives the same labels without the table. It finds the pairs that can reach a threshold, or be the best
# of their object, from the geometry of the grid. It takes a batch, runs on the GPU, and refuses broken boxes.
#
# It has to agree with torchvision: first on 60 random scenes of 8 objects without any tie for the best anchor, then
# on every tree tile. The trees have ties, and both keep all of them.

# %% tags=["nbval-check-output"]
def torchvision_labels(boxes, priors):
    return Matcher(0.5, 0.4, allow_low_quality_matches=True)(box_iou(boxes, priors.boxes))

torch.manual_seed(5)
scenes = 0
while scenes < 60:
    corner, size = torch.rand(8, 2) * 90, 24 + torch.rand(8, 2) * 36
    boxes = torch.cat([corner, corner + size], dim=1)
    table = box_iou(boxes, nine.boxes)
    if ((table == table.amax(dim=1, keepdim=True)).sum(dim=1) == 1).all():
        assert torch.equal(MaxIoU()(nine, {"boxes": boxes}).gt, torchvision_labels(boxes, nine))
        scenes += 1
print(f"{scenes} scenes without ties: the same label for all {len(nine)} anchors")
with_trees = [target for target in trees if len(target["boxes"])]
for target in with_trees:
    assert torch.equal(MaxIoU()(nine, target).gt, torchvision_labels(target["boxes"], nine))
print(f"and on all {len(with_trees)} tiles with trees")

# %%
batch = MaxIoU()(pyramid, trees)
assert batch.gt.shape == (len(trees), len(pyramid))
assert all(torch.equal(batch.gt[i], MaxIoU()(pyramid, target).gt) for i, target in enumerate(trees))

# %% [markdown]
# ## The experiment: who is left with nothing?
#
# The knob is the low-quality rule. The data are the 725 boxes of the tree tiles, and digits pasted into
# photographs. The anchors and the thresholds stay. We count the objects without a positive, by their size, the
# square root of the area.

# %%
rules = {
    "none": MaxIoU(allow_low_quality_matches=False),
    "all, owner argmax": MaxIoU(),
    "all, owner gt": MaxIoU(low_quality_owner="gt"),
    "first, owner argmax": MaxIoU(low_quality_ties="first"),
    "first, owner gt": MaxIoU(low_quality_ties="first", low_quality_owner="gt"),
    "nearest, owner argmax": MaxIoU(low_quality_ties="nearest"),
    "nearest, owner gt": MaxIoU(low_quality_ties="nearest", low_quality_owner="gt"),
}
SIZES = ("under 8 px", "8 to 16 px", "16 px and more")

def by_size(assigner, targets):
    """The share without a positive and the mean number of positives, for each of the three sizes."""
    boxes = torch.cat([target["boxes"] for target in targets])
    size = torch.bucketize(area(boxes).sqrt(), torch.tensor([8.0, 16]), right=True)
    counts = assigner(pyramid, targets).positives_per_gt([len(target["boxes"]) for target in targets])
    groups = [torch.cat(counts)[size == s] for s in range(3)]
    return [(c == 0).float().mean().item() for c in groups], [c.float().mean().item() for c in groups]

# %% tags=["nbval-check-output"]
digits = [target for _, target in datasets.digits("test", n=60)]
without = {"trees": {}, "digits": {}}
for data, targets in {"trees": trees, "digits": digits}.items():
    print(f"{data:22} without a positive     positives an object")
    print(f"{'':22}   <8  8-16   16+       <8   8-16    16+")
    for name, rule in rules.items():
        without[data][name], counts = by_size(rule, targets)
        row = "".join(f"{share:6.0%}" for share in without[data][name]) + "  "
        print(f"{name:21}{row}{''.join(f'{count:7.1f}' for count in counts)}")
assert without["trees"]["none"][0] == without["digits"]["none"][0] == 1
assert sum(len(target["boxes"]) for target in trees) == 725

# %% [markdown]
# **Without** the rule no object under 8 px has a positive, in either data set. That was the cliff. From 16 px on, few
# objects need the rule: 1 % of the trees and 6 % of the digits.
#
# **With** it comes the surprise. The rule exists so that no object is left out. Under the owner "argmax", the one of
# torchvision and detectron2, it leaves out 6 % of the small trees with all ties, and 32 % with the first tie only.
# Under the owner "gt" it leaves out none. Where do these trees' anchors go?

# %% tags=["nbval-check-output"]
def who_took_it(rule, targets):
    """For every object without a positive: how much larger is the largest object that took an anchor it claims?"""
    ratios = []
    for target in targets:
        boxes = torch.as_tensor(target["boxes"])
        for g in (rule(pyramid, target).positives_per_gt(len(boxes)) == 0).nonzero().flatten():
            overlap = iou(pyramid.boxes[:, None], boxes)
            owner = overlap[overlap[:, g] == overlap[:, g].max()].argmax(dim=1)
            owner = owner[:1] if rule.low_quality_ties == "first" else owner
            ratios.append((area(boxes)[owner].max() / area(boxes)[g]).item())
    return torch.tensor(ratios)

for name in ("all, owner argmax", "first, owner argmax"):
    ratios = who_took_it(rules[name], trees)
    print(f"{name}: {len(ratios)} trees without a positive")
    print(f"   the new owner is larger for {(ratios > 1).sum()} of them, {ratios.median():.1f} times at the median")
    assert (ratios > 1).all()

# %%
fig, (ax,) = plot.figure(width=6.6, height=3.4)
shown = ("none", "first, owner argmax", "nearest, owner argmax", "all, owner argmax", "all, owner gt")
bars = {name: dict(zip(SIZES, without["trees"][name], strict=True)) for name in shown}
plot.bars_by_size(ax, bars, ylabel="share of trees without a positive")
plot.show(fig, alt=(
    "Share of trees without a positive, by size and rule. Under 8 px: none 100 percent, first "
    "with owner argmax 32, nearest with owner argmax 22, all with owner argmax 6, all with "
    "owner gt 0. From 8 px on only the bar of no low-quality rule is above 0."))

# %%
small = {name: shares[0] for name, shares in without["trees"].items()}
assert 0.25 < small["first, owner argmax"] < 0.4 and 0.15 < small["nearest, owner argmax"] < 0.3
assert 0.03 < small["all, owner argmax"] < 0.1
assert all(small[name] == 0 for name in rules if name.endswith("owner gt"))

# %% [markdown]
# To a larger neighbour, each time. An anchor of 16 px on a tree of 6 px mostly shows what stands beside it. If that
# is a larger tree, the anchor overlaps *it* more, and serves it. So the small tree's claim gives its neighbour one
# more positive, and itself none.
#
# The table shows the price of rescue too. "All" gives a tree under 8 px four to five positives, more than any other
# size gets. How well do they fit?

# %% tags=["nbval-check-output"]
fit = MaxIoU()(pyramid, trees)
sides_served = torch.cat([
    area(torch.as_tensor(target["boxes"]))[gt[gt >= 0]].sqrt() for target, gt in zip(trees, fit.gt, strict=True)
])
quality_of = fit.similarity[fit.positive]
for name, low, high in (("under 8 px", 0, 8), ("8 to 16 px", 8, 16), ("16 px and more", 16, 999)):
    served_here = (sides_served >= low) & (sides_served < high)
    print(f"{name:15} mean IoU of the positives {quality_of[served_here].mean():.2f}")
assert quality_of[sides_served < 8].mean() < 0.2 < 0.55 < quality_of[sides_served >= 16].mean()

# %% [markdown]
# Badly: a mean IoU of 0.15, where the larger trees have 0.59. Chapter 4 warned that more is not better. Which variant
# trains best is a matter for measuring, from chapter 7 on. Until then: **a sentence with "fixed IoU" in it has to name
# the low-quality rule, its ties and its owner.**
#
# ## The card
#
# | the four questions | RetinaNet (0.5 / 0.4), Faster R-CNN's proposals (0.7 / 0.3) |
# |---|---|
# | who may match? | every anchor with every object |
# | how well? | IoU of the anchor with the object |
# | who is chosen? | IoU at or above the threshold; each object's best anchors |
# | who wins? | the object that the anchor overlaps most; under owner "gt" a claimed anchor's claimant |
#
# | | |
# |---|---|
# | kind | hard labels, static, by prior |
# | cost | dense: anchors × objects. In labelkit: the pairs that reach 0.4, and the best of each object |
# | breaks | under 12 px with these anchors nothing reaches 0.5; one threshold for all sizes and shapes; luck of place |
# | name it | thresholds; low-quality rule: none, all, first or nearest; owner: argmax or gt |
#
# **Next.** Everything here hung on the anchors: their sizes, shapes and places decide who gets positives. Chapter 6
# throws the anchors away. FCOS asks of a point only whether it lies inside the object.
#
# ## Recap
#
# - IoU ≥ 0.5 positive, < 0.4 negative, between ignored. Each threshold belongs to the label above it.
# - Class targets: −1 ignored, 0 background, class + 1. In `gt`, −1 is background and −2 ignored.
# - (tx, ty, tw, th) say how the anchor becomes the box. A threshold on IoU keeps them small.
# - The best-anchor rule rescues objects under the threshold. For small objects it is the main rule.
# - Ties, owner, no overlap: three choices, different in each library. Name them.
#
# ## Recall
#
# <details><summary>1. An anchor has IoU 0.4 with one object and 0.45 with another. What is it under 0.5 / 0.4 without
# the low-quality rule?</summary>
#
# Ignored. Its best IoU is 0.45, and the band from 0.4 up to, but not including, 0.5 is ignored.
# </details>
#
# <details><summary>2. Why do nine anchors tie for the same small object?</summary>
#
# They all contain it whole. Then the intersection is the object and the union is the anchor, so each IoU is the
# ratio of the two areas.
# </details>
#
# <details><summary>3. torchvision's RetinaNet uses the low-quality rule with all ties. Can an object still end
# without a positive?</summary>
#
# Yes. Every anchor that it claims serves the object that the anchor overlaps most. If that is always a neighbour,
# nothing is left: 6 % of the trees under 8 px.
# </details>
#
# ## References
#
# - T.-Y. Lin and others, *Focal Loss for Dense Object Detection*, ICCV 2017, arXiv 1708.02002, section 4: RetinaNet,
#   its anchors and thresholds.
# - S. Ren and others, *Faster R-CNN*, NIPS 2015, arXiv 1506.01497, section 3.1.2: 0.7 / 0.3, the best-anchor rule,
#   equation 2 for the targets.
# - W. Liu and others, *SSD*, ECCV 2016, arXiv 1512.02325, section 2.2: the best box of each object first, then 0.5.
# - torchvision `models/detection/_utils.py`, detectron2 `modeling/matcher.py`, mmdet `max_iou_assigner.py`: the
#   choices compared here; detectron2's issues 1162 (owner) and 3750 (exact comparison).
# - B. Weinstein and others, the tree crowns: `data/neon_trees/ATTRIBUTION.md`.
