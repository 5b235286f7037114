# %% [markdown]
# # 04 · Decide which prior learns which object
#
# A photograph has a list of objects, a network has a grid of priors. Training needs a label for every prior. This
# chapter shows what the labels decide, why it is hard to choose them well, and the four questions that every method
# of this course answers.

# %%
import math
from functools import partial

import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torchvision.ops import sigmoid_focal_loss

import labelkit_course as course
from labelkit import IGNORED, NEGATIVE, Predictions, Priors, datasets, plot
from labelkit.assigners import ATSS, FCOS, RFLA, RKA, S3FD, HAMBox, MaxIoU, NoisyAnchors, TopK
from labelkit.boxes import area, encode_ltrb
from labelkit.losses import focal_loss
from labelkit.search.candidates import plausible
from labelkit.similarity import iou, nwd

# %%
scene = plot.SCENES["two overlapping"]
priors = Priors.anchors((128, 128), strides=(8, 16, 32), sizes=((32,), (64,), (128,)))
no_fallback = MaxIoU(allow_low_quality_matches=False)
points = Priors.points((128, 128), strides=(8, 16, 32))                 # the centres of the anchors
answers = {"RetinaNet's rule, chapter 5": no_fallback(priors, scene.target),
           "FCOS's rule, chapter 6": FCOS()(points, scene.target)}

fig, axes = plot.figure(2, height=4.3)
for ax, grid, (title, answer) in zip(axes, (priors, points), answers.items(), strict=True):
    plot.scene(ax, scene, title=title)
    plot.assignment(ax, grid, answer, scene.boxes)
    plot.legend(ax, "gt", "positive", "ignored", "negative")
plot.show(fig, alt=(
    "The same two objects and the same 336 priors twice. The rule of RetinaNet makes 7 priors positive and ignores 5. "
    "The rule of FCOS makes 95 positive and ignores none."))

# %% [markdown]
# Same objects, same 336 places. One published rule asks 7 priors to report an object, the other asks 95. Both became
# famous detectors. This chapter says what is at stake.
#
# **You will be able to**
# - say what a positive, a negative and an ignored prior do in the loss, and turn an assignment into targets;
# - show with numbers why neither more nor fewer positives are better as such;
# - count the imbalance of positives and negatives, and derive the loss that was built for it;
# - take any assignment method apart into four questions.
#
# **You need** chapters 1 and 3. About 70 minutes to read and solve, and a few seconds of CPU.
#
# ## The question
#
# Chapter 3 gave each prior a place, and found out which priors *fit* which object. Fitting is a number. Training needs
# a decision. For every prior the loss asks: what should your score be, 1 or 0? And if it is 1, which box should you
# report?
#
# The network has no other source. It never sees the objects, it only sees labels of priors. The next cell takes an
# untrained network that is undecided everywhere, with score 0.5 for all 336 priors. It asks for the gradient of the
# loss under either rule.

# %% tags=["nbval-check-output"]
def pull(answer):
    """Which way the loss pulls each prior's score: +1 up, -1 down, 0 not at all."""
    logits = torch.zeros(len(priors), requires_grad=True)
    loss = cross_entropy(logits, answer.positive.float(), reduction="none")
    loss[~answer.ignored].sum().backward()
    return -logits.grad.sign()

first, second = (pull(answer) for answer in answers.values())
against = int((first * second == -1).sum())
print(f"priors pulled up: {int((first > 0).sum())} and {int((second > 0).sum())}; "
      f"in opposite directions: {against}")
assert against == 98

# %% [markdown]
# The image is the same, and 98 priors learn opposite things from the two rules. So the rule is not a detail of
# the training code. It *defines* what the network is asked to do.
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
# An assigner returns this as one whole number for each prior. The index of the object, from 0, means positive. Two
# codes mean the rest: −1 negative, −2 ignored, as in torchvision.

# %% tags=["nbval-check-output"]
answer = answers["RetinaNet's rule, chapter 5"]
assert (NEGATIVE, IGNORED) == (-1, -2)
for code in (-2, -1, 0, 1):
    print(f"{code:2}: {int((answer.gt == code).sum()):3} priors")
assert torch.equal(answer.positive, answer.gt >= 0)
labels = torch.tensor([5, 2])          # say that the first object is of class 5, the second of class 2
print("class targets:", sorted(set(answer.class_targets(labels).tolist())))
print("-1 is ignored, 0 is background, c + 1 is class c")

# %% [markdown]
# ### Exercise 04.1: from labels to targets
# *Difficulty 2 of 5, 12 minutes.*
#
# Turn an assignment into what the classification loss needs: a float table of 0 and 1 with a row for each prior and a
# column for each class, and a mask of the priors that count. Positives and negatives count, ignored priors don't. The
# table has no column for the background: class $c$ is column $c$.
#
# Python hides a trap here: `labels[-1]` is not an error, but the last label. Think of an image without objects, too.

# %%
def my_targets(gt, labels, num_classes):
    """Targets float [P, C] of 0 and 1, and the mask bool [P] of the priors that count; gt is [P], labels are [G]."""
    # BEGIN SOLUTION 04.1
    targets = torch.zeros(len(gt), num_classes)
    positive = gt >= 0
    targets[positive, labels[gt[positive]]] = 1
    return targets, gt != IGNORED
    # END SOLUTION

# %%
course.check("04.1", my_targets)

# %% [markdown]
# ### Why ignore anything?
#
# RetinaNet's rule calls an anchor positive from an IoU of 0.5 on, and negative below 0.4. What lies between is
# ignored. Why not one threshold?
#
# Chapter 1 looked at crowns of trees, and found that one pixel more or less is a matter of taste. So let the
# annotator's hand shake: move all boxes of the aerial photographs by one pixel, in each of the four directions. How
# many positives turn into *negatives*, which means the opposite label?

# %% tags=["nbval-check-output"]
net = Priors.anchors((128, 128), strides=(4, 8, 16), sizes=((16,), (32,), (64,)))
trees = [(image, {"boxes": torch.as_tensor(target["boxes"]), "labels": target["labels"]})
         for image, target in datasets.neon_trees("test", fold=None) if len(target["boxes"])]
flipped = {}
for bg_thresh in (0.5, 0.4):
    rule = MaxIoU(fg_thresh=0.5, bg_thresh=bg_thresh, allow_low_quality_matches=False)
    after, positives = 0, 0
    for _, target in trees:
        answer = rule(net, target)
        for step in ([1, 0, 1, 0], [-1, 0, -1, 0], [0, 1, 0, 1], [0, -1, 0, -1]):
            shaken = rule(net, target | {"boxes": target["boxes"] + torch.tensor(step)})
            after += int((answer.positive & shaken.negative).sum())
            positives += int(answer.positive.sum())
    flipped[bg_thresh] = after / positives
    print(f"negative below {bg_thresh}: {flipped[bg_thresh]:4.0%} of the positives become negatives by one pixel")
assert round(1 / flipped[0.5]) == 7 and flipped[0.4] == 0

# %% [markdown]
# Here is one of those positives: the crown as it was drawn, and the crown one pixel to the right.

# %%
image, target = trees[30]
strict = MaxIoU(fg_thresh=0.5, bg_thresh=0.5, allow_low_quality_matches=False)
moved = target["boxes"] + torch.tensor([1.0, 0, 1, 0])
before, after = strict(net, target), strict(net, {"boxes": moved})
prior = int((before.positive & after.negative).nonzero()[0])
crown = int(before.gt[prior])

fig, axes = plot.figure(2, width=3.4, height=3.9)
for ax, gt, role in zip(axes, (target["boxes"][crown], moved[crown]), ("positive", "negative"), strict=True):
    plot.scene(ax, image, gt, title=f"IoU {iou(net.boxes[prior], gt):.3f}: {role}")
    plot.boxes(ax, net.boxes[prior], "positive")
    x, y = net.centers[prior].tolist()
    ax.set(xlim=(x - 20, x + 20), ylim=(y + 20, y - 20))
    plot.legend(ax, "gt", positive="anchor")
plot.show(fig, alt=(
    "A tree crown and an anchor over it, twice. Left the IoU is at least 0.5 and the anchor is positive. Right the "
    "crown's box stands one pixel further right, the IoU is below 0.5, and the same anchor is negative."))

# %% [markdown]
# With one threshold, one pixel turns every seventh positive into its opposite. With the band of ignored priors, not
# one of them crosses it. **Ignoring means: we don't know, so we don't teach.** It has a price, too: what is ignored
# isn't learned. Chapter 5 counts the objects that are left without a positive.
#
# ### A region that nobody labelled
#
# Some pictures hold places where nobody knows the answer: a forest too dense to draw each crown, or a crowd too far
# away to draw each head. Annotators put one box around all of it and flag the box. COCO calls it `iscrowd`, VisDrone
# and WIDER FACE have their own marks. What should the priors in there learn? We pretend that the upper right quarter
# of every tile was such a place, so its crowns are not drawn, and hand the flagged box to the rule in three ways.

# %%
quarter = torch.tensor([[64.0, 0, 128, 64]])

def three_ways(target):
    """The target without the crowns of the quarter, and the quarter left out, taught as an object, or flagged."""
    inside = ((target["boxes"][:, ::2].mean(dim=1) > 64) & (target["boxes"][:, 1::2].mean(dim=1) < 64))
    drawn = {key: target[key][~inside] for key in ("boxes", "labels")}
    whole = {"boxes": torch.cat((drawn["boxes"], quarter)), "labels": torch.cat((drawn["labels"], torch.tensor([0])))}
    flags = torch.arange(len(whole["boxes"])) == len(drawn["boxes"])
    return inside, {"left out": drawn, "an object": whole, "flagged": whole | {"iscrowd": flags}}

def on_crowns_of(inside, target):
    """Priors that would be positive for a crown of the quarter, had it been drawn."""
    truth = no_fallback(net, target).gt
    return (truth >= 0) & inside[truth.clamp(min=0)]

image, target = max(trees, key=lambda tile: int(on_crowns_of(three_ways(tile[1])[0], tile[1]).sum()))
inside, ways = three_ways(target)
asked = on_crowns_of(inside, target)
fig, axes = plot.figure(2, width=2.9, height=3.5)
for ax, way in zip(axes, ("left out", "flagged"), strict=True):
    answer = no_fallback(net, ways[way])
    plot.scene(ax, image, ways[way]["boxes"], title=f"the quarter {way}")
    plot.boxes(ax, target["boxes"][inside], "good")
    plot.points(ax, net.centers[asked & answer.negative], "prediction")
    plot.points(ax, net.centers[asked & answer.ignored], "ignored")
    ax.set(xlim=(60, 130), ylim=(70, -2))
plot.legend(axes[0], prediction="told: nothing here", good="crown, not drawn")
plot.legend(axes[1], "ignored", gt="box as drawn")
plot.show(fig, alt=(
    "The upper right quarter of a tile twice, with the crowns that nobody drew. Left out: every prior that stands on "
    "one of them is negative. Flagged: a box surrounds the quarter, and the same priors are ignored."))

# %% tags=["nbval-check-output"]
wrong, as_object, hidden = dict.fromkeys(("left out", "an object", "flagged"), 0), 0, 0
for _, target in trees:
    inside, ways = three_ways(target)
    asked = on_crowns_of(inside, target)
    hidden += int(asked.sum())
    for way, given in ways.items():
        answer = no_fallback(net, given)
        wrong[way] += int((asked & answer.negative).sum())
        if way == "an object":
            as_object += int((answer.gt == len(given["boxes"]) - 1).sum())
print(f"priors on crowns of the quarter: {hidden}")
for way, count in wrong.items():
    print(f"  told 'nothing is here' when the quarter is {way}: {count}")
print(f"priors told 'this quarter is one crown': {as_object}")
assert wrong["left out"] == hidden and 0 < wrong["flagged"] < hidden / 20 and as_object > 100

# %% [markdown]
# Without the flagged box, all 453 priors that stand on a crown of the quarter are taught that nothing is there, and
# they are the very priors that would have learned what a crown looks like. With the box as an object the same 453 are
# taught the same, and 160 more are taught that a quarter of the tile is one crown. With the flag 12 remain, at the
# border, where less than half of an anchor lies in the quarter. So a flagged box must reach the rule. All rules of
# labelkit treat it alike: a prior that is not positive and has at least half of its own area in it is ignored.
#
# ## More positives are not better
#
# An object with many positives is learned at many places. So why not make *many* priors positive?
#
# The simplest knob is $k$: the $k$ priors of highest IoU with an object become its positives. labelkit calls this
# rule `TopK`, and chapter 8 is about it. Here is a crowd of fifteen objects, for three values of $k$.

# %%
crowd = plot.SCENES["crowd"]
squares = Priors.anchors((128, 128), strides=(8,), sizes=((16,),))
fig, axes = plot.figure(3, width=3.5, height=3.9)
for ax, k in zip(axes, (1, 4, 12), strict=True):
    plot.scene(ax, crowd, title=f"k = {k}")
    plot.assignment(ax, squares, TopK(k=k)(squares, crowd.target), crowd.boxes)
    ax.set(xlim=(16, 112), ylim=(112, 16))
plot.show(fig, alt=(
    "Fifteen small objects in a crowd. With k = 1 there are 15 positives. With k = 4 positives stand on every object "
    "and between them. With k = 12 a carpet of positives covers the crowd and its surroundings."))

# %% [markdown]
# With $k = 12$ the positives no longer say where the objects are. They cover the crowd like a carpet. Three things can
# be measured about it:
#
# - **quality**: the mean IoU of a positive with its object. A positive is told "there is an object here, and this is
#   your box". The lower its IoU, the less the prior sees of what it should report.
# - **outside**: positives whose centre lies outside their object.
# - **contested**: priors that several objects want. Only one can have it. For the others it is lost, and neighbouring
#   priors with nearly the same view of the image are told to report different objects.

# %%
def quality_of(k):
    values, outside, contested = [], 0, 0
    for _, target in trees:
        boxes = target["boxes"]
        answer = TopK(k=k)(net, target)
        chosen = answer.positive
        values.append(answer.similarity[chosen])
        distances = encode_ltrb(boxes[answer.gt[chosen]], net.centers[chosen])
        outside += int((distances.amin(dim=1) <= 0).sum())
        alone = TopK(k=k)(net, [{"boxes": box[None]} for box in boxes])      # each object as if it were alone
        contested += int((alone.positive.sum(dim=0) > 1).sum())
    values = torch.cat(values)
    return {"quality": values.mean().item(), "outside": outside / len(values), "contested": contested / len(values)}

# %% tags=["nbval-check-output"]
knob = {k: quality_of(k) for k in (1, 3, 9, 15, 27)}
print(" k   mean IoU of positives   outside their object   contested")
for k, row in knob.items():
    print(f"{k:2}   {row['quality']:21.2f}   {row['outside']:20.0%}   {row['contested']:9.1%}")
rows = list(knob.values())
assert all(a["quality"] > b["quality"] for a, b in zip(rows, rows[1:], strict=False))
assert all(a["outside"] < b["outside"] for a, b in zip(rows, rows[1:], strict=False))
assert all(a["contested"] < b["contested"] for a, b in zip(rows, rows[1:], strict=False))

# %%
fig, (ax,) = plot.figure(width=6.2, height=3.3)
names = {"quality": "mean IoU", "outside": "share outside", "contested": "share contested"}
plot.curves(ax, list(knob), {names[key]: [row[key] for row in knob.values()] for key in names}, xlabel="k",
            ylabel="IoU or share")
ax.set_ylim(0, 0.6)
plot.show(fig, alt=(
    "Three curves over k from 1 to 27 on the tree crowns. The mean IoU of the positives falls from 0.52 to 0.28. The "
    "share outside their object rises to 40 percent, the share of contested priors to 20 percent."))

# %% [markdown]
# All three get worse with every step. At $k = 27$ four positives in ten stand outside the object that they should
# report.
#
# ### Nor are fewer better
#
# Then take $k = 1$, the best prior of each object and nothing else. Look at the *second best* prior: how much worse
# does it fit?

# %% tags=["nbval-check-output"]
gaps = []
for _, target in trees:
    best, second_best = iou(net.boxes[:, None], target["boxes"]).topk(2, dim=0).values
    gaps.append(best - second_best)
gaps = torch.cat(gaps)
tied, close = (gaps == 0).float().mean().item(), (gaps < 0.05).float().mean().item()
print(f"second best exactly as good: {tied:.0%} of the crowns; worse by less than 0.05: {close:.0%}")
assert tied > 0.4 and close > 0.6

# %% [markdown]
# Such a crown, and all anchors that fit it best:

# %%
image, target = trees[30]
crown = target["boxes"][22]
fit = iou(net.boxes, crown)
twins = net.boxes[fit == fit.max()]
fig, (ax,) = plot.figure(width=3.8, height=4.2)
plot.scene(ax, image, crown, title=f"{len(twins)} anchors, all of IoU {fit.max():.2f}")
plot.boxes(ax, twins, "positive")
ax.set(xlim=(50, 94), ylim=(67, 23))
plot.legend(ax, "gt", positive="best anchors")
plot.show(fig, alt=(
    "A small crown inside several shifted anchors of 16 px. Each of them contains it, so all have the same IoU."))
assert len(twins) > 2

# %% [markdown]
# For four crowns in ten there is a second prior of exactly the same IoU. (An anchor that contains the whole object has
# the same IoU wherever it stands.) With $k = 1$ one twin is told "object", the other "background", and both see nearly
# the same pixels. The network can satisfy one of them only.
#
# So there is no best number as such. A rule has to find, object by object, the priors that *see enough of it*, and not
# more. How to find them is what the methods of this course disagree about.
#
# ## A thousand to one
#
# With either rule of the first picture most priors are background. In this tile with 32 crowns, look for the blue
# ones:

# %%
fig, (ax,) = plot.figure(width=4.0, height=4.6)
plot.scene(ax, image)
plot.assignment(ax, net, no_fallback(net, target), target["boxes"])
plot.legend(ax, "gt", "positive", "ignored", "negative")
plot.show(fig, alt=(
    "A tile full of crowns and of small grey dots, the negatives. The larger crowns hold blue positives, the small "
    "ones none."))

# %% [markdown]
# How few are they elsewhere? We count, with RetinaNet's rule of 0.5 and 0.4 alone, in three kinds of pictures: the
# small tiles of this course, the whole aerial photograph with all its crowns, and images of 800 × 800 px with a
# handful of objects, as in everyday photographs. The last are composites: handwritten digits of 36 to 48 px in
# photographs. The tiles have one anchor a cell, the two others RetinaNet's nine.

# %%
def dense_anchors(size):
    strides = (4, 8, 16, 32, 64)
    sizes = [[4 * stride * 2 ** (step / 3) for step in range(3)] for stride in strides]
    return Priors.anchors(size, strides, sizes, ratios=(0.5, 1, 2))

coco = datasets.load_coco(datasets.data_dir() / "neon_trees" / "annotations.json")
xywh = torch.tensor([entry["bbox"] for entry in coco["annotations"] if entry["image_id"] == coco["images"][0]["id"]])
all_crowns = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)
big_picture = dense_anchors((coco["images"][0]["height"], coco["images"][0]["width"]))
few_digits = datasets.digits("test", n=3, image_size=800, objects=7, mean_size=40).targets
digit_sizes = torch.cat([area(torch.as_tensor(target["boxes"])).sqrt() for target in few_digits])
assert (round(digit_sizes.min().item()), round(digit_sizes.max().item())) == (36, 48)

# %% tags=["nbval-check-output"]
pictures = {"tiles of 128 px": (net, [target["boxes"] for _, target in trees]),
            "whole photograph": (big_picture, [all_crowns]),
            "few objects, 800 px": (dense_anchors((800, 800)), [torch.as_tensor(t["boxes"]) for t in few_digits])}
ratio = {}
print("                        priors   objects   positives   negatives for each positive")
for name, (grid, images) in pictures.items():
    found = [no_fallback(grid, {"boxes": boxes}) for boxes in images]
    positives, negatives = (sum(int(getattr(a, kind).sum()) for a in found) for kind in ("positive", "negative"))
    ratio[name] = negatives / positives
    objects = sum(map(len, images)) / len(images)
    print(f"{name:20} {len(grid):9,}   {objects:7.0f}   {positives / len(images):9,.0f}   {ratio[name]:27,.0f}")
assert [round(value) for value in ratio.values()] == [36, 73, 2052]

# %% [markdown]
# The famous figure is 1 : 1000 (Lin 2017, section 3). It is no constant. It depends on how many priors there are for
# each object: 36 in our crowded tiles, 2,052 in the large image with few objects. The fine level that small objects
# need makes it worse.
#
# ### What the imbalance does to the loss
#
# Take a network in the middle of training. It is 98 % sure of an ordinary piece of background: $p = 0.02$. It is
# undecided about a typical object: $p = 0.3$. The two numbers are our assumption. The cross entropy is $-\ln p$ for a
# positive and $-\ln(1 - p)$ for a negative.

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
# One easy negative weighs nothing. Two thousand of them outweigh the object by far. The training is then mostly about
# being even surer of grass. In our tiles the problem is mild, and this is worth knowing: what a method gains depends
# on the data that it was made for.
#
# ## Focal loss
#
# Older detectors drew a sample of the negatives and threw the others away. Lin and others kept all and changed the
# loss. Derive it in three steps. Let $p_t$ be the probability that the network gives to the *right* answer: $p$ for
# a positive, $1 - p$ for a negative. Then cross entropy is $-\ln p_t$ for both.
#
# 1. An example is easy if $p_t$ is near 1. We want a factor that is about 1 for hard examples and falls to 0 for easy
#    ones. $1 - p_t$ does that.
# 2. A power sharpens it: $(1 - p_t)^\gamma$. With $\gamma = 0$ it is cross entropy again, $\gamma = 2$ is the usual
#    choice.
#
# The curves show both steps:

# %%
p_t = torch.linspace(0.02, 1, 99)
fig, axes = plot.figure(2, width=4.6, height=3.3)
for ax in axes:
    lines = {f"γ = {gamma}": -((1 - p_t) ** gamma) * p_t.log() for gamma in (0, 0.5, 1, 2, 5)}
    plot.curves(ax, p_t, lines, xlabel="p of the right answer", ylabel="loss")
axes[1].set(xlim=(0.6, 1), ylim=(0, 0.5), title="the easy end, enlarged")
plot.show(fig, alt=(
    "Loss against the probability of the right answer, for gamma 0, 0.5, 1, 2 and 5. All curves fall to 0 at 1. The "
    "larger gamma, the earlier the loss is nearly 0: from 0.6 on for gamma 5."))

# %% [markdown]
# How much smaller does an easy example get? The paper gives two numbers for $\gamma = 2$: a hundred times at
# $p_t = 0.9$, a thousand times at $p_t \approx 0.968$ (section 3.2).

# %% tags=["nbval-check-output"]
for right in (0.5, 0.9, 0.968):
    print(f"p_t = {right}: {1 / (1 - right) ** 2:6.0f} times smaller than cross entropy")
assert round(1 / (1 - 0.9) ** 2) == 100 and 950 < 1 / (1 - 0.968) ** 2 < 1000

# %% [markdown]
# The third step is left:
#
# 3. A constant weight for the two classes: $\alpha = 0.25$ for positives, $1 - \alpha = 0.75$ for negatives, written
#    $\alpha_t$.
#
# $$\text{FL}(p_t) = -\alpha_t \, (1 - p_t)^\gamma \, \ln p_t$$
#
# (section 3.2, equation 5). Step 3 looks upside down: the rare positives get the smaller weight. It corrects step 2,
# which has silenced the negatives so much that the positives would rule (section 5.1 of the paper tunes both together).
#
# ### Exercise 04.2: focal loss
# *Difficulty 3 of 5, 12 minutes.*
#
# Write it for logits and targets of 0 or 1, element by element. The network returns logits $z$, and $p$ is their
# sigmoid. `torch.nn.functional.logsigmoid(z)` is $\ln p$, and `logsigmoid(-z)` is $\ln(1 - p)$. Use them instead of
# `p.log()`: a logit of −200 is an ordinary number, but its $p$ is rounded to 0, and the logarithm of 0 is infinite.

# %%
def my_focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    """Focal loss of each element; targets are 0 or 1; alpha is the weight of the positives."""
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
# labelkit's `focal_loss` against torchvision's, against the formula in plain numbers, and against values that other
# implementations give:

# %% tags=["nbval-check-output"]
logits = torch.tensor([-2.0, -1, 0, 1, 2])
for target in (1.0, 0.0):
    targets = torch.full((5,), target)
    values = focal_loss(logits, targets)
    torch.testing.assert_close(values, sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2))
    print(f"target {target:.0f}: " + "  ".join(f"{value:.4f}" for value in values.tolist()))
known = [0.4125196, 0.1754671, 0.0433217, 0.0056645, 0.0004509]
torch.testing.assert_close(focal_loss(logits, torch.ones(5)), torch.tensor(known))
assert abs(focal_loss(torch.zeros(1), torch.ones(1)).item() - 0.25 * 0.5**2 * 0.693147) < 1e-6

# %% [markdown]
# Now the same network again, 98 % sure of the background. Which share of the loss is left to the easy negatives? The
# horizontal axis is the imbalance, and the dotted vertical lines are the three that we counted. Each $\gamma$
# above 0 has the $\alpha$ that the paper found best for it (table 1b).

# %%
imbalance = torch.logspace(0, 4.5, 60)
lines = {}
for gamma, alpha in ((0, 0.5), (0.5, 0.5), (1, 0.25), (2, 0.25)):
    negative = focal_loss(easy, torch.tensor(0.0), alpha, gamma) * imbalance
    positive = focal_loss(hard, torch.tensor(1.0), alpha, gamma)
    lines["cross entropy" if gamma == 0 else f"γ = {gamma}, α = {alpha}"] = negative / (negative + positive)
fig, (ax,) = plot.figure(width=6.6, height=3.5)
plot.curves(ax, imbalance, lines, xlabel="negatives for each positive", ylabel="share of easy negatives in the loss")
ax.set_xscale("log")
for count in ratio.values():
    ax.axvline(count, color=plot.GREY, lw=1, ls=":")
    ax.text(count, 1.03, f"{count:,.0f}", ha="center", fontsize=9)
plot.show(fig, alt=(
    "Share of the easy negatives in the loss over the imbalance, on a logarithmic axis. Cross entropy reaches one half "
    "at 60 to 1 and is near 1 at 2,000. With gamma 2 the share stays below 10 percent there."))

# %% tags=["nbval-check-output"]
count = ratio["few objects, 800 px"]
left = {}
for name, gamma, alpha in (("cross entropy", 0, 0.5), ("focal loss", 2, 0.25)):
    negative = count * focal_loss(easy, torch.tensor(0.0), alpha, gamma)
    left[name] = (negative / (negative + focal_loss(hard, torch.tensor(1.0), alpha, gamma))).item()
    print(f"{name}: {left[name]:.0%} of the loss is easy negatives, at {count:,.0f} to 1")
assert left["cross entropy"] > 0.95 and left["focal loss"] < 0.15

# %% [markdown]
# From nearly all to less than a tenth, without throwing one example away. Two rules belong to it. The sum is divided
# by the number of *positives*, never by the number of priors: the easy ones contribute nothing but would still count.
# And ignored priors are taken out of the sum.
#
# ### The first step
#
# One trap is left, at the very beginning. An untrained network has logits near 0, so $p = 0.5$ everywhere: it claims
# half an object at each of half a million priors. The first gradients are enormous, and all say "less". The remedy is
# to set the bias of the last layer, so that every score begins at a small $\pi$ (section 3.3: $\pi = 0.01$).
#
# ### Exercise 04.3: the first score
# *Difficulty 1 of 5, 4 minutes.*
#
# Which bias makes the sigmoid return $\pi$? Solve $\pi = 1 / (1 + e^{-b})$ for $b$.

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
assert abs(bias.sigmoid().item() - 0.01) < 1e-6
start = {}
print(f"first loss for each positive, at {count:,.0f} negatives for each")
for name, gamma, alpha in (("cross entropy", 0, 0.5), ("focal loss", 2, 0.25)):
    for score, logit in ((0.5, torch.tensor(0.0)), (0.01, bias)):
        positive, negative = focal_loss(logit.expand(2), torch.tensor([1.0, 0]), alpha, gamma)
        start[name, score] = (positive + count * negative).item()
        print(f"{name:13}, scores begin at {score:4}: {start[name, score]:6.1f}")
assert start["focal loss", 0.5] > 100 > 2 > start["focal loss", 0.01]

# %% [markdown]
# Focal loss alone helps little in the first step, as nothing is easy yet at $p = 0.5$. With the bias, the first loss
# falls from hundreds to about one. With $\pi = 0.01$ the bias is $-\ln 99 = -4.6$. You find this number in the code of
# nearly every detector.
#
# ## A map of methods
#
# Focal loss repairs what follows from the labels. The rest of the course is about the labels themselves. Three
# questions sort the methods:
#
# - **hard or soft**: is the class target of a positive 1, or something between 0 and 1?
# - **static or dynamic**: does the same image get the same labels all through the training?
# - **by prior or by prediction**: is the object compared with the prior, or with what the network says at this prior?
#
# The first two can be *measured*. We give each method of labelkit the same image twice, with different predictions of
# an imagined network, and look at what comes out. The third is what a method says of itself: whether it needs
# predictions.

# %%
methods = {
    "MaxIoU": MaxIoU(), "FCOS": FCOS(), "TopK": TopK(), "ATSS": ATSS(), "S³FD": S3FD(),
    "RKA": RKA(similarity=partial(nwd, constant=12.8)), "RFLA": RFLA(),
    "HAMBox": HAMBox(k=3, decoded_thresh=0.6), "Noisy anchors": NoisyAnchors(),
}
target = trees[30][1]

def imagined(seed):
    generator = torch.Generator().manual_seed(seed)
    boxes = net.boxes + 2 * torch.randn(net.boxes.shape, generator=generator)
    return Predictions(boxes, torch.rand(len(net), 1, generator=generator))

# %% tags=["nbval-check-output"]
kind = {}
for name, method in methods.items():
    one, other = (method(net, target, imagined(seed)) for seed in (1, 2))
    soft = bool(((one.score_target > 0) & (one.score_target < 1)).any())
    dynamic = not (torch.equal(one.gt, other.gt) and torch.equal(one.score_target, other.score_target))
    kind[name] = soft, dynamic, method.needs_predictions
    print(f"{name:14} {'soft' if soft else 'hard'}   {'dynamic' if dynamic else 'static':8}"
          f"by {'prediction' if method.needs_predictions else 'prior'}")
    if name == "Noisy anchors":
        assert torch.equal(one.gt, other.gt)            # the same positives, with other targets
assert kind["ATSS"] == (False, False, False)
assert kind["HAMBox"] == (False, True, True) and kind["Noisy anchors"] == (True, True, True)

# %%
later = {"PAA": (False, True, True), "OTA": (False, True, True), "SimOTA": (False, True, True),
         "TOOD": (True, True, True)}
fig, (ax,) = plot.figure(width=6.8, height=4.2)
height = {(False, False): 1.9, (False, True): 1.9, (True, False): 0.85, (True, True): 0.85}
for name, (soft, dynamic, by_prediction) in (kind | later).items():
    y = height[soft, dynamic]
    height[soft, dynamic] -= 0.125
    color, marker = (plot.ORANGE, "D") if by_prediction else (plot.BLUE, "o")
    ax.scatter(0.12 + dynamic, y, marker=marker, s=42, edgecolors=color, c=color if name in kind else plot.GROUND)
    ax.text(0.18 + dynamic, y, name, va="center", fontsize=10)
ax.text(0.5, 0.5, "none in this course", ha="center", color=plot.GREY)
ax.axvline(1, color=plot.GREY, lw=1)
ax.axhline(1, color=plot.GREY, lw=1)
ax.set(xlim=(0, 2), ylim=(0, 2.05))
ax.set_xticks([0.5, 1.5], ["static", "dynamic"])
ax.set_yticks([0.5, 1.5], ["soft", "hard"])
ax.set_title("blue circle: by prior   orange diamond: by prediction   hollow: from its paper")
plot.show(fig, alt=(
    "A map of four fields. Static and hard: MaxIoU, FCOS, TopK, ATSS, S3FD, RKA and RFLA, all by prior. Dynamic and "
    "hard, by prediction: HAMBox, PAA, OTA, SimOTA. Dynamic and soft, by prediction: noisy anchors and TOOD. Static "
    "and soft: none."))

# %% [markdown]
# On this map the last two questions always have the same answer: a method that looks at predictions changes with them.
# The other way to be dynamic, thresholds that follow a schedule, is not in this course.
#
# ATSS is often called adaptive, and it is on the static side. Its threshold adapts to the *object*, not to the
# training. Noisy anchors are a case of their own: which priors are positive is decided by their IoU and never changes,
# and how much each counts follows the prediction. Hollow marks are placed as their papers describe them. Chapters
# 13 and 14 will build them.
#
# ## The four questions
#
# The map says what kind of rule it is. To *understand* a rule, take it apart. Each answers four questions:
#
# 1. **Who may match?** The pairs of a prior and an object that are considered at all.
# 2. **How well?** A number for each pair.
# 3. **Who is chosen?** A threshold, the $k$ best, a mean: what turns numbers into decisions.
# 4. **Who wins?** A prior that several objects want goes to one of them.

# %%
demo = Priors.anchors((128, 128), strides=(8,), sizes=((64,),))
table = iou(demo.boxes[:, None], scene.boxes)
best, owner = table.max(dim=1)
x, y = demo.centers.T
fig, axes = plot.figure(4, width=3.0, height=3.3)
titles = ("1 who may match?", "2 how well?", "3 who is chosen?", "4 who wins?")
for ax, title in zip(axes, titles, strict=True):
    plot.scene(ax, scene, title=title)
    ax.set(xticks=[], yticks=[])
plot.points(axes[0], demo.centers, "prior")
axes[1].scatter(x, y, c=best, s=26, cmap="cividis", vmin=0, vmax=0.8, zorder=8)
plot.points(axes[2], demo.centers[best >= 0.5], "positive")
for index, (color, marker) in enumerate(((plot.BLUE, "o"), (plot.GREEN, "s"))):
    mine = (best >= 0.5) & (owner == index)
    axes[3].scatter(x[mine], y[mine], s=26, color=color, marker=marker, zorder=8)
plot.show(fig, alt=(
    "The four questions on two overlapping objects. 1: all anchors. 2: all coloured by their IoU, brightest near the "
    "two centres. 3: those from 0.5 on. 4: blue circles for one object, green squares for the other."))

# %% [markdown]
# In code, the rule of the picture is four lines. This is RetinaNet's, without the fallback for objects that got
# nothing. labelkit's answer is the same for every prior of every tile.

# %%
def four_lines(boxes, gt_boxes):
    table = iou(boxes[:, None], gt_boxes)               # 1 and 2: everybody may match, IoU says how well
    best, owner = table.max(dim=1)                      # 4: a prior goes to the object that it fits best
    gt = torch.where(best >= 0.5, owner, NEGATIVE)      # 3: chosen from 0.5 on
    return torch.where((best >= 0.4) & (best < 0.5), IGNORED, gt)

for _, target in trees:
    assert torch.equal(four_lines(net.boxes, target["boxes"]), no_fallback(net, target).gt)

# %% [markdown]
# The fourth question looks harmless. It is where published programs differ most quietly. Some let the *last* object in
# the file win, because their loop writes its answer over the earlier one. Then the labels depend on the order of the
# annotations.
#
# ### Exercise 04.4: who wins?
# *Difficulty 2 of 5, 10 minutes.*
#
# You are given the chosen pairs as three vectors of equal length: the prior's index, the object's index, their
# similarity. Return for each prior its object. If several want it, the highest similarity wins, and on equal
# similarities the lower object index. Priors that nobody wants are NEGATIVE. A loop over the pairs will do.

# %%
def my_winners(prior, gt, value, num_priors):
    """The object of each prior, int64 [num_priors], or NEGATIVE; from pairs (prior [n], gt [n], value [n])."""
    # BEGIN SOLUTION 04.4
    owner = torch.full((num_priors,), NEGATIVE)
    pairs = zip(value.tolist(), (-gt).tolist(), prior.tolist(), strict=True)
    for _, minus_gt, index in sorted(pairs):            # the best pair of a prior comes last, and overwrites
        owner[index] = -minus_gt
    return owner
    # END SOLUTION

# %%
course.check("04.4", my_winners)

# %% [markdown]
# What goes wrong if the order decides? Here the last writer wins, on all tiles. We reverse the list of boxes, which
# changes nothing in the image. (The rule is TopK with $k = 9$. It makes contested priors, as the table above says.)

# %% tags=["nbval-check-output"]
def last_writer_wins(gt_boxes, k=9):
    order = iou(net.boxes[:, None], gt_boxes).argsort(dim=0, descending=True, stable=True)[:k]
    owner = torch.full((len(net),), NEGATIVE)
    for index in range(len(gt_boxes)):
        owner[order[:, index]] = index
    return owner

changed = wanted = 0
for _, target in trees:
    boxes, last = target["boxes"], len(target["boxes"]) - 1
    forward, backward = last_writer_wins(boxes), last_writer_wins(boxes.flip(0))
    backward = torch.where(backward >= 0, last - backward, backward)
    changed, wanted = changed + int((forward != backward).sum()), wanted + int((forward >= 0).sum())
print(f"{changed} of {wanted} positives belong to another object when the list is reversed")
assert changed > 100

# %% [markdown]
# ### The table of this course
#
# Every method is one row of this table. It starts with the two rules of the first picture, and grows by a row a
# chapter.
#
# | | who may match? | how well? | who is chosen? | who wins? |
# |---|---|---|---|---|
# | **MaxIoU**, chapter 5 | every prior | IoU | from 0.5 on, or the best of its object | the highest IoU |
# | **FCOS**, chapter 6 | points inside the object | not measured | if the level fits the size | the smallest object |
#
# MaxIoU ignores what lies between 0.4 and 0.5. "Or the best of its object" is the *low-quality rule*: each object also
# gets its best prior, even below the threshold, and by default all that tie for it. Every table of this course says
# whether the rule was in use. FCOS may also ask for points near the centre.
#
# Read the rows once more with the first picture in view: 7 positives against 95. FCOS measures nothing, so every point
# inside an object is as good as any other. MaxIoU measures, and one threshold decides for all objects.
#
# ## Look at the pairs that matter
#
# The table of the four lines has a cell for every prior and every object. For the whole photograph:

# %% tags=["nbval-check-output"]
cells = len(big_picture) * len(all_crowns)
print(f"{len(big_picture):,} priors x {len(all_crowns)} objects = {cells:,} pairs, {cells * 4 / 1e9:.1f} GB of IoU")
counts = {"all pairs": cells}
for floor in (0.01, 0.1, 0.4):
    counts[f"IoU ≥ {floor}"] = len(plausible(big_picture, all_crowns, iou, floor))
for name, count in list(counts.items())[1:]:
    print(f"{name:10}: {count:9,} pairs, one in {cells / count:,.0f}")
assert cells == 613_162_872 and round(cells / counts["IoU ≥ 0.4"], -3) == 15_000

# %%
fig, axes = plot.figure(2, width=4.2, height=3.5)
image, target = trees[30]
crown = target["boxes"][29:30]
near = plausible(net, crown, iou, 0.4)
plot.scene(axes[0], image, crown, title=f"{len(near)} of {len(net):,} priors reach IoU 0.4")
axes[0].set(xlim=(40, 104), ylim=(64, 0))
plot.points(axes[0], net.centers[near.prior], "positive")
axes[1].barh(list(counts)[::-1], list(counts.values())[::-1], color=plot.BLUE)
axes[1].set(xscale="log", xlim=(1, 1e11), title="pairs in the whole photograph")
for row, count in enumerate(list(counts.values())[::-1]):
    axes[1].text(count * 1.4, row, f"{count:,}", va="center", fontsize=9)
plot.show(fig, alt=(
    "Left: one crown in a tile. Of 1,344 priors only 13, around its centre, reach an IoU of 0.4. Right, on a "
    "logarithmic axis: 613 million pairs in all, one million of IoU 0.01 and more, forty thousand of 0.4 and more."))

# %% [markdown]
# RetinaNet's rule needs the pairs from 0.4 on. That is one pair in fifteen thousand. **labelkit never builds the
# table.** An IoU of 0.4 limits how far two centres may be apart. So for each object and each level there is a small
# window of cells that can matter, and its pairs are the only ones to be evaluated. The four questions stay the same.
# They are asked of a list of pairs instead of a table: the three vectors of exercise 04.4.
#
# It is worth nothing if it isn't exact. On a tile, where the table is small, both ways must find the same pairs with
# the same values.

# %%
for _, target in trees:
    table = iou(net.boxes[:, None], target["boxes"])
    prior, gt = (table >= 0.4).nonzero(as_tuple=True)
    sparse = plausible(net, target["boxes"], iou, 0.4)
    order = (sparse.prior * table.shape[1] + sparse.gt).argsort()
    assert torch.equal(sparse.prior[order], prior) and torch.equal(sparse.gt[order], gt)
    assert torch.equal(sparse.value[order], table[prior, gt])

# %% [markdown]
# So the whole photograph takes a moment, and a batch is no special case: the objects of all images stand in one list.

# %% tags=["nbval-check-output"]
answer = no_fallback(big_picture, {"boxes": all_crowns})
batch = no_fallback(net, [target for _, target in trees])
print(answer)
print(batch)
assert int(answer.positive.sum()) == 13_985 and batch.gt.shape == (len(trees), len(net))
assert all(torch.equal(batch[i].gt, no_fallback(net, target).gt) for i, (_, target) in enumerate(trees))

# %% [markdown]
# ## The card
#
# | | assigning labels |
# |---|---|
# | takes | priors, objects; dynamic methods also the predictions |
# | returns | for each prior: an object, negative, or ignored; soft methods also a target and a weight |
# | decides | what the network is asked to learn |
# | cost | the whole table is priors × objects; from IoU 0.4 on, 15,000 times fewer pairs matter |
# | breaks | quality falls as positives grow; twins get opposite labels; the order of a file decides |
#
# **Next.** Chapter 5 builds the first row of the table, RetinaNet's rule, with all its corners: the band, the objects
# that nothing fits, and who pays for the fallback.
#
# ## Recap
#
# - Positives learn a class and a box, negatives learn "nothing here", ignored priors learn nothing.
# - More positives means lower IoU, more of them outside, more contested. Fewer means twins with opposite labels.
# - The imbalance is no constant: 36, 73 or 2,052 negatives for each positive in three kinds of pictures.
# - Focal loss multiplies cross entropy by $(1 - p_t)^\gamma$; it needs a first score of 0.01, and is divided by the
#   number of positives.
# - Every method answers four questions: who may match, how well, who is chosen, who wins.
#
# ## Recall
#
# <details><summary>1. A colleague makes every prior with IoU above 0.2 positive, to have more of them. What do you
# expect to see in the labels?</summary>
#
# Positives that overlap their object badly and stand outside it, and many priors wanted by several objects. In a crowd
# the positives merge to a carpet.
# </details>
#
# <details><summary>2. Why does the first training step need a bias of −4.6, although focal loss is in use?</summary>
#
# Focal loss silences *easy* examples. At $p = 0.5$ no example is easy, so half a million negatives push at full
# strength. With $p = 0.01$ they are easy from the first step on.
# </details>
#
# <details><summary>3. ATSS computes a threshold for each object. Static or dynamic?</summary>
#
# Static. It looks at priors and objects only, so the same image gets the same labels in every epoch.
# </details>
#
# ## References
#
# - T.-Y. Lin and others, *Focal Loss for Dense Object Detection*, ICCV 2017, arXiv 1708.02002, sections 3 (imbalance,
#   focal loss, first scores), 4 (RetinaNet) and 5.1 (α and γ).
# - Z. Tian and others, *FCOS*, ICCV 2019, arXiv 1904.01355, section 3.1.
# - S. Zhang and others, *Bridging the Gap Between Anchor-based and Anchor-free Detection* (ATSS), CVPR 2020, arXiv
#   1912.02424, section 3: the labels make the difference.
# - Y. Liu and others, *HAMBox*, CVPR 2020, arXiv 1912.09231; H. Li and others, *Learning from Noisy Anchors*, CVPR
#   2020, arXiv 1912.05086.
# - B. Weinstein and others, the tree crowns: `data/neon_trees/ATTRIBUTION.md`.
