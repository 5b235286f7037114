# %% [markdown]
# # 04 · Decide which prior learns which object
#
# A photograph comes with a short list of objects, and a network looks at it from
# hundreds or thousands of places, its priors. Before training can start, a rule has to
# tell every prior whether it should learn one of the objects or learn that there is
# none. How many priors should learn an object, and which ones? Two well-known detectors
# answer so differently that one asks for seven priors where the other asks for 95. In
# this chapter you find out what is at stake, and what a good answer needs.

# %%
import math

import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import sigmoid_focal_loss

import labelkit_course as course
from labelkit import IGNORED, NEGATIVE, Predictions, Priors, datasets, plot
from labelkit.assigners import FCOS, HAMBox, MaxIoU, NoisyAnchors, TopK
from labelkit.boxes import area, encode_ltrb
from labelkit.detectors import retinanet
from labelkit.losses import focal_loss
from labelkit.search.candidates import plausible
from labelkit.similarity import iou

# %%
both = plot.SCENES["two overlapping"]
anchors = Priors.anchors((128, 128), strides=(8, 16, 32), sizes=((32,), (64,), (128,)))
middles = Priors.points((128, 128), strides=(8, 16, 32))
retina = MaxIoU(allow_low_quality_matches=False)(anchors, both.target)
panels = {"RetinaNet's rule, chapter 5": retina,
          "FCOS's rule, chapter 6": FCOS()(middles, both.target)}
fig, axes = plot.figure(2, width=3.3, height=4.1)
for ax, (title, found) in zip(axes, panels.items(), strict=True):
    plot.scene(ax, both, title=title)
    plot.assignment(ax, middles, found, both.boxes)
    plot.legend(ax, "gt", "positive", "ignored", "negative")
plot.show(fig, alt=(
    "Two objects and the same 336 priors, drawn as their centres, under two published "
    "rules. RetinaNet's rule makes 7 of them positive, FCOS's rule 95. Training sees "
    "these labels and nothing else of the objects."))

# %% [markdown]
# Both rules look at the same two objects and at the same 336 places, and both belong to
# a well-known detector. Only two places are positive under both of them, and the rules
# give even these two to different objects.
#
# **You will be able to**
# - say what a positive, a negative and an ignored prior do in the loss, and turn the
#   assignment of a batch into targets;
# - show with numbers what too many positives cost, and what too few cost;
# - count the imbalance of positives and negatives, and derive the loss that was built
#   for it;
# - take any assignment method apart into four questions.
#
# **You need** chapters 1 and 3, 40 minutes to read and 46 to solve the exercises, and
# about 20 seconds of CPU.
#
# ## Same network, other labels
#
# The labels are all that differs between the next two detectors. They have the same
# network with the same first weights, and have seen the same pictures of the sky for the
# same 500 steps. The upper row shows RetinaNet's rule, which labelkit calls `MaxIoU` or
# `max_iou`, here without its rescue of objects that nothing fits, and the lower row
# FCOS's, here with the points near the centre of an object alone. The picture was kept
# out of the training, and most of its objects are galaxies of a few pixels. A detection
# counts if its score is at least 0.25, and it finds an object if their IoU is at least
# 0.5.

# %%
course.stage("max_iou, no low quality", "fcos", pictures=("sky",))

# %%
for row, counts in {"max_iou, no low quality": (108, 6, 10, 98, 3),
                    "fcos": (108, 87, 75, 33, 30)}.items():
    assert course.shown(row)["sky"] == counts

# %% [markdown]
# Of 108 objects, six have a positive under the first rule, and its detector finds ten.
# Under the second rule 87 have one, and its detector finds 75. Because it also raises 30
# false alarms, against 3, its labels are not better in every respect. Still, nothing but
# the labels was changed, and one detector finds seven times as many objects as the other.
#
# ## The labels define the task
#
# In chapter 3 we gave each prior a place and measured which priors *fit* which object.
# How well they fit is a number, whereas training needs a decision. For every prior the
# loss asks which score it should have, 1 or 0, and if the answer is 1, which box it
# should report.
#
# Because the network never sees the list of objects, it has no other source. You can
# see how much this matters from an untrained network, which gives every one of the 336
# priors the score 0.5. In which direction does the loss pull each score under the two
# rules?

# %%
scene = plot.SCENES["two overlapping"]
priors = Priors.anchors((128, 128), strides=(8, 16, 32), sizes=((32,), (64,), (128,)))
points = Priors.points((128, 128), strides=(8, 16, 32))     # the centres of the anchors
no_fallback = MaxIoU(allow_low_quality_matches=False)
first, second = no_fallback(priors, scene.target), FCOS()(points, scene.target)

# %% tags=["nbval-check-output"]
def pull(answer):
    """Which way the loss pulls each score: +1 up, -1 down, 0 not at all."""
    logits = torch.zeros(len(priors), requires_grad=True)
    loss = cross_entropy(logits, answer.positive.float(), reduction="none")
    loss[~answer.ignored].sum().backward()
    return -logits.grad.sign()

up = [int((pull(answer) > 0).sum()) for answer in (first, second)]
against = int((pull(first) * pull(second) == -1).sum())
print(f"pulled up: {up[0]} and {up[1]} priors; in opposite directions: {against}")
agreed = first.positive & second.positive
print(f"pulled up by both: {int(agreed.sum())}, for the same object:",
      int((first.gt == second.gt)[agreed].sum()))
assert against == 98 and agreed.sum() == 2

# %% [markdown]
# Of the 336 priors, 98 learn opposite things from the same picture. The rule is
# therefore no detail of the training code. It *defines* what the network is asked to do.
#
# ## Positive, negative, ignored
#
# Each prior gets one of three labels:
#
# | | classification loss | box loss |
# |---|---|---|
# | **positive** for object $g$ | target 1 for the class of $g$, 0 for the others | regress the box of $g$ |
# | **negative**, background | target 0 for all classes | nothing |
# | **ignored** | nothing | nothing |
#
# An assigner returns this as one whole number per prior. For a positive it is the index
# of its object, counted from 0, and two codes stand for the rest, −1 for negative and
# −2 for ignored, as in torchvision.

# %% tags=["nbval-check-output"]
assert (NEGATIVE, IGNORED) == (-1, -2)
for code in (-2, -1, 0, 1):
    print(f"{code:2}: {int((first.gt == code).sum()):3} priors")
labels = torch.tensor([5, 2])     # say that object 0 is of class 5, and object 1 of 2
print("class targets:", sorted(set(first.class_targets(labels).tolist())))
print("-1 is ignored, 0 is background, c + 1 is class c")

# %% [markdown]
# ### Exercise 04.5: two images, one list
# *Difficulty 3 of 5, 10 minutes. Find the bug.*
#
# Return what the classification loss needs for a whole batch: a float table of 0 and 1
# with one row per prior and one column per class, and a mask of the priors that count.
# The rows of all images follow one another. Positives and negatives count, ignored
# priors do not, and the table has no column for the background. You are given one `gt`
# and one `labels` per image, and an image may have no objects.
#
# The code below is right for a single image. Find out why it is not right for two, and
# mend it. Note that `labels[-1]` does not raise an error in Python; it returns the last
# label.

# %%
def their_targets(gts, labels, num_classes):
    """Targets [P, C], and the mask [P] of priors that count; lists of [P_i], [G_i]."""
    # BEGIN GIVEN
    # gt, every_label = torch.cat(gts), torch.cat(labels)
    # positive = gt >= 0
    # targets = torch.zeros(len(gt), num_classes)
    # targets[positive, every_label[gt[positive]]] = 1
    # return targets, gt != IGNORED
    # BEGIN SOLUTION 04.5
    start, shifted = 0, []
    for gt, own in zip(gts, labels, strict=True):
        shifted.append(torch.where(gt >= 0, gt + start, gt))
        start += len(own)
    gt, every_label = torch.cat(shifted), torch.cat(labels)
    positive = gt >= 0
    targets = torch.zeros(len(gt), num_classes)
    targets[positive, every_label[gt[positive]]] = 1
    return targets, gt != IGNORED
    # END SOLUTION

# %%
course.check("04.5", their_targets)

# %% [markdown]
# ### Why ignore anything?
#
# RetinaNet's rule calls an anchor positive if its IoU with an object is 0.5 or more,
# and negative if it is below 0.4. What is between the two is ignored. Would one
# threshold not do?
#
# When we looked at tree crowns in chapter 1, we found that one pixel more or less is a
# matter of taste. Let the annotator's hand shake by that much. We move all boxes of the
# aerial photographs by one pixel, in each of the four directions, and count how many
# positives turn into *negatives*, which is the opposite label.

# %%
# a net of anchors over a tile: in each cell one square, of 16, 32 or 64 px by the level
net = Priors.anchors((128, 128), strides=(4, 8, 16), sizes=((16,), (32,), (64,)))
tiles = [(image, {"boxes": torch.as_tensor(target["boxes"]), "labels": target["labels"]})
         for image, target in datasets.neon_trees("test", fold=None)]
trees = [(image, target) for image, target in tiles if len(target["boxes"])]
one_pixel = torch.tensor([[1, 0, 1, 0], [-1, 0, -1, 0], [0, 1, 0, 1], [0, -1, 0, -1]])

# %% tags=["nbval-check-output"]
flipped = {}
for bg_thresh in (0.5, 0.4):
    rule = MaxIoU(0.5, bg_thresh, allow_low_quality_matches=False)
    turned, positives = 0, 0
    for _, target in trees:
        drawn = rule(net, target)
        shaken = rule(net, [{"boxes": target["boxes"] + step} for step in one_pixel])
        turned += int((drawn.positive & shaken.negative).sum())
        positives += len(one_pixel) * int(drawn.positive.sum())
    flipped[bg_thresh] = turned / positives
    print(f"negative below {bg_thresh}: {flipped[bg_thresh]:.0%} become negatives")
assert round(1 / flipped[0.5]) == 7 and flipped[0.4] == 0

# %%
image, target = trees[15]
strict = MaxIoU(fg_thresh=0.5, bg_thresh=0.5, allow_low_quality_matches=False)
moved = target["boxes"] + one_pixel[0]
before, after = strict(net, target), strict(net, {"boxes": moved})
inner = ((net.centers - 64).abs() < 40).all(dim=1)
prior = int((before.positive & after.negative & inner).nonzero()[-1])
crown = int(before.gt[prior])

fig, axes = plot.figure(2, width=3.0, height=3.6)
both_boxes = {"positive": target["boxes"][crown], "negative": moved[crown]}
for ax, (role, gt) in zip(axes, both_boxes.items(), strict=True):
    title = f"IoU {iou(net.boxes[prior], gt):.3f}: {role}"
    plot.scene(ax, 0.5 + 0.5 * image, gt, title=title)
    plot.boxes(ax, net.boxes[prior], "positive")
    x, y = net.centers[prior].tolist()
    ax.set(xlim=(x - 20, x + 20), ylim=(y + 20, y - 20))
    plot.legend(ax, "gt", positive="anchor")
plot.show(fig, alt=(
    "One anchor and one crown, as it was drawn and one pixel further right. With a "
    "single threshold of 0.5 that pixel turns the anchor from a positive into a "
    "negative."))

# %% [markdown]
# With one threshold, a pixel turns every seventh positive into its opposite. If a band of
# ignored priors separates the two, not one of them crosses it. **We ignore a prior
# because we do not know what it should learn.** Ignoring has a price as well, since what
# is ignored is not learned, and an object whose best prior is ignored has no positive. In
# chapter 5 we count the objects without one.
#
# ### A region that was never labelled
#
# In some pictures there are places where we do not know the right answer, for example a
# forest too dense to draw each crown, or a crowd too far away to draw each head.
# Annotators put one box around all of it and flag the box. COCO calls the flag `iscrowd`,
# and VisDrone and WIDER FACE have marks of their own. What should the priors in such a
# place learn? We pretend that the upper right quarter of every tile is one, so that its
# crowns are not drawn, and hand the box of the quarter to the rule in three ways.

# %%
quarter = torch.tensor([[64.0, 0, 128, 64]])

def three_ways(target):
    """Which crowns are in the quarter; the target without them, in three ways."""
    x, y = (target["boxes"][:, :2] + target["boxes"][:, 2:]).T / 2
    inside = (x > 64) & (y < 64)
    rest = target["boxes"][~inside]
    whole = torch.cat((rest, quarter))
    flag = torch.arange(len(whole)) == len(rest)
    return inside, {"left out": {"boxes": rest}, "an object": {"boxes": whole},
                    "flagged": {"boxes": whole, "iscrowd": flag}}

def on_crowns_of(inside, target):
    """Priors that would be positive for a crown of the quarter, had it been drawn."""
    truth = no_fallback(net, target).gt
    return (truth >= 0) & inside[truth.clamp(min=0)]

# %%
def many_hidden(tile):
    return int(on_crowns_of(three_ways(tile[1])[0], tile[1]).sum())

image, target = max(trees, key=many_hidden)
inside, ways = three_ways(target)
asked = on_crowns_of(inside, target)
fig, axes = plot.figure(2, width=3.4, height=4.2)
for ax, way in zip(axes, ("left out", "flagged"), strict=True):
    answer = no_fallback(net, ways[way])
    plot.scene(ax, 0.5 + 0.5 * image, ways[way]["boxes"])
    plot.boxes(ax, target["boxes"][inside], "good", fill=True)
    ax.scatter(*net.centers[asked & answer.negative].T, s=60, marker="X", zorder=9,
               c=plot.GROUND, edgecolors=plot.INK)
    plot.points(ax, net.centers[asked & answer.ignored], "ignored")
    ax.set(xlim=(60, 130), ylim=(70, -2))
axes[0].set_title("left out (crosses: taught background)")
axes[1].set_title("flagged")
plot.legend(axes[0], gt="box as drawn", good="crown, not drawn")
plot.legend(axes[1], "ignored", gt="box as drawn")
plot.show(fig, alt=(
    "The upper right quarter of a tile, with crowns that were not drawn. Marked are the "
    "priors that would be positive for one of them. If the quarter is left out, they are "
    "taught background. If its box is flagged, they are ignored."))

# %% tags=["nbval-check-output"]
wrong, as_object, hidden = dict.fromkeys(("left out", "an object", "flagged"), 0), 0, 0
for _, target in trees:
    inside, ways = three_ways(target)
    asked = on_crowns_of(inside, target)
    hidden += int(asked.sum())
    for way, given in ways.items():
        wrong[way] += int((asked & no_fallback(net, given).negative).sum())
    quarter_is_one = no_fallback(net, ways["an object"])
    as_object += int((quarter_is_one.gt == len(ways["an object"]["boxes"]) - 1).sum())
print(f"priors on crowns of the quarter: {hidden}")
for way, count in wrong.items():
    print(f"  taught background when the quarter is {way}: {count}")
print(f"priors taught that the quarter is one crown: {as_object}")
assert wrong["left out"] == hidden and 0 < wrong["flagged"] < hidden / 20

# %% [markdown]
# Without the flagged box, all 453 priors on a crown of the quarter are taught that
# there is nothing, although they are the very priors that would have learned what a
# crown looks like. If we hand the box over as an object, the same 453 are taught the
# same, and 160 more learn that a quarter of the tile is one crown. With the flag, 12
# remain at the border, where less than half of an anchor is inside the quarter. For that
# reason a flagged box must reach the rule. All rules of labelkit treat it alike, and
# ignore a prior that is not positive and has at least half of its own area in the box.
#
# ## More positives are not better
#
# An object with many positives is learned at many places, so it seems generous to make
# *many* priors positive. The simplest parameter that sets their number is $k$. Each
# object gets the $k$ priors which overlap it with the highest IoU, and a prior that
# several objects want goes to the one with which its IoU is highest, or, if those are
# equal, to the one which comes first in the list. labelkit calls this rule `TopK`, and
# chapter 8 is about it.
#
# ### Exercise 04.6: twins
# *Difficulty 2 of 5, 4 minutes. Predict.*
#
# How many positives does each of two objects get under TopK with $k = 3$? Give a list
# of two numbers. At first the two boxes are identical, as if an annotator had drawn one
# object twice. Then the second is moved down by one pixel. All anchors are squares of
# 32 px, and the picture shows the centres of those around the box, which is 32 px wide
# and 33 px high. A guess counts if all four numbers are right.

# %%
squares = Priors.anchors((128, 128), strides=(8,), sizes=((32,),))
twin = torch.tensor([45.0, 47, 77, 80])

# %%
fig, (ax,) = plot.figure(width=4.4, height=4.6)
plot.scene(ax, (128, 128), twin)
plot.points(ax, squares.centers, "prior")
plot.points(ax, torch.tensor([[61, 63.5]]), "gt")
ax.set(xlim=(42, 82), ylim=(84, 44), xticks=range(44, 82, 8), yticks=range(44, 82, 8))
plot.legend(ax, gt="the box, and its centre at (61, 63.5)", prior="centre of an anchor")
plot.show(fig, alt=(
    "The first of the two boxes and its centre, among the centres of the anchors, which "
    "are 8 px apart. The nearer an anchor's centre, the higher its IoU with the box."))

# %%
# BEGIN GIVEN
# positives = {"identical": [..., ...], "one pixel down": [..., ...]}
# BEGIN SOLUTION 04.6
positives = {"identical": [3, 0], "one pixel down": [2, 2]}
# END SOLUTION

# %%
def reveal():
    fig, axes = plot.figure(2, width=3.6, height=4.2)
    for ax, step in zip(axes, (0, 1), strict=True):
        pair = torch.stack([twin, twin + step * torch.tensor([0, 1, 0, 1])])
        answer = TopK(k=3)(squares, {"boxes": pair})
        plot.scene(ax, (128, 128), pair, title=f"{answer.positives_per_gt(2).tolist()}")
        plot.points(ax, squares.centers[answer.gt == 0], "positive")
        plot.points(ax, squares.centers[answer.gt == 1], "prediction")
        ax.set(xlim=(42, 82), ylim=(84, 44))
    plot.legend(axes[0], positive="of the first", prediction="of the second")
    plot.show(fig, alt=(
        "The anchors of the two objects, left for identical boxes, right after the move, "
        "with the positives of each in the titles."))

course.predict("04.6", positives, reveal)

# %% [markdown]
# ### What more positives do
#
# Objects rarely coincide, but in a crowd they stand close together. In the next picture
# each of fifteen small objects asks for three priors, and then for 27.

# %%
crowd = plot.SCENES["crowd"]
fig, axes = plot.figure(2, width=3.3, height=3.6)
for ax, k in zip(axes, (3, 27), strict=True):
    found = TopK(k=k)(net, crowd.target)
    chosen = found.positive
    sides = encode_ltrb(crowd.boxes[found.gt[chosen]], net.centers[chosen])
    out = sides.amin(dim=1) <= 0
    title = f"k = {k}: {len(out)} positives, {int(out.sum())} outside"
    plot.scene(ax, crowd, title=title)
    plot.points(ax, net.centers[chosen][~out], "positive")
    plot.points(ax, net.centers[chosen][out], "ignored")
    ax.set(xlim=(24, 104), ylim=(92, 32))
plot.legend(axes[0], "gt", positive="inside its object")
plot.legend(axes[1], ignored="outside its object")
plot.show(fig, alt=(
    "Fifteen small objects under TopK. With k = 3 every positive is inside its object. "
    "With k = 27 nearly half are outside, between the objects and around them, so the "
    "labels no longer show where the objects are."))
assert len(out) == 251 and int(out.sum()) == 121

# %% [markdown]
# We can measure three properties of the positives:
#
# - *quality*, the mean IoU of a positive with its object. A positive is told that
#   there is an object and which box is right, and the lower its IoU, the less it sees of
#   what it should report;
# - *outside*, the share of positives whose centre is outside their object;
# - *contested*, the share of priors which several objects want. Only one can have such
#   a prior, and its neighbours, with nearly the same view of the picture, are told to
#   report other objects.

# %%
def quality_of(k):
    values, outside, contested = [], 0, 0
    for _, target in trees:
        boxes, answer = target["boxes"], TopK(k=k)(net, target)
        chosen = answer.positive
        values.append(answer.similarity[chosen])
        sides = encode_ltrb(boxes[answer.gt[chosen]], net.centers[chosen])
        outside += int((sides.amin(dim=1) <= 0).sum())
        alone = TopK(k=k)(net, [{"boxes": box[None]} for box in boxes])   # no rivals
        contested += int((alone.positive.sum(dim=0) > 1).sum())
    values = torch.cat(values)
    return {"positives": len(values), "IoU": values.mean().item(),
            "outside": outside / len(values), "contested": contested / len(values)}

# %% tags=["nbval-check-output"]
table = {k: quality_of(k) for k in (1, 3, 9, 15, 27)}
print(" k   positives   mean IoU   outside their object   contested")
for k, row in table.items():
    print(f"{k:2}   {row['positives']:9,}   {row['IoU']:8.2f}   {row['outside']:20.0%}"
          f"   {row['contested']:9.1%}")

# %%
for name, sign in (("IoU", -1), ("outside", 1), ("contested", 1)):
    column = [row[name] for row in table.values()]
    assert sorted(column, key=lambda value: sign * value) == column

# %% [markdown]
# All three get worse with every step, on 725 crowns in 40 tiles. With $k = 27$, four
# positives in ten are outside the crown they should report, and one in five is wanted by
# more than one crown.
#
# ### Are they expensive, too?
#
# One of the texts from which this course grew says that too many positives waste
# computation. We can count that. The network computes a score and a box at every prior,
# whatever its label, so the labels decide only how many boxes enter the box loss. For one
# of these we allow 100 operations, which is generous, and for a training step three times
# the forward pass, since the backward pass does each multiplication twice. A second cost
# comes after training. If every positive has learned its object, suppression has to
# compare them all with one another.

# %% tags=["nbval-check-output"]
with FlopCounterMode(display=False) as counter, torch.no_grad():
    retinanet(1).eval()([torch.zeros(3, 128, 128)])
step = 3 * counter.get_total_flops()
print(f"one training step on one tile: {step / 1e6:.0f} million operations")
for k in (1, 9, 27):
    n = table[k]["positives"] / len(trees)
    print(f"k = {k:2}: {n:3.0f} positives per tile, {100 * n / step:.4%} of the step, "
          f"{n * (n - 1) / 2:6,.0f} pairs to suppress")
assert 100 * table[27]["positives"] / len(trees) < step / 10_000

# %% [markdown]
# Measured in operations, the sentence is wrong for this network, since even 27 positives
# per object cost less than one ten-thousandth of a training step. What they waste is
# something else. With $k = 27$, of all the boxes from which the network learns, 40 %
# belong to priors outside their object. If the detector learns them all, it reports each
# object many times, and suppression has 77,000 pairs to compare per tile instead of
# 155. The sentence may still hold where a positive costs more, as in two-stage
# detectors, which run a second network once per proposal. We have not measured one.
#
# ### Fewer positives are no better
#
# If you take $k = 1$, every object gets its best prior and nothing else. How much worse
# does the *second best* prior fit?

# %% tags=["nbval-check-output"]
gaps = []
for _, target in trees:
    best, next_best = iou(net.boxes[:, None], target["boxes"]).topk(2, dim=0).values
    gaps.append(best - next_best)
gaps = torch.cat(gaps)
tied, close = (gaps == 0).float().mean().item(), (gaps < 0.05).float().mean().item()
print(f"second best exactly as good: {tied:.0%}, at most 0.05 worse: {close:.0%}")
assert tied > 0.4 and close > 0.6

# %%
image, target = trees[30]
crown = target["boxes"][22]
fit = iou(net.boxes, crown)
twins = (fit == fit.max()).nonzero()[:, 0]
told = TopK(k=1)(net, target).gt[twins]     # the nearest of the six is the positive
fig, (ax,) = plot.figure(width=4.0, height=4.4)
title = f"2 of {len(twins)} anchors with IoU {fit.max():.2f}"
plot.scene(ax, 0.5 + 0.5 * image, crown, title=title)
plot.boxes(ax, net.boxes[twins[told == 22]], "positive")
plot.boxes(ax, net.boxes[twins[-1]], "prediction")
for patch in ax.patches:
    patch.set_linewidth(3)
ax.set(xlim=(50, 94), ylim=(67, 23))
plot.legend(ax, "gt", positive="with k = 1: object", prediction="background")
plot.show(fig, alt=(
    "A small crown and two of the six anchors which fit it best. Each contains the whole "
    "crown, and therefore they have the same IoU, but with k = 1 only one of them learns "
    "it."))
assert len(twins) == 6 and (told == 22).sum() == 1 and told[-1] == NEGATIVE

# %% [markdown]
# Four crowns in ten have a second prior with exactly the same IoU, mostly because anchors
# of one size that contain the whole object have the same IoU wherever they are. With
# $k = 1$ one of the two is told *object* and the other *background*, although both see
# nearly the same pixels, and the network can satisfy only one of them.
#
# For that reason no number is the best as such. A rule has to find, object by object,
# the priors that *see enough of it*, and no others. How to find them is what the methods
# of this course disagree about.
#
# ## A thousand to one
#
# Under either rule of the first picture most priors are background. To see how many, we
# count with RetinaNet's rule of 0.5 and 0.4 alone, in three kinds of pictures. We begin
# with the small tiles of this course, and go on to the whole aerial photograph with all
# its crowns. As a third kind we take images of 800 × 800 px with a handful of objects, as
# in everyday photographs, for which we place handwritten digits of 36 to 48 px into
# photographs. On the tiles there is one anchor per cell, and otherwise RetinaNet's nine.

# %%
def dense_anchors(size):
    strides = (4, 8, 16, 32, 64)
    sizes = [[4 * stride * 2 ** (step / 3) for step in range(3)] for stride in strides]
    return Priors.anchors(size, strides, sizes, ratios=(0.5, 1, 2))

coco = datasets.load_coco(datasets.data_dir() / "neon_trees" / "annotations.json")
photo = coco["images"][0]
xywh = torch.tensor([entry["bbox"] for entry in coco["annotations"]
                     if entry["image_id"] == photo["id"]])
all_crowns = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)
big_picture = dense_anchors((photo["height"], photo["width"]))
digits = datasets.digits("test", n=3, image_size=800, objects=7, mean_size=40).targets
few_objects = [torch.as_tensor(target["boxes"]) for target in digits]

# %%
assert area(torch.cat(few_objects)).sqrt().round().aminmax() == (36, 48)

# %% tags=["nbval-check-output"]
pictures = {"tiles of 128 px": (net, [target["boxes"] for _, target in trees]),
            "whole photograph": (big_picture, [all_crowns]),
            "few objects, 800 px": (dense_anchors((800, 800)), few_objects)}
ratio = {}
print("                        priors   objects   positives   negatives per positive")
for name, (grid, images) in pictures.items():
    found = [no_fallback(grid, {"boxes": boxes}) for boxes in images]
    positives = sum(int(answer.positive.sum()) for answer in found)
    ratio[name] = sum(int(answer.negative.sum()) for answer in found) / positives
    print(f"{name:20} {len(grid):9,}   {sum(map(len, images)) / len(images):7.0f}   "
          f"{positives / len(images):9,.0f}   {ratio[name]:22,.0f}")
assert [round(value) for value in ratio.values()] == [36, 73, 2052]

# %% [markdown]
# Lin and others quote 1 : 1000 (2017, section 3), but the ratio is no constant. It
# depends on how many priors there are per object, which gives 36 negatives per positive
# in our crowded tiles and 2,052 in the large image with few objects. These are counts of
# labels. How many of the negatives are *easy* for a trained network is another question,
# which chapter 7 answers.
#
# ### What the imbalance does to the loss
#
# Take a network in the middle of training. It is 98 % sure of an ordinary piece of
# background, $p = 0.02$, and undecided about a typical object, $p = 0.3$. Both numbers
# are our assumption. The cross entropy is $-\ln p$ for a positive and $-\ln(1 - p)$ for
# a negative.

# %% tags=["nbval-check-output"]
easy, hard = torch.tensor(0.02).logit(), torch.tensor(0.3).logit()
one_negative = cross_entropy(easy, torch.tensor(0.0)).item()
one_positive = cross_entropy(hard, torch.tensor(1.0)).item()
print(f"loss of one positive {one_positive:.2f}, of one easy negative {one_negative:.3f}")
share = {}
for name, count in ratio.items():
    share[name] = count * one_negative / (count * one_negative + one_positive)
    print(f"{name:20} easy negatives make {share[name]:.0%} of the loss")
assert share["tiles of 128 px"] < 0.5 and share["few objects, 800 px"] > 0.95

# %% [markdown]
# It takes 60 easy negatives to weigh as much as the one positive, but two thousand of
# them make 97 % of the loss, so that training is mostly about being even surer of the
# background. In our tiles their share is 37 %. Because the problem is mild there, a
# method that was made for the third kind of picture may gain little on ours.
#
# ## Focal loss
#
# Older detectors drew a sample of the negatives and discarded the others. Lin and others
# kept all of them and changed the loss, which we derive in three steps. Let $p_t$ be the
# probability that the network gives to the *right* answer, which is $p$ for a positive
# and $1 - p$ for a negative. Cross entropy is then $-\ln p_t$ for both.
#
# 1. An example is easy if $p_t$ is near 1. We want a factor that is about 1 for hard
#    examples and falls to 0 for easy ones, and $1 - p_t$ does that.
# 2. A power sharpens it to $(1 - p_t)^\gamma$. With $\gamma = 0$ we have cross entropy
#    again, and the usual choice is $\gamma = 2$.

# %%
p_t = torch.linspace(0.02, 1, 99)
fig, (ax,) = plot.figure(width=6.2, height=3.6)
lines = {f"γ = {gamma}": -((1 - p_t) ** gamma) * p_t.log()
         for gamma in (0, 0.5, 1, 2, 5)}
plot.curves(ax, p_t, lines, xlabel="probability of the right answer", ylabel="loss")
ax.set(ylim=(0, 2))
plot.show(fig, alt=(
    "Loss against the probability that the network gives to the right answer. All "
    "curves end at 0, but the larger γ is, the earlier the loss is close to it, so "
    "examples that are nearly right fall silent."))

# %% tags=["nbval-check-output"]
for right in (0.5, 0.9, 0.968):
    smaller = 1 / (1 - right) ** 2
    print(f"p_t = {right}: {smaller:4.0f} times smaller than cross entropy")
assert 950 < smaller < 1000

# %% [markdown]
# These are the two numbers of the paper for $\gamma = 2$, a hundred times smaller at
# $p_t = 0.9$ and a thousand times at $p_t \approx 0.968$ (section 3.2). The third step
# is left:
#
# 3. A constant weight for the two classes, $\alpha = 0.25$ for positives and
#    $1 - \alpha = 0.75$ for negatives, written $\alpha_t$.
#
# $$\text{FL}(p_t) = -\alpha_t \, (1 - p_t)^\gamma \, \ln p_t$$
#
# (section 3.2, equation 5). The third step seems upside down, because the rare positives
# get the smaller weight. It corrects the second, which has silenced the negatives so much
# that the positives would dominate (section 5.1 of the paper tunes both together).
#
# ### Exercise 04.2: focal loss
# *Difficulty 3 of 5, 12 minutes. Implement.*
#
# Return the focal loss of every element. You are given logits and targets of 0 or 1. The
# network returns a logit $z$, and $p$ is its sigmoid.
# `torch.nn.functional.logsigmoid(z)` is $\ln p$, and `logsigmoid(-z)` is $\ln(1 - p)$.
# Use them instead of `p.log()`, because a logit of −200 is an ordinary number, but its
# $p$ is rounded to 0, and the logarithm of 0 is infinite.

# %%
def my_focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    """Focal loss of each element; targets are 0 or 1; alpha weighs the positives."""
    # BEGIN SOLUTION 04.2
    p = logits.sigmoid()
    log_p = torch.nn.functional.logsigmoid(logits)
    log_not_p = torch.nn.functional.logsigmoid(-logits)
    positive = -alpha * (1 - p) ** gamma * log_p
    negative = -(1 - alpha) * p**gamma * log_not_p
    return torch.where(targets == 1, positive, negative)
    # END SOLUTION

# %%
course.check("04.2", my_focal_loss)

# %% [markdown]
# We compare labelkit's `focal_loss` with torchvision's, with the formula in plain
# numbers, and with values that other implementations give.

# %%
logits = torch.tensor([-2.0, -1, 0, 1, 2])
for targets in (torch.ones(5), torch.zeros(5)):
    theirs = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2)
    torch.testing.assert_close(focal_loss(logits, targets), theirs)
by_hand = 0.25 * 0.5**2 * math.log(2)
assert abs(focal_loss(torch.zeros(1), torch.ones(1)).item() - by_hand) < 1e-6
known = [0.4125196, 0.1754671, 0.0433217, 0.0056645, 0.0004509]
torch.testing.assert_close(focal_loss(logits, torch.ones(5)), torch.tensor(known))

# %% [markdown]
# We return to the network that is 98 % sure of the background, in the picture with the
# largest imbalance, and ask how much of the loss the easy negatives still have.

# %% tags=["nbval-check-output"]
count = ratio["few objects, 800 px"]
left = {}
for name, gamma, alpha in (("cross entropy", 0, 0.5), ("focal loss", 2, 0.25)):
    negative = count * focal_loss(easy, torch.tensor(0.0), alpha, gamma).item()
    positive = focal_loss(hard, torch.tensor(1.0), alpha, gamma).item()
    left[name] = negative / (negative + positive)
    print(f"{name}: {left[name]:.0%} of the loss is easy negatives")
assert left["cross entropy"] > 0.95 and left["focal loss"] < 0.15

# %% [markdown]
# Their share falls from 97 % to 8 %, and not one example was discarded. Two rules belong
# to it. We divide the sum by the number of *positives* and not by the number of priors,
# because the easy ones contribute nothing but would still be counted. And we take ignored
# priors out of the sum.
#
# ### The first step
#
# One trap is left, at the very beginning. An untrained network has logits near 0, so
# that $p = 0.5$ everywhere, and it claims half an object at each of half a million
# priors. At first nearly the whole gradient is theirs, and it points down. As a remedy,
# we set the bias of the last layer so that every score begins at a small $\pi$ (section
# 3.3 takes $\pi = 0.01$).
#
# ### Exercise 04.3: the first score
# *Difficulty 1 of 5, 4 minutes. Implement.*
#
# Return the bias with which the sigmoid gives $\pi$. Solve $\pi = 1 / (1 + e^{-b})$ for
# $b$.

# %%
def my_first_bias(pi):
    """The logit whose sigmoid is `pi`, a number between 0 and 1."""
    # BEGIN SOLUTION 04.3
    return -math.log((1 - pi) / pi)
    # END SOLUTION

# %%
course.check("04.3", my_first_bias)

# %% tags=["nbval-check-output"]
bias = torch.tensor(-math.log(99))                  # the answer for 0.01
start = {}
print(f"first loss per positive, with {count:,.0f} negatives for each")
for name, gamma, alpha in (("cross entropy", 0, 0.5), ("focal loss", 2, 0.25)):
    for score, logit in ((0.5, torch.tensor(0.0)), (0.01, bias)):
        pair = focal_loss(logit.expand(2), torch.tensor([1.0, 0]), alpha, gamma)
        start[name, score] = (pair[0] + count * pair[1]).item()
        print(f"{name:13}, scores begin at {score:4}: {start[name, score]:6.1f}")
assert start["focal loss", 0.5] > 100 > 2 > start["focal loss", 0.01]

# %% [markdown]
# Both losses carry their weight α, and the 0.5 of cross entropy makes it half as large as
# it is without. Focal loss alone helps little in the first step, as no example is easy
# yet at $p = 0.5$. With the bias, the first loss falls from 267 to 1.1. For $\pi = 0.01$
# the bias is $-\ln 99 = -4.6$, a number that you find in the code of many detectors.
#
# ### An image without objects
#
# On a tile without a crown, every rule of labelkit calls all priors background. The notes
# on small objects from which this course also grew call all of them *ignored*, and write
# −1 for it, which in `gt` is our code for background. Each reading has its price. To see
# that of ignoring, suppose that the network reports a crown with score 0.9 where there is
# only grass.

# %% tags=["nbval-check-output"]
empty = [number for number, (_, target) in enumerate(tiles) if not len(target["boxes"])]
scores = torch.where(torch.arange(len(net)) == 700, 0.9, 0.01)   # no crown is there
loss = focal_loss(scores.logit(), torch.zeros(len(net)))
print(f"{len(empty)} of {len(tiles)} tiles have no crown, as every prior is told by",
      no_fallback(net, tiles[empty[0]][1]))
for name, counted in (("ignored", 0.0), ("background", 1.0)):
    print(f"{name}: loss {counted * loss.sum():.2f}")

# %% [markdown]
# If all priors are ignored, the loss is 0 whatever the network predicts, and the tile
# does not teach that grass is no crown. With background the false alarm costs 1.40, and
# for that reason labelkit reads it so. The price of that reading appears in the first
# step. As in torchvision, we divide the loss of each image by its own number of
# positives, or by 1 if it has none, which leaves the full weight to 1,344 negatives.

# %% tags=["nbval-check-output"]
def loss_of(target, logit):
    answer = no_fallback(net, target)
    values = focal_loss(logit.expand(len(net)), answer.positive.float())
    return (values[~answer.ignored].sum() / max(int(answer.positive.sum()), 1)).item()

for score, logit in ((0.5, torch.tensor(0.0)), (0.01, bias)):
    typical = torch.tensor([loss_of(target, logit) for _, target in trees]).median()
    alone = loss_of(tiles[empty[0]][1], logit)
    print(f"scores begin at {score:4}: {alone:7.3f} without crowns, {typical:.3f} with")
    assert (alone > 30 * typical) if score == 0.5 else (alone < typical / 1000)

# %% [markdown]
# Without the bias, a tile with no crown would weigh 34 times as much as the typical tile
# with crowns. With the bias it weighs less than a thousandth of it. Background has a
# second price, which no loss can repair. If a tile has crowns which were not drawn,
# background teaches the opposite of what is there, so do not train on a picture that was
# never annotated.
#
# ## A map of methods
#
# Focal loss repairs what follows from the labels, while the rest of the course is about
# the labels themselves. You can sort the methods by two properties. A label is **hard**
# if the class target of a positive is 1, and **soft** if it may be something between 0
# and 1. A method is **static** if the same image gets the same labels all through the
# training, and **dynamic** if they change with the network.
#
# Both can be measured. We take two rules that compare objects with priors, and two that
# ask the network what it predicts at each prior. All four label the same tiles twice,
# with the predictions of an imagined network at two moments. In the first it has learned
# a fifth of the way from each anchor to the object that the anchor overlaps most, and in
# the second seven tenths.

# %%
def imagined(target, learned):
    """Predictions of a network that has learned a part of the way, 0 to 1."""
    value, own = iou(net.boxes[:, None], target["boxes"]).max(dim=1)
    luck = torch.rand(len(net), generator=torch.Generator().manual_seed(0)) - 0.5
    way = (learned + 0.2 * luck)[:, None] * (target["boxes"][own] - net.boxes)
    return Predictions(net.boxes + way, learned * value[:, None])

four = {"MaxIoU": MaxIoU(), "FCOS": FCOS(), "HAMBox": HAMBox(k=3, decoded_thresh=0.6),
        "Noisy anchors": NoisyAnchors()}

# %% tags=["nbval-check-output"]
kind = {}
for name, rule in four.items():
    labels, other, shift, soft = 0, 0, 0.0, False
    for _, target in trees:
        one, two = (rule(net, target, imagined(target, part)) for part in (0.2, 0.7))
        either = one.positive | two.positive
        labels += int(either.sum())
        other += int((one.gt != two.gt)[either].sum())
        shift += (one.score_target - two.score_target)[either].abs().sum().item()
        soft |= bool(((one.score_target > 0) & (one.score_target < 1)).any())
    kind[name] = soft, shift > 0
    print(f"{name:14} {'soft' if soft else 'hard'}   {labels:6,} positives:", end="")
    print(f" {other / labels:.1%} change labels, targets move by {shift / labels:.2f}")

# %%
assert kind["MaxIoU"] == kind["FCOS"] == (False, False)
assert kind["HAMBox"] == (False, True) and kind["Noisy anchors"] == (True, True)

# %%
plot.show(course.method_map(up_to=4), alt=(
    "The first four methods by what was just measured, with their chapters. Rules that "
    "compare an object with the prior are static, and rules that ask the network are "
    "dynamic. Every chapter that teaches a method adds its mark."))

# %% [markdown]
# The two rules that ask the network pay with *stability*. Under MaxIoU and FCOS not one
# label changes while the network learns, so it can work on the same task from the first
# step to the last. HAMBox changes 5 % of its labels between the two moments. Noisy
# anchors keep theirs, because IoU with the prior decides which anchors are positive, and
# move the target of each by 0.23 on average. How much that disturbs a training, these
# numbers cannot say. What a rule gets in return is a task that fits what the network can
# already do.
#
# Neither kind is stable in every respect. A static rule still depends on the annotator's
# pixel, as the counts above have shown. And ATSS of chapter 9, which is often called
# adaptive, will get its mark on the static side, because its threshold adapts to the
# *object* and not to the training.
#
# ## The four questions
#
# On the map you see what kind of rule a method is. To *understand* it, we take it
# apart, and find that every method answers four questions:
#
# 1. *Who may match?* These are the pairs of a prior and an object that are considered at
#    all.
# 2. *How well?* Each pair gets a number.
# 3. *Who is chosen?* A threshold, the $k$ best or a mean turns numbers into decisions.
# 4. *Who wins?* A prior that several objects want goes to one of them.

# %%
demo = Priors.anchors((128, 128), strides=(8,), sizes=((64,),))
overlaps = iou(demo.boxes[:, None], scene.boxes)
best, owner = overlaps.max(dim=1)
x, y = demo.centers.T
fig, axes = plot.figure(2, rows=2, width=2.9, height=3.1)
titles = ("1 who may match?", "2 how well?", "3 who is chosen?", "4 who wins?")
for ax, title in zip(axes, titles, strict=True):
    plot.scene(ax, scene, title=title)
    ax.set(xticks=[], yticks=[])
plot.points(axes[0], demo.centers, "prior")
axes[1].scatter(x, y, c=plot.INK, s=90 * best**2, zorder=8)
plot.points(axes[2], demo.centers[best >= 0.5], "positive")
for index, role in enumerate(("positive", "ignored")):
    mine = (best >= 0.5) & (owner == index)
    plot.points(axes[3], demo.centers[mine], role)
plot.show(fig, alt=(
    "RetinaNet's rule on the two objects of the first picture, here with 256 anchors of "
    "64 px, 8 px apart, and one question per panel. All anchors may match; "
    "their IoU says how well, and is higher where the dot is larger; those at 0.5 or "
    "more are chosen; each goes to the object which it fits best, filled or hollow."))

# %% [markdown]
# In code, the rule of the picture is four lines. It is RetinaNet's, without the rule that
# gives every object its best prior, and labelkit's answer is the same for every prior of
# every tile.

# %%
def four_lines(boxes, gt_boxes):
    table = iou(boxes[:, None], gt_boxes)           # 1 and 2: all may match, by IoU
    best, owner = table.max(dim=1)                  # 4: to the object it fits best
    gt = torch.where(best >= 0.5, owner, NEGATIVE)  # 3: chosen at 0.5 or more
    return torch.where((best >= 0.4) & (best < 0.5), IGNORED, gt)

for _, target in trees:
    ours = four_lines(net.boxes, target["boxes"])
    assert torch.equal(ours, no_fallback(net, target).gt)

# %% [markdown]
# Although the fourth question seems harmless, published programs differ in it, often
# without saying so. Some let the *last* object in the file win, because their loop
# writes its answer over the earlier one, and then the labels depend on the order of the
# annotations.
#
# You can ask the four questions yourself. [This scene][scene] has a box of 6 px and one
# of 24 px under four rules of the coming chapters, which give the larger box 4, 36, 4
# and 3 positives. Drag or choose a box, and the panels below the pictures answer the
# four questions for it.
#
# [scene]: explorer.html#size=128,128&priors=course-anchors&objects=61,61,67,67;20,20,44,44&rules=max_iou;fcos;atss;rka
#
# ### Exercise 04.4: who wins?
# *Difficulty 2 of 5, 10 minutes. Implement.*
#
# Return the object of each prior. You are given the chosen pairs as three vectors of
# equal length, the index of the prior, the index of the object, and their similarity. If
# several objects want a prior, the highest similarity wins, and among equal similarities
# the lower object index. Priors that no object wants are NEGATIVE. A loop over the pairs
# will do.

# %%
def my_winners(prior, gt, value, num_priors):
    """The object of each prior, int64 [num_priors], or NEGATIVE; pairs are [n] each."""
    # BEGIN SOLUTION 04.4
    owner = torch.full((num_priors,), NEGATIVE)
    pairs = zip(value.tolist(), (-gt).tolist(), prior.tolist(), strict=True)
    for _, minus_gt, index in sorted(pairs):        # the best comes last, and overwrites
        owner[index] = -minus_gt
    return owner
    # END SOLUTION

# %%
course.check("04.4", my_winners)

# %% [markdown]
# To see what goes wrong if the order decides, we let the last writer win, on all tiles.
# We reverse the list of boxes, which changes nothing in the picture. The rule is TopK
# with $k = 9$, because it makes contested priors, as the table above says. (That it has
# 6,191 positives and not 6,196 is because ties for the ninth place go to the lower index
# here, and to the nearest centre in labelkit's TopK.)

# %% tags=["nbval-check-output"]
def last_writer_wins(gt_boxes, k=9):
    table = iou(net.boxes[:, None], gt_boxes)
    order = table.argsort(dim=0, descending=True, stable=True)[:k]
    owner = torch.full((len(net),), NEGATIVE)
    for index in range(len(gt_boxes)):
        owner[order[:, index]] = index
    return owner

changed = wanted = 0
for _, target in trees:
    boxes, last = target["boxes"], len(target["boxes"]) - 1
    forward, backward = last_writer_wins(boxes), last_writer_wins(boxes.flip(0))
    backward = torch.where(backward >= 0, last - backward, backward)
    changed += int((forward != backward).sum())
    wanted += int((forward >= 0).sum())
print(f"{changed} of {wanted} positives change their object when the list is reversed")
assert changed > 100

# %% [markdown]
# ### The table of this course
#
# Every method is one row of this table. It starts with the two rules of the first picture
# and grows by one row per method.
#
# | | who may match? | how well? | who is chosen? | who wins? |
# |---|---|---|---|---|
# | **MaxIoU**, chapter 5 | every prior | IoU | at 0.5 or more, or the best of its object | the highest IoU |
# | **FCOS**, chapter 6 | points inside the object | not measured | if the level fits the size | the smallest object |
#
# MaxIoU ignores what is between 0.4 and 0.5. *Or the best of its object* is the
# **low-quality rule**, by which each object also gets its best prior, even below the
# threshold, and by default all priors that tie for it. Every table of this course says
# whether the rule was in use. FCOS may also ask for points near the centre.
#
# You can read the first picture off these rows. FCOS measures nothing, so that every
# point inside an object whose level fits is as good as any other, and there are 95.
# MaxIoU measures, and one threshold decides for all objects. A post on label assignment
# from 2020, which lay before us when we began this course, raises three problems with one
# such threshold. An anchor below it may end in a better box than one above it; anchors of
# IoU 0.9 and 0.55 are both called 1; and some objects have many good anchors where others
# have none. Chapter 8 shows each of the three on our data, and asks which of them TopK
# solves.
#
# ### Exercise 04.7: a rule in six sentences
# *Difficulty 2 of 5, 6 minutes. Place.*
#
# Give the answers of a rule to the four questions, each as one phrase of the list below.
# YOLOv3 assigns labels like this (Redmon 2018, section 2.1, and the authors' code):
#
# 1. There are three grids of cells, and each cell has anchors of three shapes, which
#    makes nine shapes in all.
# 2. An object is considered at one cell of each grid, the one that contains its centre.
# 3. To compare the object with a shape, both are put on the same centre, and the IoU of
#    the two is taken.
# 4. Of the nine shapes, the one with the highest IoU becomes positive for the object, at
#    the cell of its grid.
# 5. An anchor which is not that one but overlaps an object by more than 0.5 is ignored.
# 6. All other anchors are background.
#
# | question | phrases |
# |---|---|
# | `"who"` | `"every anchor"`, `"anchors inside the object"`, `"anchors of one cell per grid"` |
# | `"how"` | `"IoU of the boxes"`, `"IoU of the shapes"`, `"distance of the centres"` |
# | `"chosen"` | `"IoU above 0.5"`, `"the best one"`, `"the k best"` |
# | `"wins"` | `"the highest IoU"`, `"the smallest object"`, `"the first in the list"` |
# | all | `"not said"` |

# %%
# BEGIN GIVEN
# yolov3 = {"who": ..., "how": ..., "chosen": ..., "wins": ...}
# BEGIN SOLUTION 04.7
yolov3 = {"who": "anchors of one cell per grid", "how": "IoU of the shapes",
          "chosen": "the best one", "wins": "not said"}
# END SOLUTION

# %%
course.check("04.7", yolov3)

# %% [markdown]
# ## Only some pairs matter
#
# The table in our four lines has a cell for every prior and every object. We ask how
# large it is for the whole photograph, and how much of it a rule needs.

# %% tags=["nbval-check-output"]
cells = len(big_picture) * len(all_crowns)
print(f"{len(big_picture):,} priors x {len(all_crowns)} objects = {cells:,} pairs, "
      f"{cells * 4 / 1e9:.1f} GB of IoU")
for floor in (0.01, 0.1, 0.4):
    count = len(plausible(big_picture, all_crowns, iou, floor))
    print(f"IoU of {floor:4} or more: {count:9,} pairs, one in {cells / count:,.0f}")
assert cells == 613_162_872 and round(cells / count, -3) == 15_000

# %% [markdown]
# RetinaNet's rule needs the pairs at 0.4 or more, which is one pair in fifteen thousand.
# **labelkit never builds the table.** An IoU of 0.4 limits how far two centres may be
# apart, so that for each object and each level only a small window of cells can matter,
# and only its pairs are evaluated. The four questions stay the same. They are asked of a
# list of pairs instead of a table, of the three vectors of exercise 04.4.
#
# Unless the shortcut is exact, it is of no use. On a tile, where the table is small, both
# ways must find the same pairs with the same values.

# %% tags=["show-input"]
for _, target in trees:
    table = iou(net.boxes[:, None], target["boxes"])
    prior, gt = (table >= 0.4).nonzero(as_tuple=True)
    sparse = plausible(net, target["boxes"], iou, 0.4)
    order = (sparse.prior * table.shape[1] + sparse.gt).argsort()
    assert torch.equal(sparse.prior[order], prior) and torch.equal(sparse.gt[order], gt)
    assert torch.equal(sparse.value[order], table[prior, gt])

# %% [markdown]
# Because of it the whole photograph takes a moment. A batch is no special case either, as
# the objects of all images are in one list.

# %% tags=["nbval-check-output"]
answer = no_fallback(big_picture, {"boxes": all_crowns})
batch = no_fallback(net, [target for _, target in trees])
print(answer)
print(batch)

# %%
assert int(answer.positive.sum()) == 13_985 and batch.gt.shape == (len(trees), len(net))
for image, (_, target) in enumerate(trees):
    assert torch.equal(batch[image].gt, no_fallback(net, target).gt)

# %% [markdown]
# ## The card
#
# | | assigning labels |
# |---|---|
# | takes | priors and objects; dynamic methods also the predictions |
# | returns | per prior an object, negative, or ignored; soft methods also a target and a weight |
# | decides | what the network is asked to learn |
# | cost | the whole table is priors × objects; at IoU 0.4 or more, 15,000 times fewer pairs matter |
# | fails when | positives see too little of their object; twins get opposite labels; the order of a file decides |
#
# ## How many, then?
#
# We asked how many priors should learn an object, and which ones. On the sky the answer
# decided whether a detector finds ten objects or 75, and yet no number is right as such.
# With more priors per object, they overlap it less, are outside it more often and take
# more from its neighbours. With only one, that one may have a twin which learns the
# opposite. The imbalance that any choice leaves is large, but a loss can repair it. What
# no loss can repair is a wrong choice of *which* priors learn the object, and for that we
# have four questions and as yet no answer.
#
# **Next.** The simplest answer is one threshold for all objects. In chapter 5 we build
# that rule and find out which objects it forgets.
#
# ## Recap
#
# - A positive learns a class and a box, a negative learns that there is nothing, and an
#   ignored prior learns nothing.
# - More positives have a lower IoU, are outside more often and more often contested. They
#   cost little computation. With one positive per object, twins get opposite labels.
# - The imbalance is no constant. We counted 36, 73 and 2,052 negatives per positive in
#   three kinds of pictures.
# - Focal loss multiplies cross entropy by $(1 - p_t)^\gamma$, needs a first score of
#   0.01, and is divided by the number of positives.
# - Every method answers four questions: who may match, how well, who is chosen, who wins.
#
# ## Recall
#
# <details><summary>1. A colleague makes every prior with IoU above 0.2 positive, to have
# more of them. What do you expect to see in the labels?</summary>
#
# Positives that overlap their object badly and are outside it, and many priors which
# several objects want. In a crowd the positives fill the space between the objects.
# </details>
#
# <details><summary>2. Why does the first training step need a bias of −4.6, although
# focal loss is in use?</summary>
#
# Focal loss silences *easy* examples. At $p = 0.5$ no example is easy, so half a million
# negatives push at full strength. With $p = 0.01$ they are easy from the first step.
# </details>
#
# <details><summary>3. ATSS computes a threshold for each object. Is it static or dynamic?
# </summary>
#
# Static, because it looks at priors and objects only. The same image gets the same labels
# in every epoch.
# </details>
#
# ## References
#
# - T.-Y. Lin and others, *Focal Loss for Dense Object Detection*, ICCV 2017, arXiv
#   1708.02002, sections 3 (imbalance, focal loss, first scores), 4 (RetinaNet) and 5.1
#   (α and γ).
# - Z. Tian and others, *FCOS*, ICCV 2019, arXiv 1904.01355, section 3.1.
# - J. Redmon and A. Farhadi, *YOLOv3: An Incremental Improvement*, 2018, arXiv
#   1804.02767, section 2.1; the shapes on a common centre are in the authors' code,
#   darknet, `src/yolo_layer.c`, which asks sentence 5 of the predicted boxes, where the
#   paper asks it of the anchors.
# - S. Zhang and others, *Bridging the Gap Between Anchor-based and Anchor-free Detection*
#   (ATSS), CVPR 2020, arXiv 1912.02424, section 3: the labels make the difference.
# - Y. Liu and others, *HAMBox*, CVPR 2020, arXiv 1912.09231; H. Li and others, *Learning
#   from Noisy Anchors*, CVPR 2020, arXiv 1912.05086.
# - B. Weinstein and others, the tree crowns: `data/neon_trees/ATTRIBUTION.md`.
