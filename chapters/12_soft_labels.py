# %% [markdown]
# # 12 · Let the label say how good a box is: soft labels
#
# When a detector proposes several boxes for one object, non-maximum suppression keeps the
# one with the highest score. Most rules so far tell every positive that its score should
# be 1, however well or badly its box fits. In this chapter the label becomes another
# number, and then a whole distribution, and we follow one question through four losses.
# If a box overlaps its object with IoU 0.6, which score should it learn?

# %%
import math
from functools import partial

import torch
from IPython.display import Markdown
from torch.nn import functional as F

import labelkit_course as course
from labelkit import Priors, datasets, plot
from labelkit.assigners import ATSS, FCOS
from labelkit.boxes import centerness, centers, decode_ltrb, encode_ltrb
from labelkit.detectors import fcos
from labelkit.evaluation import evaluate
from labelkit.losses import (
    distribution_focal_loss,
    expected_distance,
    focal_loss,
    ia_bce_loss,
    mal_loss,
    quality_focal_loss,
    varifocal_loss,
)
from labelkit.nms import nms
from labelkit.similarity import giou, iou
from labelkit.training.runs import read_json
from labelkit_course import board as leaderboard
from labelkit_course import on_stage
from labelkit_course.rows import Cell

# %% tags=["hide-input"]
pictures = datasets.digits("test", n=60)
digit = pictures[35][1]["boxes"].as_subclass(torch.Tensor)[3]
boxes = digit + torch.tensor([[-1.4, -1.5, -1.4, -5.5], [0.2, 0.3, 0.0, -0.3]])
quality, grey = iou(boxes, digit), pictures[35][0].mean(dim=0)
fig, axes = plot.figure(2, width=3.8, height=4.2)
for ax, label in zip(axes, (torch.ones(2), quality), strict=True):
    (kept,) = nms(boxes, label, 0.5)
    plot.scene(ax, 0.6 + 0.4 * grey / grey.max(), digit)
    plot.boxes(ax, boxes[kept], "prediction")
    ax.set(xlim=(43, 77), ylim=(124, 90), title="labels {:.2f} and {:.2f}".format(*label))
    assert kept == (0 if label[0] == 1 else 1)
plot.legend(axes[0], "gt")
plot.legend(axes[1], prediction="kept by NMS")
plot.show(fig, alt=(
    "One digit, and which of two boxes survives suppression when each score equals its "
    "label. With label 1 both score alike and the poor one survives. With the IoU as "
    "label the good one does, because its label has put it first."))
assert (quality * 100).round().tolist() == [60, 96]

# %% [markdown]
# Two boxes are proposed for this digit, with IoU 0.60 and 0.96. If both have learned
# the label 1, nothing tells them apart, so suppression keeps whichever comes first in
# the list, and here that is the poor one. The good one survives if each has learned its
# own IoU as its score.
#
# **You will be able to**
# - build the quality focal loss, and read the score that a loss asks for from its
#   curve;
# - write a box as the expectation of four distributions, and say how far its bins
#   reach;
# - predict what quality focal, varifocal and MAL do to a good match, a bad one and
#   background;
# - say whether a method puts quality into the target, into a weight or into the test
#   score.
#
# **You need** chapters 4 (focal loss), 6 (centre-ness), 9 (ATSS) and 11 (noisy anchors),
# 40 minutes to read and 29 to solve the exercises, and half a minute of CPU, since
# nothing is trained here.
#
# ## What is there to win?
#
# Before we build a loss, we ask how much a label could change. We take the 3,082
# positives that ATSS assigns on 60 test images of digits. Each anchor is moved towards
# its object by a random share between 0.3 and 1, which stands in for what a network
# would regress. Then we suppose that training succeeds completely, so that every score
# *is* its label, and measure the average precision of what suppression keeps.

# %%
anchors = Priors.anchors((128, 128), strides=(4, 8, 16), sizes=((16,), (32,), (64,)))
targets = [{key: target[key].as_subclass(torch.Tensor) for key in ("boxes", "labels")}
           for _, target in pictures]
assigned = ATSS(k=9)(anchors, targets).gt

def proposals(image, by="luck"):
    """Object, box and centre-ness of the positives of an image, without a network."""
    positive = assigned[image] >= 0
    own, start = assigned[image, positive], anchors.boxes[positive]
    goal = targets[image]["boxes"][own]
    central = centerness(encode_ltrb(goal, centers(start)))
    luck = torch.rand(len(own), generator=torch.Generator().manual_seed(image))
    share = 0.3 + 0.7 * {"luck": luck, "centre": central}[by]
    return own, start + share[:, None] * (goal - start), central

assert int((assigned >= 0).sum()) == 3082

# %%
def perfect(label, by="luck"):
    """COCO's measures, in percent, if every positive scored label(IoU, centre-ness)."""
    found = []
    for image, target in enumerate(targets):
        own, boxes, central = proposals(image, by)
        score = label(iou(boxes, target["boxes"][own]), central)
        kept = nms(boxes, score, 0.6)
        none = torch.zeros(len(kept), dtype=torch.int64)
        found.append({"boxes": boxes[kept], "scores": score[kept], "labels": none})
    return {name: 100 * value for name, value in evaluate(found, targets).items()}

# %% tags=["nbval-check-output"]
kinds = {"label 1": lambda quality, central: torch.ones_like(quality),
         "label IoU": lambda quality, central: quality,
         "label IoU squared": lambda quality, central: quality**2}
rows = {name: perfect(label) for name, label in kinds.items()}
for name, row in rows.items():
    print(f"{name:18} AP {row['AP']:.0f}  AP50 {row['AP50']:.0f}  AP75 {row['AP75']:.0f}")
assert rows["label IoU"]["AP"] > 2 * rows["label 1"]["AP"]
assert rows["label IoU squared"]["AP"] == rows["label IoU"]["AP"]

# %% [markdown]
# The boxes are the same in all three rows, and every label has been learned without a
# mistake. Still the AP rises from 28 to 71 when the label is the IoU, because a label
# of 1 contains no order. The third row shows you how little a label has to say. It has
# the AP of the second, since suppression and AP ask for the order of the scores and not
# for their values.
#
# Real networks make mistakes, and their scores must also separate objects from
# background, so we cannot expect a trained detector to gain 43 points from a label.
# What the table shows is the direction. A label is worth learning if it rises with the
# quality of the box, and **any rising label will do as long as it is learned**. How to
# teach it is where the losses of this chapter differ.
#
# ## A label may be a number
#
# Cross entropy accepts a label between 0 and 1. With label $q$ and score $p$ it is
#
# $$H(p, q) = -q \log p - (1 - q) \log (1 - p),$$
#
# and it is least at $p = q$. The **quality focal loss** (Li 2020a, section 3) takes the
# IoU of the decoded box as $q$ for a positive, 0 for everything else, and multiplies by
# how far the score is from its label:
#
# $$\text{QFL}(p, q) = |q - p|^\beta \, H(p, q), \qquad \beta = 2.$$
#
# As long as the network moves no anchor, the decoded box is the anchor. In [this
# scene][scene] ATSS gives a box of 24 px three positives, for which $q$ is then 0.56,
# 0.49 and 0.49, where a hard label is 1 three times. The heat map shows the IoU of all
# the others.
#
# [scene]: explorer.html#size=128,128&priors=course-anchors&objects=50,50,74,74&rules=atss&chosen=0&heat=iou

# %%
p = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
logit = (p / (1 - p)).log()

def curve(loss, q):
    """The loss at every score for one label."""
    return loss(logit, torch.full_like(logit, q))

# %%
plain = partial(F.binary_cross_entropy_with_logits, reduction="none")
both = {"cross entropy": plain, "quality focal": quality_focal_loss}
lines = {name: curve(loss, 0.8) for name, loss in both.items()}
fig, (ax,) = plot.figure(width=6.0, height=3.4)
plot.curves(ax, p, lines, xlabel="score p", ylabel="loss at label 0.8")
ax.axvline(0.8, color=plot.GREY, lw=1, ls=":")
ax.set(ylim=(0, 2))
plot.show(fig, alt=(
    "Cross entropy and quality focal loss against the score, for the label 0.8. Both "
    "are least at the label, but only the quality focal loss is zero there; the factor "
    "makes it flat around the label and leaves it steep far away."))
assert all(abs(p[line.argmin()] - 0.8) < 1e-9 for line in lines.values())
assert lines["quality focal"].min() < 1e-9 and lines["cross entropy"].min() > 0.5

# %% [markdown]
# Both curves are least at the label. Cross entropy is still 0.50 there, because even a
# perfect score of 0.8 is surprised one time in five, and the factor takes that
# remainder away. In chapter 11 we met a focal loss with a soft label that asks for a
# score nearer to the middle than its label. Here one factor for both halves, $|q - p|$,
# keeps the least loss where the label is.
#
# ### Exercise 12.1: quality focal
# *Difficulty 2 of 5, 10 minutes. Implement.*
#
# Return the quality focal loss of every element, in the shape of `logits`, without a
# sum or a mean. You get logits, and the score of a logit is its sigmoid. Because the
# logarithm of a sigmoid breaks down at a logit of 200, we suggest `F.softplus`, which
# gives $-\log p$ as `F.softplus(-logits)` and $-\log(1 - p)$ as `F.softplus(logits)`.

# %%
def my_qfl(logits, targets, beta=2):
    """|target - score|^beta times the cross entropy of score and target, elementwise."""
    # BEGIN SOLUTION 12.1
    entropy = targets * F.softplus(-logits) + (1 - targets) * F.softplus(logits)
    return (targets - logits.sigmoid()).abs() ** beta * entropy
    # END SOLUTION

# %%
course.check("12.1", my_qfl)

# %% [markdown]
# ### What the factor is for
#
# What the focal factor did for hard labels in chapter 4, this one does for soft labels.
# On an image with ten positives and ten thousand background places, let every positive
# be off by 0.2 and every background score be a harmless 0.02.

# %% tags=["nbval-check-output"]
z = torch.tensor([0.5, 0.02]).logit()
label, count = torch.tensor([0.7, 0.0]), torch.tensor([10, 10000])
share = {}
for name, loss in both.items():
    own, rest = (loss(z, label) * count).tolist()
    share[name] = rest / (own + rest)
    print(f"{name}: positives {own:.2f}, background {rest:.2f}, or {share[name]:.0%}")
assert share["cross entropy"] > 0.95 and share["quality focal"] < 0.3

# %% [markdown]
# Under cross entropy 97 % of the loss comes from background that is already right. The
# factor brings that share down to 23 %, so the loss speaks about the positives again.
#
# What it lacks is a notion of a positive. If a positive's box misses its object, its
# label is 0, and the loss cannot tell it from background. One may therefore call a place
# positive by its class, as mmdet's code does, or by a label above 0. Both readings give
# the same value.

# %%
z, label = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.7, 0.0, 0.0])
background = z.sigmoid() ** 2 * F.softplus(z)
for positive in (torch.tensor([True, True, False]), label > 0):    # by class; by label
    loss = torch.where(positive, quality_focal_loss(z, label), background)
    torch.testing.assert_close(loss, quality_focal_loss(z, label))
assert loss[0] != loss[1] == loss[2]

# %% [markdown]
# ## A side may be a distribution
#
# So far only the score has a soft label. The box is still taught as four distances,
# each of which claims that there is one right answer, and for some sides there is none.
# In the next picture the right side of the large object lies behind another one, so one
# person may draw it where the object ends and another where it can no longer be seen.
# If a network has to give a single number, it will give one between the two.

# %%
scene, stride = plot.SCENES["two overlapping"], 8
point = torch.tensor([[36.0, 68.0]])
hidden = encode_ltrb(scene.boxes[:1], point)[0] / stride          # l, t, r, b in strides
belief = torch.zeros(17)
belief[[2, 3, 6, 7]] = torch.tensor([0.10, 0.30, 0.15, 0.45])      # around 2.75 and 6.75
mean = (belief * torch.arange(17)).sum()
fig, axes = plot.figure(2, width=3.9, height=3.8)
plot.scene(axes[0], scene, title="where is the right side?")
plot.points(axes[0], point, "prediction")
for x, name in ((58, "seen"), (90, "true"), (36 + stride * mean.item(), "mean")):
    axes[0].axvline(x, color=plot.PURPLE, ls="-" if name == "mean" else ":", lw=2)
    left = name == "seen"
    axes[0].text(x + (-2 if left else 2), 11 if name == "mean" else 25, name,
                 fontsize=plot.TYPE, ha="right" if left else "left")
axes[1].bar(range(17), belief, color=plot.PURPLE)
axes[1].axvline(mean, color=plot.INK, lw=1.5)
axes[1].set_xticks(range(0, 17, 2))
axes[1].set(xlabel="right side, in strides", ylabel="probability",
            title=f"17 bins, expectation {mean:.2f}")
plot.show(fig, alt=(
    "Left, an object whose right side is covered by another: dotted lines at the "
    "visible and at the true end, and a solid line between them. Right, a distribution "
    "over distances with a peak for each reading; its expectation, the solid line, lies "
    "at neither."))
torch.testing.assert_close(hidden, torch.tensor([2.75, 4.75, 6.75, 4.25]))
assert (36 + 2.75 * stride, 36 + 6.75 * stride) == (58, 90) and abs(mean - 5.15) < 1e-5

# %% [markdown]
# Generalized focal loss (Li 2020a, section 3) lets the network give a distribution
# instead. Every side gets $n$ outputs, one for each of the distances 0, 1, …, $n - 1$
# in units of the stride, and a softmax turns them into probabilities. Because the box
# still needs a number, we take the **expectation**:
#
# $$\hat d = \sum_{i=0}^{n-1} i \cdot P(i).$$
#
# Here it is 5.15 strides, which is as wrong as a single number would have been. What we
# gain is that the doubt can be seen in the distribution. For the many sides about which
# there is no doubt, we need a loss that makes it sharp.

# %%
sides = torch.zeros(4, 17)
sides[0, 2:4], sides[1, 4:6] = torch.tensor([0.25, 0.75]), torch.tensor([0.25, 0.75])
sides[2], sides[3, 4:6] = belief, torch.tensor([0.75, 0.25])
distances = expected_distance(sides.log())                  # the softmax undoes the log
torch.testing.assert_close(distances, (sides * torch.arange(17)).sum(dim=1))
box = decode_ltrb(stride * distances, point[0])
torch.testing.assert_close(box, torch.tensor([14.0, 30.0, 77.2, 102.0]))

# %% [markdown]
# ### A loss on the box cannot see the shape
#
# If three distributions have the same expectation, they give the same box, and no loss
# on the box can tell them apart. The **distribution focal loss** can. For a distance
# $y$ between the bins $i$ and $i + 1$ it asks for probability in those two, each
# weighted by its nearness:
#
# $$\text{DFL} = -(i + 1 - y) \log P(i) - (y - i) \log P(i + 1).$$

# %%
y = 4.75
shapes = {"two bins": {4: 0.25, 5: 0.75},
          "a bell": {3: 0.0625, 4: 0.3125, 5: 0.4375, 6: 0.1875},
          "two peaks": {1: 0.1125, 2: 0.3375, 4: 0.025, 5: 0.075, 7: 0.1125, 8: 0.3375}}
fig, axes = plot.figure(rows=3, width=5.6, height=1.7)
dfl = {}
for ax, (name, bins) in zip(axes, shapes.items(), strict=True):
    shape = torch.zeros(17)
    shape[list(bins)] = torch.tensor(list(bins.values()))
    assert abs(shape.sum() - 1) < 1e-6 and abs(expected_distance(shape.log()) - y) < 1e-5
    dfl[name] = distribution_focal_loss(shape.log(), torch.tensor(y)).item()
    ax.bar(range(17), shape, color=plot.PURPLE)
    ax.axvline(y, color=plot.INK, lw=1.5)
    ax.set(title=f"{name}: DFL {dfl[name]:.2f}", xlim=(0, 10), ylim=(0, 0.8))
axes[-1].set_xlabel("strides")
plot.show(fig, alt=(
    "Three distributions with the same expectation of 4.75 strides: all mass in the two "
    "bins beside it, a bell around it, and two far peaks. The box is the same three "
    "times; the distribution focal loss is 0.56, 0.91 and 2.86."))
assert [round(value, 2) for value in dfl.values()] == [0.56, 0.91, 2.86]

# %% [markdown]
# As the mass moves away from the two bins beside $y$, the loss rises from 0.56 to 2.86,
# while the box does not change at all. The authors train with both, a GIoU loss on the
# box with weight 2 and the DFL on its sides with weight 0.25.
#
# ### Exercise 12.2: the last bin
# *Difficulty 3 of 5, 10 minutes. Find the bug.*
#
# Return the label of each distance as weights over `n` bins, one row per distance.
# Because the two bins beside `y` share the weight 1 by nearness, the expectation of a
# row gives `y` back. You are given `y` in strides, and a distance beyond the last bin
# counts as `n - 1`. The code below is right for 3.7, but not for every distance that
# occurs in annotations. Find out where it fails, and mend it.

# %%
def their_two_bins(y, n):
    """Weights [N, n] of the bins 0 ... n - 1 for distances y [N], in strides."""
    # BEGIN GIVEN
    # y = y.clamp(0, n - 1)
    # left, right = y.floor().long(), y.ceil().long()
    # weights, row = torch.zeros(len(y), n), torch.arange(len(y))
    # weights[row, left] = right - y
    # weights[row, right] = y - left
    # return weights
    # BEGIN SOLUTION 12.2
    y = y.clamp(0, n - 1)
    left = y.floor().long().clamp(max=n - 2)
    weights, row = torch.zeros(len(y), n), torch.arange(len(y))
    weights[row, left] = left + 1 - y
    weights[row, left + 1] = y - left
    return weights
    # END SOLUTION

# %%
course.check("12.2", their_two_bins)

# %% [markdown]
# ### The least loss
#
# A distribution has nothing left to learn once its mass is in the right two bins. Its
# expectation is the distance and the gradient is zero, although the loss is not. What
# remains is the entropy of the label, which is 0 for a whole number and $\log 2$
# halfway between two.

# %% tags=["nbval-check-output"]
for y in (4.0, 4.25, 4.5, 4.75):
    logits = torch.full((17,), -60.0)
    logits[4:6] = torch.tensor([5 - y, y - 4]).clamp(min=1e-12).log()
    loss = distribution_focal_loss(logits.requires_grad_(), torch.tensor(y))
    (slope,) = torch.autograd.grad(loss, logits)
    assert slope.abs().max() < 1e-6 and abs(expected_distance(logits) - y) < 1e-5
    print(f"distance {y}: least loss {loss.item():.3f}")
assert abs(loss.item() + 0.25 * math.log(0.25) + 0.75 * math.log(0.75)) < 1e-5

# %% [markdown]
# ### How far do the bins reach?
#
# No side can be longer than the last bin says. Two published codes call their setting
# by the same name, `reg_max = 16`, and mean different things by it: mmdet has the bins
# 0 to 16, which are 17, whereas Ultralytics has 16 bins from 0 to 15. We therefore
# state $n$, the number of bins. Both clamp the label a little below the last bin,
# because a label that equals it would ask for one more.

# %% tags=["nbval-check-output"]
published = {"mmdet, reg_max 16": (17, 15.9), "Ultralytics, reg_max 16": (16, 14.99)}
reach = {}
for name, (n, largest) in published.items():
    all_in_last = torch.full((n,), -100.0)
    all_in_last[-1] = 100
    reach[n] = expected_distance(all_in_last).item()
    print(f"{name}: {n} bins, labels to {largest}, boxes to {reach[n]:.0f} strides, "
          f"{8 * reach[n]:.0f} px at stride 8")
    try:
        F.cross_entropy(torch.zeros(1, n), torch.tensor([n - 1]) + 1)
        raise AssertionError("a distance of n - 1 has found a bin on its right")
    except IndexError:
        pass
assert reach == {17: 16, 16: 15}
assert distribution_focal_loss(torch.zeros(17), torch.tensor(16.0)).isfinite()

# %% [markdown]
# What does a short reach cost? A point near one end of a long object cannot express the
# other end, so its box is cut off there. We count, for objects of growing width, the
# share of the points inside that can express both ends.

# %%
wide, start = torch.tensor([[20.0, 30, 340, 90]]), torch.tensor([36.0, 60])
sides = encode_ltrb(wide[0], start)
cut = {n: decode_ltrb(sides.clamp(max=8 * reach[n]), start) for n in reach}
widths = torch.arange(8, 41)
can = {f"{n} bins": [] for n in reach}
for width in widths.tolist():
    inside = torch.arange(width) + 0.5                      # centres of cells, in strides
    farthest = torch.maximum(inside, width - inside)
    for n in reach:
        can[f"{n} bins"].append((farthest <= reach[n]).float().mean().item())
assert can["17 bins"][8] == 1 and can["16 bins"][8] < 1 and can["17 bins"][-1] == 0

# %%
on_stride_8 = Priors.anchors((120, 360), strides=(8,), sizes=((64,),))
own = on_stride_8.centers[ATSS(k=9)(on_stride_8, {"boxes": wide}).positive]
assert len(own) > 0 and (encode_ltrb(wide, own).amax(dim=1) > 8 * reach[17]).all()
fig, axes = plot.figure(rows=2, width=5.6, height=2.6)
plot.scene(axes[0], (120, 360), wide, title="320 px at stride 8")
plot.boxes(axes[0], cut[17], "prediction", fill=True)
plot.points(axes[0], start, "prediction")
plot.legend(axes[0], "gt", prediction="all that 17 bins can say")
plot.curves(axes[1], widths, can, xlabel="width of the object in strides",
            ylabel="share of its points")
plot.show(fig, alt=(
    "Above, a wide object and the box of a point near its left end, cut off after 16 "
    "strides. Below, the share of an object's points that can express both its ends: "
    "all up to 15 or 16 strides of width, none from 30 or 32 up."))
assert cut[17][2] == 36 + 128 and cut[16][2] == 36 + 120

# %% [markdown]
# Every point can express an object of up to 16 strides if there are 17 bins. Twice that
# width is the limit for the point in the middle, and beyond it no point of the level
# can say the box. A pyramid has coarser levels for such objects, but ATSS does not ask
# about bins. On a pyramid of this single level it gives the wide object positives all
# the same, and none of them can express both ends.
#
# ## How much should a bad match count?
#
# We return to the score. For the quality focal loss a good positive and a bad one are
# alike, two numbers to be met. The **varifocal loss** (Zhang 2021, section 3) takes the
# same label and also weighs a positive by it, so that a box of IoU 0.9 counts nine
# times as much as one of IoU 0.1. Background is scaled down as in focal loss, with
# $\alpha = 0.75$ and $\gamma = 2$:
#
# $$\text{VFL} = q \, H(p, q) \ \text{ if } q > 0, \qquad
# \alpha \, p^\gamma \, H(p, 0) \ \text{ else.}$$

# %%
def entropy(p, q):
    return -q * p.log() - (1 - q) * (1 - p).log()

def varifocal(p, q, alpha=0.75, gamma=2):
    return q * entropy(p, q) if q > 0 else alpha * p**gamma * entropy(p, 0)

for q in (0.9, 0.3, 0.0):
    torch.testing.assert_close(curve(varifocal_loss, q), varifocal(p, q))

# %% [markdown]
# Between the two cases there is a step. If the box of a positive just touches its
# object, the positive is left in peace, because its weight is its IoU. If the box
# misses by one pixel more, $q$ is 0 and the formula takes the positive for background.
# To see the step, let the score be 0.88, the sigmoid of 2.

# %% tags=["nbval-check-output"]
q = torch.tensor([0.1, 1e-6, 0.0])
charged = {"varifocal": varifocal_loss(torch.full((3,), 2.0), q),
           "quality focal": quality_focal_loss(torch.full((3,), 2.0), q)}
for name, losses in charged.items():
    row = zip(q.tolist(), losses.tolist(), strict=True)
    print(f"{name:13}", "   ".join(f"q = {a:g}: {loss:.3f}" for a, loss in row))
assert charged["varifocal"][1] < 1e-5 and charged["varifocal"][2] > 1.2
assert abs(charged["quality focal"][1] - charged["quality focal"][2]) < 1e-5

# %% [markdown]
# The varifocal loss jumps from 0 to 1.24 between the second column and the third, where
# the quality focal loss does not move. Published code therefore clamps the IoU of a
# positive at 10⁻⁶, which keeps a complete miss a positive, with a weight at which
# nothing is learned from it.
#
# That silence does no harm while an object has several positives, since the good ones
# will speak. When every object has exactly one, as in chapter 15, a bad match may be
# all there is, and the authors of DEIM (Huang 2025, section 3.3) object that the
# varifocal loss then has too little to say. In their **matchability-aware loss** (MAL)
# every positive has weight 1, and the label carries the strictness instead, with
# $\gamma = 1.5$:
#
# $$\text{MAL} = H(p, q^\gamma) \ \text{ if positive}, \qquad
# p^\gamma \, H(p, 0) \ \text{ else.}$$

# %%
def matchability(p, q, gamma=1.5):
    return entropy(p, q**gamma) if q > 0 else p**gamma * entropy(p, 0)

for q in (0.9, 0.3, 0.0):
    torch.testing.assert_close(curve(mal_loss, q), matchability(p, q))
miss, background = mal_loss(torch.tensor([2.0, 2.0]), torch.tensor([1e-6, 0.0])).tolist()
assert abs(miss - 2.127) < 1e-3 and abs(background - 1.758) < 1e-3

# %% [markdown]
# If we clamp the IoU of a complete miss at 10⁻⁶ again, MAL charges it 2.13 at score
# 0.88, where the varifocal loss charged nothing. That is what DEIM's code computes,
# since it knows from the matching who is positive. Without the clamp our formula would
# take the miss for background and charge 1.76.
#
# One more loss of this family, **IA-BCE** (Cai 2023; also in RF-DETR's code), makes the
# label out of the very score that it is meant to teach. Its label for a positive is
# $t = p^{0.25} \, q^{0.75}$, at least 0.01 and held constant in the gradient, with
# plain cross entropy against it, and background pays $p^2 H(p, 0)$. While a positive is
# unsure little is asked of it, and the demand grows with its confidence.

# %%
score = torch.linspace(0, 1, 101)
aligned = {f"IoU {q}": (score**0.25 * q**0.75).clamp(min=0.01) for q in (0.9, 0.5, 0.2)}
fig, (ax,) = plot.figure(width=5.2, height=3.6)
plot.curves(ax, score, aligned, xlabel="score p", ylabel="label t that IA-BCE sets")
ax.plot([0, 1], [0, 1], color=plot.GREY, lw=1, ls=":")
plot.show(fig, alt=(
    "The label that IA-BCE sets for a positive against its own score, for IoU 0.9, 0.5 "
    "and 0.2. Each curve rises steeply, then flattens, and crosses the diagonal where "
    "the score equals the IoU, which is the only place where label and score agree."))
for q in (0.9, 0.5, 0.2):
    z = torch.tensor(q, requires_grad=True).logit()
    (slope,) = torch.autograd.grad(ia_bce_loss(z, torch.tensor(q)), z)
    assert abs(slope) < 1e-6

# %% [markdown]
# Each curve crosses the diagonal where the score equals the IoU. There the label is the
# IoU too and the gradient is zero, so IA-BCE aims where the quality focal loss aims. On
# the way up its labels are lower.
#
# All these losses are drawn by one function in what follows, beside the focal loss of
# chapter 4, which we call *hard* because it knows no IoU.

# %%
LOSSES = {"quality focal": quality_focal_loss, "varifocal": varifocal_loss,
          "MAL": mal_loss, "hard focal": lambda z, q: focal_loss(z, (q > 0).to(z.dtype))}

def draw(ax, q):
    """The loss against the score under each loss, with a dot at its minimum."""
    lines = {name: curve(loss, q) for name, loss in LOSSES.items()}
    plot.curves(ax, p, lines, xlabel="score p", ylabel="loss")
    for line in lines.values():
        ax.plot(p[line.argmin()], line.min(), "o", color=plot.INK, ms=6)
    ax.set(ylim=(-0.05, 2.5))

# %% [markdown]
# ### Exercise 12.3: four losses, one label
# *Difficulty 2 of 5, 4 minutes. Predict.*
#
# The box of a positive overlaps its object with IoU 0.6. At which score is each of four
# losses least? Write your guesses, of which the last is for the hard focal loss. Once
# you have run the next cell, it draws the four curves and marks their minima. A guess
# counts if it is within 0.02.

# %%
# BEGIN GIVEN
# least = {"quality focal": ..., "varifocal": ..., "MAL": ..., "hard focal": ...}
# BEGIN SOLUTION 12.3
least = {"quality focal": 0.6, "varifocal": 0.6, "MAL": 0.6**1.5, "hard focal": 1.0}
# END SOLUTION

# %%
def reveal():
    fig, (ax,) = plot.figure(width=6.0, height=3.6)
    draw(ax, 0.6)
    plot.show(fig, alt="The four losses at IoU 0.6 against the score, with their minima.")

course.predict("12.3", least, reveal)

# %% [markdown]
# ## The same label under each loss
#
# We now set a good match beside a bad one, with IoU 0.9 and 0.1. Dots mark the scores
# that the losses ask for.

# %%
fig, axes = plot.figure(2, width=4.0, height=3.8)
for ax, q in zip(axes, (0.9, 0.1), strict=True):
    draw(ax, q)
    ax.set_title(f"a positive with IoU {q}")
plot.show(fig, alt=(
    "Loss against score for a positive with IoU 0.9 and one with 0.1. At 0.9 all four "
    "losses fall towards a high score. At 0.1 the hard focal loss still falls towards 1, "
    "varifocal is nearly flat, and quality focal and MAL rise steeply."))
flat = {name: (curve(loss, 0.1)[899] - curve(loss, 0.1).min()).item()
        for name, loss in LOSSES.items()}
assert flat["varifocal"] < 0.2 < 1 < flat["quality focal"] < flat["MAL"]

# %% [markdown]
# The four agree about the good match and not about the bad one. The hard focal loss
# does not know the IoU, so it still pulls towards 1. Under the varifocal loss the curve
# stays below 0.2 up to a score of 0.88, so whatever the score, little happens. Since
# training follows slopes and not heights, the next picture draws the push on the logit,
# which is upwards where it is positive.

# %%
def push(loss, q):
    """Minus the gradient of the loss in the logit, at every score."""
    z = logit.clone().requires_grad_()
    return -torch.autograd.grad(loss(z, torch.full_like(z, q)).sum(), z)[0]

# %%
fig, axes = plot.figure(2, width=4.0, height=3.8)
for ax, q in zip(axes, (0.9, 0.1), strict=True):
    plot.curves(ax, p, {name: push(loss, q) for name, loss in LOSSES.items()},
                xlabel="score p", ylabel="push on the logit")
    ax.axhline(0, color=plot.GREY, lw=1)
    ax.set(title=f"a positive with IoU {q}", ylim=(-1.1, 1.1))
plot.show(fig, alt=(
    "The push on the logit against the score. At IoU 0.9 all losses push a low score up. "
    "At IoU 0.1 quality focal and MAL push a high score down, the varifocal loss with "
    "less than a tenth of their force, and the hard focal loss pushes up."))

# %% tags=["nbval-check-output"]
confident = torch.tensor([2.0], dtype=torch.float64)               # score 0.88
pushes = {}
for name, loss in LOSSES.items():
    value = loss(confident, torch.full_like(confident, 0.1)).item()
    pushes[name] = push(loss, 0.1)[879].item()
    print(f"{name:13} IoU 0.1, score 0.88: loss {value:.2f}, push {pushes[name]:+.3f}")
assert pushes["hard focal"] > 0 > pushes["varifocal"] > -0.1
assert pushes["MAL"] / pushes["varifocal"] > 10 and push(varifocal_loss, 0.9)[99] > 0.7

# %% [markdown]
# Here a network is sure, with score 0.88, of a box that overlaps its object with IoU
# 0.1. MAL pushes that score down eleven times as hard as the varifocal loss does, and
# the hard focal loss pushes it further up. **All soft labels are low for a bad match,
# and how hard a network is pushed towards them differs by a factor of ten.**
#
# What remains is background, where $q = 0$. All four losses push its score down, and
# all four go easy on a score that is low already.

# %%
fig, axes = plot.figure(2, width=4.0, height=3.4)
shown = {"loss": curve, "push on the logit": push}
for ax, (ylabel, what) in zip(axes, shown.items(), strict=True):
    lines = {name: what(loss, 0.0) for name, loss in LOSSES.items()}
    plot.curves(ax, p, lines, xlabel="score p of a background place", ylabel=ylabel)
axes[0].set(ylim=(0, 3))
plot.show(fig, alt=(
    "Loss and push for background. All four losses start flat at score 0, so easy "
    "background counts little. MAL charges the most but pushes less than quality focal "
    "at high scores, because its factor is a constant to the gradient."))
more = [what(mal_loss, 0.0) / what(quality_focal_loss, 0.0) for what in (curve, push)]
assert more[0][49] > 4 and 1.4 < more[1][49] < 1.6                 # score 0.05
assert more[0][879] > 1 > more[1][879]                             # score 0.88
assert torch.equal(curve(varifocal_loss, 0.0), curve(LOSSES["hard focal"], 0.0))

# %% [markdown]
# MAL has the smaller exponent and charges background at score 0.05 more than four times
# what the quality focal loss charges. Its push is only 1.5 times as strong, and weaker
# at high scores, because its code takes the factor $p^{1.5}$ for a constant when it
# computes the gradient. The varifocal loss and the focal loss are the same function on
# background, so you see only one curve for the two.
#
# ## What if the network cannot tell them apart?
#
# So far we have let every label be learned without a mistake. But a network sees
# features, and the same features may come with a good box on one image and with a bad
# one on the next. We mix matches of IoU 0.9 with matches of IoU 0.1 that look exactly
# alike to the network, and ask for the one score at which the mean loss is least.
# Before you look at the picture, guess which loss gives up first as bad matches become
# more.

# %%
bad = torch.linspace(0, 1, 41)
asked = {name: [p[((1 - b) * curve(loss, 0.9) + b * curve(loss, 0.1)).argmin()].item()
                for b in bad.tolist()] for name, loss in LOSSES.items()}
fig, (ax,) = plot.figure(width=6.0, height=3.8)
plot.curves(ax, bad, asked, xlabel="share of bad matches", ylabel="score that is learned")
plot.show(fig, alt=(
    "The score that minimises the mean loss against the share of bad matches. Hard "
    "focal stays at 1. Varifocal stays above 0.8 until half are bad. Quality focal drops "
    "at once and then slowly. MAL falls almost in a straight line."))

# %% tags=["nbval-check-output"]
for name, scores in asked.items():
    row = "   ".join(f"{bad[i]:.0%} bad: {scores[i]:.2f}" for i in (0, 20, 36, 40))
    print(f"{name:13} {row}")
half, most = ({name: scores[i] for name, scores in asked.items()} for i in (20, 36))
assert abs(half["varifocal"] - (0.9**2 + 0.1**2) / (0.9 + 0.1)) < 2e-3
assert abs(half["MAL"] - (0.9**1.5 + 0.1**1.5) / 2) < 2e-3
assert half["varifocal"] > 0.8 and most["varifocal"] > 4 * most["MAL"]
assert abs(asked["quality focal"][4] - 0.684) < 2e-3               # one bad match in ten

# %% [markdown]
# When half of the matches are bad, the varifocal loss asks for 0.82, since the good
# half speaks nine times as loudly. With nine bad ones in ten it still asks for 0.50,
# while MAL asks for 0.11. **Under the varifocal loss a score is therefore not the
# expected IoU**. It is an average in which good boxes have more votes,
# $\sum q^2 / \sum q$, whereas MAL takes the plain average of $q^{1.5}$. For the quality
# focal loss there is no such formula. Because its square listens most to the label that
# is farthest away, one bad match in ten pulls its score from 0.90 to 0.68.
#
# Which of these averages is best for AP no formula can tell. Nor do published numbers.
# mmdet lists GFL at 40.2 AP and VarifocalNet at 41.6 (COCO, ResNet-50), but VarifocalNet
# also refines its boxes. DEIM, to which MAL belongs, is another kind of detector
# altogether.
#
# ## Does a detector learn such scores?
#
# On the stage, two detectors have learned from the positives of ATSS. The upper one was
# taught the label 1, and the lower one the IoU of each box under the quality focal loss.
# What do you expect to differ, the labels on the left or the detections on the right?

# %%
course.stage("atss", "atss, quality focal", pictures=["sky"])

# %% tags=["nbval-check-output"]
losses = {"label 1": "atss", "quality focal": "atss, quality focal",
          "varifocal": "atss, varifocal", "MAL": "atss, MAL"}
for name, row in losses.items():
    sky, star = course.shown(row, ["sky", "star"]).values()
    print(f"{name:13} sky: {sky.found} found, {sky.false_alarms} false alarms   "
          f"star: {star.found} found, {star.false_alarms} false alarms")
    assert (sky.with_positive, star.with_positive) == (86, 81)

# %% [markdown]
# The labels choose the same positives, because ATSS looks at anchors only and a soft
# label grades what ATSS has chosen. On the tile of the sky the detector with label 1
# finds 79 of 108 objects and the one with quality focal 72, whereas on the tile with the
# bright star they find 72 and 76 of 93. You cannot rank the four losses by such counts,
# which come from two pictures and one training of each (three trainings of each follow
# below), and to find more objects is not what a soft label is for. It is meant to make
# the score say how good the box is. The stage keeps every detection with its score, so we
# can hold score and IoU of the same box against each other.

# %% tags=["hide-input"]
def on_stage_pictures(row):
    """Score and IoU, with the object that it overlaps most, of each stored detection."""
    scores, overlaps = [], []
    for name, (data, place) in on_stage.PICTURES.items():
        objects = on_stage.scene(row, name).boxes
        entry = read_json(datasets.data_dir() / "board" /
                          f"{Cell(data, 'full', row, 0).name}.json")
        kept = entry["detections"][place]
        scores.append(torch.tensor(kept["scores"]))
        overlaps.append(iou(torch.tensor(kept["boxes"])[:, None], objects).amax(dim=1))
    score, overlap = torch.cat(scores), torch.cat(overlaps)
    meant = overlap >= 0.3                       # the others belong to no object
    return score[meant], overlap[meant]

fig, axes = plot.figure(2, width=4.0, height=4.0)
for ax, name in zip(axes, ("label 1", "quality focal"), strict=True):
    score, overlap = on_stage_pictures(losses[name])
    plot.points(ax, torch.stack([overlap, score], dim=1), "prediction")
    ax.plot([0, 1], [0, 1], color=plot.INK, lw=1, ls=":")
    ax.set(title=f"{name}: {len(score)} detections", xlim=(0.28, 1), ylim=(0, 1.04),
           xlabel="IoU of the box", ylabel="its score")
plot.show(fig, alt=(
    "Score against IoU for all detections on the stage's three pictures that overlap an "
    "object by 0.3 or more. Under both losses the dots scatter widely, and many boxes "
    "with a score near 1 have an IoU of only 0.5 to 0.7."))

# %% tags=["nbval-check-output"]
too_sure = {}
for name, row in losses.items():
    score, overlap = on_stage_pictures(row)
    gap = (score - overlap)[score >= 0.25]
    too_sure[name] = (gap > 0.2).float().mean().item()
    print(f"{name:13} {len(gap)} boxes: score minus IoU {gap.mean():+.2f} on average, "
          f"over 0.2 for {too_sure[name]:.0%}")
assert 0.38 < too_sure["quality focal"] < too_sure["label 1"] < 0.43
assert max(too_sure["varifocal"], too_sure["MAL"]) < 0.31

# %% [markdown]
# If these scores had been learned without a mistake, the dots on the right would be on
# the dotted line. They are not. With label 1 the score exceeds the IoU by 0.14 on
# average, counted over the boxes that score 0.25 or more, as it should, since that
# label asks every positive for 1. But with the quality focal loss it still does so by
# 0.11, and four boxes in ten claim over 0.2 too much. Under varifocal and MAL it is
# three in ten. After 500 steps on the sky and 750 on the digits, the formulas of this
# chapter describe where the scores are pulled and not where they have arrived. One
# suspect is that the network judges the boxes of its training pictures, which it has
# fitted, and is asked about others. We have not tested that.
#
# ### On the board
#
# AP asks less of a score than to be the IoU, since it reads the order of the boxes and
# nothing else. Do soft labels at least put the better boxes first? On the digits each of
# the four detectors has been trained from three seeds. In the table one is subtracted
# from another, seed by seed, in percent. As in chapter 8, a difference is bold if all
# three seeds agree on its sign and its mean is 2.5 or more, and what is not bold we do
# not claim.

# %%
board = leaderboard.read(datasets.data_dir() / "board", "digits", "full")
soft = ("atss, quality focal", "atss, varifocal", "atss, MAL")
table = leaderboard.compare(board, *((row, "atss") for row in soft),
                            (soft[1], soft[0]), (soft[2], soft[0]), (soft[2], soft[1]))
assert "**" not in table
assert all(text in table for text in ("| +1.3 ± 2.5", "| +1.9 ± 2.1", "| +1.4 ± 1.3"))
Markdown(table)

# %% tags=["nbval-check-output"]
def by_seed(row, key, scores="scores"):
    return 100 * torch.tensor([board[row][s][scores][key] for s in range(3)])

print(f"{'by seed':13}{'AP':>18}{'AP75':>20}{'AP without NMS':>20}")
for name, row in losses.items():
    columns = (by_seed(row, "AP"), by_seed(row, "AP75"),
               by_seed(row, "AP", "scores_no_nms"))
    print(f"{name:13}" + "  ".join("".join(f"{v:6.1f}" for v in c) for c in columns))
ahead = torch.stack([by_seed(row, "AP75") - by_seed("atss", "AP75") for row in soft])
alone = torch.stack([by_seed(row, "AP", "scores_no_nms") for row in soft])
behind = by_seed("atss", "AP", "scores_no_nms") - alone
assert ahead.min() > 0 and behind.min() > 0 and ahead[:, 0].min() > 7
assert [f"{mean:.1f}" for mean in ahead.mean(dim=1)] == ["3.6", "5.1", "3.0"]
assert [f"{mean:.1f}" for mean in behind.mean(dim=1)] == ["2.7", "3.5", "4.8"]

# %% [markdown]
# **No soft label changes AP by an amount that three seeds could tell from chance**, and
# no two of the soft ones can be told apart. Their means are 1.3 to 1.9 AP above label 1.
# At the start of this chapter a label that is learned without a mistake gained 43 points,
# and these labels were not learned so. Nor do we contradict what is published. Its
# steps are as small, 39.3 AP for ATSS and 40.2 for GFL (COCO, ResNet-50), and our three
# seeds are too few to see a step of one point.
#
# Where a well-ordered score should help most is AP75, which counts a box only if it
# fits well. There all three losses are ahead in every seed, by 3.6, 5.1 and 3.0 on
# average. But most of that comes from seed 0, where label 1 has its weakest training,
# and it is the same weak training three times. The limit of 2.5 was measured for AP, so
# we take this column for a hint. Without suppression the order is turned round, and
# label 1 is ahead in every seed, by 2.7, 3.5 and 4.8 AP. We do not know why. Nor is the
# label all that differs, since quality focal and varifocal bring the weights of the box
# loss that belong to them, of which you read below, and MAL brings none.
#
# ### Boxes as distributions on the board
#
# A last row has boxes as distributions, under the quality focal loss. It needs distances
# to four sides, which RetinaNet does not have, and therefore stands on FCOS's detector.

# %% tags=["nbval-check-output"]
bins = "atss, distributions"
for row in ("atss, quality focal", "fcos, own detector", bins):
    counts = [sum(board[row][seed]["positives"][size]["positives"] for seed in range(3))
              for size in ("0-8", "16+")]
    print(f"{row:20} AP {by_seed(row, 'AP').mean():.1f}, positives per object: "
          f"{counts[0] / 3:.1f} under 8 px, {counts[1] / 3:.1f} from 16 px up")
for row, says in (("atss, quality focal", "**-14.6"), ("fcos, own detector", "**-8.3")):
    assert leaderboard.difference(board[bins], board[row]).startswith(says)

# %% [markdown]
# With 30.8 AP it is 14.6 behind the quality focal loss on RetinaNet, and 8.3 behind
# FCOS's own rule on FCOS's detector. This is no verdict on distributions, because more
# than the bins has changed. FCOS's places count as anchors of one stride, a quarter of
# RetinaNet's, so ATSS chooses others, and for a digit from 16 px up it chooses 2.8 where
# it chose 4.6. No row has ATSS on this detector with plain distances, and without one
# the causes cannot be separated.
#
# What the row does show is how a score can be read wrongly. Where torchvision's FCOS
# reports a detection, it takes the *square root* of the score.

# %% tags=["nbval-check-output"]
for least in (0.25, 0.5):
    digits = course.shown("atss, distributions", ["digits"], least_score=least)["digits"]
    print(f"score from {least}: {digits.found} of {digits.objects} digits found, "
          f"{digits.false_alarms} false alarms")
assert digits.false_alarms < 5

# %% [markdown]
# From a score of 0.25 on, where the stage draws, this detector raises 285 false alarms.
# Its 0.25 is the root of 0.06. From 0.5 on, which is the root of 0.25, three are left. AP
# would be the same with the root and without it, since the order of the boxes is. **A
# rising function of the score leaves AP as it is and changes what a threshold lets
# through.** If you compare two detectors at one threshold, ask first whether their scores
# mean the same.
#
# ## Target, weight or test score?
#
# FCOS (chapter 6) met the problem of the first picture before any of these losses, and
# put its remedy elsewhere. It leaves the label at 1, learns the **centre-ness** of a
# point as an output of its own, and multiplies the two when it detects. In its authors'
# code the centre-ness also weighs the box loss of a point, so that a point near the
# border has little say in the regression.
#
# Whether centre-ness can stand in for the quality of a box depends on what makes a box
# good, and we draw two worlds to see it. As before, boxes are good by luck in one of
# them. In the other, a box is the better the more central its point is.

# %%
fig, axes = plot.figure(2, width=4.0, height=3.8)
agreement = {}
for ax, by in zip(axes, ("luck", "centre"), strict=True):
    dots = []
    for image, target in enumerate(targets):
        own, boxes, central = proposals(image, by)
        dots.append(torch.stack([central, iou(boxes, target["boxes"][own])]))
    dots = torch.cat(dots, dim=1)
    agreement[by] = torch.corrcoef(dots)[0, 1].item()
    plot.points(ax, dots.T[::8], "prediction")
    ax.set(title=f"good by {by}: correlation {agreement[by]:.2f}", xlim=(0, 1),
           ylim=(0, 1), xlabel="centre-ness of the point", ylabel="IoU of its box")
plot.show(fig, alt=(
    "IoU of the box against centre-ness of its point in two worlds. Where boxes are "
    "good by luck, central points have boxes of any quality. Where being central makes "
    "them good, the dots rise in a band, and centre-ness can stand in for quality."))
assert agreement["luck"] < 0.4 and agreement["centre"] > 0.75

# %% tags=["nbval-check-output"]
kinds["score 1 x centre-ness"] = lambda quality, central: central
del kinds["label IoU squared"]
worlds = {by: {name: perfect(label, by)["AP"] for name, label in kinds.items()}
          for by in ("luck", "centre")}
for name in kinds:
    row = "".join(f"   good by {by}: AP {worlds[by][name]:.0f}" for by in worlds)
    print(f"{name:22}{row}")
gap = {by: row["label IoU"] - row["score 1 x centre-ness"] for by, row in worlds.items()}
assert gap["luck"] > 20 and gap["centre"] < 5

# %% [markdown]
# If being central makes a box good, a perfectly learned centre-ness reaches 60 AP where
# the IoU reaches 63. It reaches 45 where the IoU reaches 71 if luck decides. We do not
# know where between these two worlds a real detector is, and with the IoU as its label
# a network does not have to know either.
#
# A second weakness of centre-ness is pointed out by the authors of GFL (Li 2020a,
# section 1). Only positives ever learn it, and yet it is multiplied into the score of
# every place when the detector is used. We ask labelkit's FCOS which of its centre-ness
# outputs receive a gradient:

# %%
torch.manual_seed(0)
detector, seen = fcos(1, assigner=FCOS()), {}
detector.head.register_forward_hook(lambda head, given, outputs: seen.update(outputs))
losses = detector([image for image, _ in pictures][:2], targets[:2])
(slope,) = torch.autograd.grad(losses["bbox_ctrness"], seen["bbox_ctrness"])
positive = detector.last_assignment.positive
assert torch.equal(slope[..., 0] != 0, positive) and positive.float().mean() < 0.5

# %% [markdown]
# Exactly the positives do, and at all other places the output is whatever the shared
# weights happen to give. With a soft label there is no such gap, since one number is
# taught everywhere and background has the label 0.
#
# Quality can also weigh the box loss. FCOS's code takes the centre-ness as the weight,
# and GFL the score that the network itself gives, as a constant. What does that change?
# We call a box poor if its IoU is under 0.6, and add up how much of the box loss, 1 −
# GIoU, is about poor boxes. The world is that of luck, and the network's score is the
# IoU.

# %% tags=["nbval-check-output"]
found = []
for image, target in enumerate(targets):
    own, boxes, central = proposals(image)
    goal = target["boxes"][own]
    found.append(torch.stack([iou(boxes, goal), 1 - giou(boxes, goal), central]))
quality, box_loss, central = torch.cat(found, dim=1)
poor, share = quality < 0.6, {}
for name, weight in {"no weight": torch.ones_like(quality), "centre-ness": central,
                     "own score": quality}.items():
    share[name] = ((weight * box_loss)[poor].sum() / (weight * box_loss).sum()).item()
    print(f"{name:11} {share[name]:.0%} of the box loss is about the poor boxes")
print(f"            which are {poor.float().mean():.0%} of the positives")
assert share["no weight"] > share["centre-ness"] > share["own score"]

# %% [markdown]
# Each weight moves the box loss away from the poor boxes and towards those that are
# good already, from 38 % to 32 % by centre-ness and to 28 % by the score. If an object
# has poor boxes only, that is the opposite of what it needs.
#
# ### Exercise 12.4: where does quality enter?
# *Difficulty 2 of 5, 5 minutes. Place.*
#
# Write for each method the set of places where a measure of quality enters it, for
# instance `{"weight"}`. There are three places to choose from:
#
# - `"target"`: the number that the class score of a positive is taught;
# - `"weight"`: a factor of a loss that is fixed before the score is compared with its
#   target;
# - `"test score"`: a factor that is multiplied into the score when detecting.
#
# Judge quality focal and varifocal by their formulas alone. Centre-ness is FCOS's, in
# its authors' code, and noisy anchors are those of chapter 11.

# %%
# BEGIN GIVEN
# enters = {"centre-ness": ..., "quality focal": ...,
#           "varifocal": ..., "noisy anchors": ...}
# BEGIN SOLUTION 12.4
enters = {"centre-ness": {"weight", "test score"}, "quality focal": {"target"},
          "varifocal": {"target", "weight"}, "noisy anchors": {"target", "weight"}}
# END SOLUTION

# %%
course.check("12.4", enters)

# %% [markdown]
# ## The card
#
# Soft labels are not a rule of assignment, since they grade the positives that another
# rule chose. On the map they have no mark of their own. What do they do to the marks that
# are on it?

# %%
plot.show(course.method_map(up_to=12), alt=(
    "The map of methods after chapter 11, to which this chapter adds no mark. ATSS is in "
    "the field of hard, static labels, and noisy anchors in that of soft, dynamic ones."))

# %% [markdown]
# ATSS itself stays among the static rules, as its choice does not depend on the network.
# ATSS under the quality focal loss belongs in the lower right field beside noisy anchors,
# since the target of each positive changes whenever its box does.
#
# | | soft labels |
# |---|---|
# | who may match? | as the rule beside them: ATSS in GFL and VarifocalNet, a matching in DEIM |
# | how well? | the IoU of the decoded box with its object, without gradient |
# | who is chosen? who wins? | as that rule says |
# | cost | an IoU per positive and step; with bins, $4n$ outputs per place instead of 4 |
# | fails when | an object has no positive; a side exceeds $n - 1$ strides; its only match is silenced |
# | report | β, γ, α; the clamp of $q$; $n$, not `reg_max`; what divides the sums; the box loss's weight |
#
# | loss | target of a positive | its weight | background |
# |---|---|---|---|
# | quality focal | $q$ | $\lvert q - p\rvert^2$ | $p^2$ |
# | varifocal | $q$ | $q$ | $0.75 \, p^2$ |
# | MAL | $q^{1.5}$ | 1 | $p^{1.5}$ |
# | IA-BCE | $p^{0.25} q^{0.75}$ | 1 | $p^2$ |
#
# ## Which score, then?
#
# A box that overlaps its object with IoU 0.6 should learn a score below that of a better
# box for the same object, and for suppression nothing else counts. All four soft losses
# aim at such a score, so a network that learned its labels without a mistake would rank
# its boxes equally well under each. The losses part where mistakes are made. A bad match
# speaks softly under the varifocal loss, which makes sense as long as the object has a
# better one. Under MAL it speaks up, which makes sense when it is the only one. You have
# seen what each loss asks for, and that the detectors on the stage had not arrived there.
# Which loss gives the better detector, three seeds could not tell.
#
# **Next.** All these losses grade positives that ATSS chose before it had seen a single
# box. If the network's boxes are good enough to grade a positive, they may be good
# enough to choose it. Chapter 13 lets the scores of the candidates split them into
# positives and background.
#
# ## Recap
#
# - With label 1 every positive asks for the same score, and suppression keeps whichever
#   comes first in the list.
# - Any label that rises with the IoU gives the same order of the boxes once it is
#   learned.
# - A side as a distribution over $n$ bins has its expectation as the distance and
#   reaches $n - 1$ strides, and DFL teaches the two bins beside the label.
# - Varifocal weighs a positive by its IoU, MAL weighs all alike and sharpens the
#   target. On a confident bad match their pushes differ by a factor of eleven.
# - Quality can be a target, a weight or a factor of the test score. Only a target is
#   taught to the background too.
# - On the stage no loss had brought the scores to the IoU, and over three seeds no soft
#   label changed AP by an amount that we could claim.
# - A rising function of a score leaves AP as it is, but it changes what a threshold lets
#   through.
#
# ## Recall
#
# <details><summary>1. Why does the varifocal loss of a positive jump when its IoU falls
# from 10⁻⁶ to 0?</summary>
#
# At 10⁻⁶ it is a positive with next to no weight. At 0 the formula takes it for
# background and charges $0.75 \, p^2$ times the cross entropy with label 0. Published
# code clamps the IoU of a positive so that the second case cannot happen.
# </details>
#
# <details><summary>2. A detector has 16 bins. How wide may an object be on the level of
# stride 8, so that a point can still express it?</summary>
#
# Each side reaches 15 strides, which is 120 px. From its middle a point can express 240
# px, from anywhere else less.
# </details>
#
# <details><summary>3. Two losses aim at the same score for every positive. Can they still
# train different networks?</summary>
#
# Yes. Where the network cannot tell a good match from a bad one, it learns an average,
# and the weights decide which matches count in it. In our mixture the varifocal loss
# asks for 0.82 where the quality focal loss asks for 0.50.
# </details>
#
# ## References
#
# - X. Li and others, *Generalized Focal Loss: Learning Qualified and Distributed
#   Bounding Boxes for Dense Object Detection*, NeurIPS 2020, [arXiv
#   2006.04388](https://arxiv.org/abs/2006.04388): section 1 (quality in training and
#   test), section 3 (QFL, DFL). Cited as Li 2020a; its code is in mmdet 3.3.0,
#   `losses/gfocal_loss.py` and `dense_heads/gfl_head.py`.
# - H. Zhang and others, *VarifocalNet: An IoU-aware Dense Object Detector*, CVPR 2021,
#   [arXiv 2008.13367](https://arxiv.org/abs/2008.13367), section 3; mmdet 3.3.0,
#   `losses/varifocal_loss.py`.
# - S. Huang and others, *DEIM: DETR with Improved Matching for Fast Convergence*, CVPR
#   2025, [arXiv 2412.04234](https://arxiv.org/abs/2412.04234), section 3.3 (MAL).
# - Z. Cai and others, *Align-DETR*, 2023, [arXiv
#   2304.07527](https://arxiv.org/abs/2304.07527) (IA-BCE).
# - Z. Tian and others, *FCOS: Fully Convolutional One-Stage Object Detection*, ICCV
#   2019, [arXiv 1904.01355](https://arxiv.org/abs/1904.01355), section 3.3
#   (centre-ness).
# - Ultralytics 8.4.190, `utils/loss.py` (16 bins, labels to 14.99).
