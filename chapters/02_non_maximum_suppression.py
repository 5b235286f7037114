# %% [markdown]
# # 02 · Keep one detection for each object
#
# A detector reports every object several times. This chapter builds the step that keeps one report and drops the
# rest, and measures what that step does to objects of a few pixels, and to objects that stand close together.

# %%
from functools import partial

import torch
from torchvision import ops

import labelkit_course as course
from labelkit import datasets, plot
from labelkit.boxes import area, centers
from labelkit.evaluation import evaluate
from labelkit.nms import nms, soft_nms
from labelkit.similarity import iou, nwd


# %%
def shaken(boxes, sigma, copies, generator):
    """`copies` detections of every box, each side off by `sigma` px; a random score each; the box they came from."""
    source = torch.arange(len(boxes)).repeat_interleave(copies)
    detections = boxes[source] + sigma * torch.randn(len(source), 4, generator=generator)
    detections[:, :2] = torch.minimum(detections[:, :2], detections[:, 2:] - 1)
    return detections, torch.rand(len(source), generator=generator), source

trees = datasets.neon_trees("test", fold=None)
crowns = [target["boxes"].as_subclass(torch.Tensor) for target in trees.targets]
photo, tile = trees[32][0], crowns[32]
detections, scores, source = shaken(tile, 1.0, 5, torch.Generator().manual_seed(0))

# %%
fig, axes = plot.figure(2, width=4.6, height=4.6)
plot.scene(axes[0], photo, tile, title=f"{len(tile)} crowns, drawn by people")
plot.scene(axes[1], photo, title=f"{len(detections)} detections")
plot.boxes(axes[1], detections, "prediction")
plot.show(fig, alt=(
    "Left, an aerial photograph with 32 boxes around tree crowns. Right, the same photograph with 160 boxes, five "
    "slightly different ones around each crown."))
assert (len(tile), len(detections)) == (32, 160)

# %% [markdown]
# On the right, five detections lie on every crown. We made them ourselves, from the true boxes and one pixel of
# noise, so that we know of each box which crown it belongs to. Each also has a **score**: how sure the detector is
# that an object is here. Ours are drawn by lot. A real detector gives the same picture, for a
# reason that chapter 4 explains: neighbouring places of the image are all trained to report the same object.
#
# **You will be able to**
# - build greedy non-maximum suppression, and say what happens to a box that meets the threshold exactly;
# - suppress within classes only, and say when the usual trick for that goes wrong;
# - build soft suppression, and say what it keeps that the greedy one loses;
# - measure, for a set of annotations, what suppression must lose at a given threshold;
# - predict which objects are lost, and which stay doubled, when the threshold changes.
#
# **You need** chapter 1. About 60 minutes to read and solve, and some 20 seconds of CPU.
#
# ## The question
#
# There are 32 crowns, so why not keep the 32 best scores? Or all above some score?

# %% tags=["nbval-check-output"]
top = scores.argsort(descending=True)[: len(tile)]
found = source[top].unique()
print(f"the best {len(top)} scores show {len(found)} crowns; {len(tile) - len(found)} are lost, "
      f"{len(top) - len(found)} detections are doubles")
assert len(found) < 26

# %%
limits = torch.linspace(0, 1, 51)
lost, doubles = [], []
for limit in limits:
    shown = source[scores >= limit].bincount(minlength=len(tile))
    lost.append((shown == 0).sum())
    doubles.append((shown - 1).clamp(min=0).sum())
fig, (ax,) = plot.figure(width=6.4, height=3.2)
plot.curves(ax, limits, {"crowns lost": lost, "doubles": doubles}, xlabel="score threshold", ylabel="count")
plot.show(fig, alt=(
    "Crowns lost and doubled detections against the score threshold. Doubles fall from 128 to 0, lost crowns rise "
    "from 0 to 32; at no threshold are both zero."))
assert all(a + b > 0 for a, b in zip(lost, doubles, strict=True))

# %% [markdown]
# No score threshold works. A score says how sure the detector is that *some* object is here. It says nothing about
# whether another box already reports the same one. That question is about two boxes, and chapter 1 gave us the
# number for it.
#
# ## The idea: the best box speaks for its neighbourhood
#
# 1. Take the box with the highest score. Keep it.
# 2. Strike out every box that overlaps it too much: those report the same object.
# 3. Go on with what is left, until nothing is left.
#
# Here are the steps on two objects and five boxes. The number at a box is its score.

# %%
five = torch.tensor([[18.0, 20, 76, 90], [10, 32, 68, 92], [63, 48, 119, 112], [80, 38, 118, 104], [32, 28, 82, 94]])
marks = torch.tensor([0.9, 0.6, 0.8, 0.5, 0.7])
steps = (("take 0.9, strike out two", [0], [1, 4]), ("take 0.8, strike out one", [0, 2], [3]), ("kept", [0, 2], []))
fig, axes = plot.figure(3, width=3.2, height=3.6)
for ax, (title, kept, struck) in zip(axes, steps, strict=True):
    plot.scene(ax, (128, 128), title=title)
    left = [i for i in range(5) if i not in kept + struck] if "take 0.9" in title else []
    for role, which in (("good", kept), ("ignored", struck), ("prediction", left)):
        plot.boxes(ax, five[which], role, labels=[f"{marks[i]:.1f}" for i in which])
plot.legend(axes[1], good="kept", ignored="struck out", prediction="still in play")
plot.show(fig, alt=(
    "Five boxes on two objects. First the box of score 0.9 is kept and two boxes that overlap it are struck out; "
    "then the box of score 0.8 is kept and one is struck out; two boxes remain."))

# %% [markdown]
# As a definition it is one sentence. Walk through the boxes by falling score, and keep a box unless an *already
# kept* box overlaps it by more than the threshold $t$:
#
# $$b_i \text{ is kept} \iff \text{IoU}(b_k, b_i) \le t \ \text{ for every kept } b_k \text{ with a higher score}$$
#
# The method is called greedy, since a box that is kept is never reconsidered.

# %%
def greedy(boxes, scores, threshold):
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all(iou(boxes[k], boxes[i]) <= threshold for k in kept):
            kept.append(i)
    return kept

assert greedy(five, marks, 0.5) == [0, 2]
assert greedy(five, marks, 1.0) == [0, 2, 4, 1, 3]

# %% [markdown]
# The words "already kept" carry weight. In the next picture A overlaps B, B overlaps C, and A and C do not meet.
# A strikes out B. Once B is gone, nothing speaks against C. **A box that was struck out strikes out nothing.**

# %%
chain = torch.tensor([[10.0, 40, 60, 90], [35, 40, 85, 90], [62, 40, 112, 90]])
rank = torch.tensor([0.9, 0.8, 0.7])
fig, axes = plot.figure(2)
for ax, kept in zip(axes, ([], greedy(chain, rank, 0.2)), strict=True):
    plot.scene(ax, (128, 128), title="kept: A and C" if kept else "three boxes")
    plot.boxes(ax, chain[kept or [0, 1, 2]], "good" if kept else "prediction",
               labels=[f"{'ABC'[i]} {rank[i]:.1f}" for i in kept or range(3)])
plot.show(fig, alt=(
    "Three boxes in a row, each overlapping the next. Suppression keeps the first and the third."))
assert greedy(chain, rank, 0.2) == [0, 2]
assert iou(chain[1], chain[2]) > 0.2

# %% [markdown]
# ### Exercise 02.1: strike out
# *Difficulty 2 of 5, 15 minutes.*
#
# The function above calls `iou` once a pair. Write the form of the three steps: one call of `iou` for each box you
# keep, against all boxes that are still in play. Return the indices of the kept boxes as an int64 tensor, by
# falling score; among equal scores the lower index comes first.

# %%
def my_nms(boxes, scores, threshold):
    """Indices of the boxes [N, 4] that greedy suppression keeps, by falling score: int64 [K]."""
    # BEGIN SOLUTION 02.1
    rest = scores.argsort(descending=True, stable=True)
    kept = [rest[:0]]
    while len(rest):
        best, rest = rest[:1], rest[1:]
        kept.append(best)
        rest = rest[iou(boxes[best], boxes[rest]) <= threshold]
    return torch.cat(kept)
    # END SOLUTION

# %%
course.check("02.1", my_nms)

# %% [markdown]
# labelkit's `nms` is this loop, with checks at the door, any similarity in place of IoU, and classes. It compares
# one kept box with the boxes still in play, so its memory grows with the number of boxes, not with its square.
# For plain IoU torchvision has the same rule in compiled code. All three agree:

# %%
def random_detections(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(2, count, 2, generator=generator) * 100
    order = torch.randperm(count, generator=generator)  # no two scores are equal
    return torch.cat([corner, corner + size / 2 + 4], dim=1), order / count, order % 3

for seed, threshold in enumerate((0.2, 0.5, 0.7)):
    boxes, marks, _ = random_detections(100, seed)
    kept = nms(boxes, marks, threshold)
    assert torch.equal(kept, ops.nms(boxes, marks, threshold))
    assert nms(boxes[:25], marks[:25], threshold).tolist() == greedy(boxes[:25], marks[:25], threshold)

# %% tags=["nbval-check-output"]
kept = nms(detections, scores, 0.5)
shown = source[kept].bincount(minlength=len(tile))
print(f"{len(detections)} detections, {len(kept)} kept: {(shown == 0).sum()} crowns lost, "
      f"{(shown - 1).clamp(min=0).sum()} doubles")
assert (shown > 0).all() and len(kept) < 60

# %%
small = shown > 1
fig, (ax,) = plot.figure(width=5.4, height=5.4)
plot.scene(ax, photo, title="kept at threshold 0.5")
plot.boxes(ax, detections[kept][~small[source[kept]]], "good")
plot.boxes(ax, detections[kept][small[source[kept]]], "prediction")
plot.legend(ax, good="the only one of its crown", prediction="crown reported twice or more")
plot.show(fig, alt=(
    "The photograph with the kept detections: one on 17 crowns, two or three on the other 15, which are "
    "smaller."))
assert small.sum() == 15 and area(tile[small]).sqrt().mean() < area(tile).sqrt().mean()

# %% [markdown]
# No crown is lost, and of 128 doubles 22 are left. Look at where those are. We come back to them.
#
# ## More than, or at least?
#
# What happens when the overlap *equals* the threshold? The text of R-CNN, which made the method common in deep
# learning, rejects a box whose overlap is "larger than" the threshold (Girshick 2014, section 2.2). The Soft-NMS
# paper writes it down with "at least" (Bodla 2017, section 3). The code that everyone runs uses *more than*:

# %% tags=["nbval-check-output"]
half = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])  # the second is one half of the first
two = torch.tensor([0.9, 0.8])
print("IoU", iou(half[0], half[1]).item())
print("torchvision keeps", ops.nms(half, two, 0.5).tolist(), " labelkit keeps", nms(half, two, 0.5).tolist())
assert nms(half, two, 0.5).tolist() == ops.nms(half, two, 0.5).tolist() == [0, 1]
assert nms(half, two, 0.4999).tolist() == [0]

# %% [markdown]
# With photographs and trained networks this hardly ever matters. With small whole-numbered boxes it does. And with *at
# least*, a threshold of 1 would still remove exact copies. There is a second, stranger tie. Here the IoU is 3/10 and so
# is the threshold:

# %% tags=["nbval-check-output"]
three_tenths = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 3]])
value = iou(three_tenths[0], three_tenths[1])
print(f"IoU as a 32 bit number: {value.item():.10f}")
print("torchvision keeps", ops.nms(three_tenths, two, 0.3).tolist())
print("labelkit keeps   ", nms(three_tenths, two, 0.3).tolist())
assert value.item() > 0.3 and not value > 0.3

# %% [markdown]
# In 32 bits, 3/10 is a little above 0.3. torchvision compares it with the 64 bit number 0.3, and removes the box.
# labelkit compares in the precision of the boxes, where both are the same number, and keeps it. Neither is wrong.
# But if two programs differ in one box of a million, look here first.
#
# ## One class at a time
#
# A rider sits on a horse. Their boxes overlap by more than half, and both are right. Suppression must therefore
# act within a class only.

# %%
rider_and_horse = torch.tensor([[40.0, 12, 88, 100], [36.0, 30, 96, 116], [38.0, 30, 92, 112], [42.0, 16, 90, 98]])
sure, names = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 1, 1, 0])
together, apart = nms(rider_and_horse, sure, 0.5), nms(rider_and_horse, sure, 0.5, labels=names)
fig, axes = plot.figure(3, width=3.2, height=3.4)
panels = (("detections", torch.arange(4)), ("one class", together), ("by class", apart))
for ax, (title, kept) in zip(axes, panels, strict=True):
    plot.scene(ax, (128, 128), title=title)
    for label, role in ((0, "prediction"), (1, "positive")):
        plot.boxes(ax, rider_and_horse[kept[names[kept] == label]], role)
plot.legend(axes[1], prediction="rider", positive="horse")
plot.show(fig, alt=(
    "Two boxes of a rider and two of a horse, overlapping. Suppression without classes keeps one rider only; by "
    "class it keeps one rider and one horse."))
assert together.tolist() == [0] and apart.tolist() == [0, 1]

# %% [markdown]
# The obvious way is a loop over the classes. On a GPU a loop is slow, and there is an old trick without one:
# **move every class to a place of its own**. Add the same number to all four coordinates of a class's boxes, large
# enough that no two classes can meet. Boxes of one class move together, so their IoU stays. Boxes of two classes
# never touch. Then one call does all classes.

# %%
moved = rider_and_horse + (names * 140)[:, None]
fig, (ax,) = plot.figure(width=4.4, height=4.4)
plot.scene(ax, (270, 270), title="class 1 moved by 140 px")
for label, role in ((0, "prediction"), (1, "positive")):
    plot.boxes(ax, moved[names == label], role)
plot.legend(ax, prediction="rider", positive="horse")
plot.show(fig, alt="The horse's boxes are moved away to the lower right, where they touch none of the rider's.")
assert torch.equal(nms(moved, sure, 0.5), apart)

# %% [markdown]
# ### Exercise 02.2: the coordinate trick
# *Difficulty 2 of 5, 10 minutes.*
#
# Write suppression by class with one call of labelkit's `nms`, without its `labels`. How far must one class be
# moved from the next, so that no box of one can reach a box of the other? Boxes may stick out of the image, so
# coordinates may be negative. And there may be no boxes at all.

# %%
def my_nms_by_class(boxes, scores, labels, threshold):
    """Indices kept by suppression within each class; boxes [N, 4], scores [N], labels int64 [N]."""
    # BEGIN SOLUTION 02.2
    if len(boxes) == 0:
        return nms(boxes, scores, threshold)
    step = boxes.max() - boxes.min() + 1
    return nms(boxes + (labels * step)[:, None], scores, threshold)
    # END SOLUTION

# %%
course.check("02.2", my_nms_by_class)

# %%
for seed in range(5):
    boxes, marks, labels = random_detections(100, seed)
    kept = nms(boxes, marks, 0.4, labels=labels)
    assert torch.equal(kept, ops.batched_nms(boxes, marks, labels, 0.4))
    for label in range(3):
        mine = (labels == label).nonzero()[:, 0]
        assert torch.equal(kept[labels[kept] == label], mine[nms(boxes[mine], marks[mine], 0.4)])

# %% [markdown]
# The trick has two weak spots, and code in use today has them. The first: torchvision moves each class by the largest
# coordinate plus one. That is enough while no coordinate is negative.

# %% tags=["nbval-check-output"]
outside = torch.tensor([[-60.0, -60, 20, 20], [-81.0, -81, -1, -1]])
other_class = torch.tensor([0, 1])
print("torchvision keeps", ops.batched_nms(outside, two, other_class, 0.5).tolist())
print("labelkit keeps   ", nms(outside, two, 0.5, labels=other_class).tolist())
assert ops.batched_nms(outside, two, other_class, 0.5).tolist() == [0]
assert nms(outside, two, 0.5, labels=other_class).tolist() == [0, 1]

# %% [markdown]
# The two boxes have different classes, and one is gone. torchvision's own detectors cut boxes at the border of the
# image before this step, so they are safe. Code that calls `batched_nms` on uncut boxes is not.
#
# The second: a 32 bit number has about seven digits. Move a box far away, and its digits after the point are lost.

# %% tags=["nbval-check-output"]
generator = torch.Generator().manual_seed(0)
far = 1202 * 1334.0  # the last of 1203 classes, in an image of 1333 px
for side in (6, 96):
    corner = 20 + 100 * torch.rand(1000, 2, generator=generator)
    boxes = torch.cat([corner, corner + side], dim=1)
    others = shaken(boxes, 1.0, 1, generator)[0]
    change = (iou(boxes, others) - iou(boxes + far, others + far)).abs()
    print(f"side {side:2} px: IoU changes by up to {change.max():.3f}")
    assert change.max() > 0.02 if side == 6 else change.max() < 0.005
assert torch.tensor(far).nextafter(torch.tensor(torch.inf)) - far == 1 / 8

# %% [markdown]
# Far out, coordinates come in steps of an eighth of a pixel. That changes the IoU of small boxes in the second
# digit, and hardly touches large ones. labelkit groups by class and moves nothing.
#
# ## When two true objects overlap
#
# So far, boxes that overlapped much were doubles. In a crowd seen from the side they may be two people.

# %%
people = torch.tensor([[40.0, 24, 66, 104], [47.0, 34, 73, 106], [92.0, 30, 116, 104]])
seen = torch.tensor([[40.0, 23, 67, 105], [47.0, 33, 74, 107], [91.0, 30, 116, 105], [93.0, 40, 117, 103]])
sure = torch.tensor([0.95, 0.85, 0.9, 0.6])
hard = nms(seen, sure, 0.5)
fig, axes = plot.figure(3, width=3.1, height=3.5)
plot.scene(axes[0], (128, 128), people, title="three people")
for ax, which, title in ((axes[1], [0, 1, 2, 3], "four detections"), (axes[2], hard.tolist(), "kept at 0.5")):
    plot.scene(ax, (128, 128), title=title)
    plot.boxes(ax, seen[which], "good" if which == hard.tolist() else "prediction",
               labels=[f"{sure[i]:.2f}" for i in which])
plot.show(fig, alt=(
    "Three people, two of them close together. Four detections: one for each person and a double of the single "
    "one. Greedy suppression at 0.5 removes the double, and also one of the two people."))
assert nms(seen, sure, 0.6).tolist() == [0, 2, 1] and len(nms(seen, sure, 0.8)) == 4
assert hard.tolist() == [0, 2] and round(iou(seen[0], seen[1]).item(), 2) == 0.52

# %% [markdown]
# The double had to go, the second person had to stay. Both overlap a better box by more than 0.5, so the greedy
# rule removes both. At 0.6 the person stays and the double goes, at 0.8 both stay. Which threshold is right depends on
# how close the people stand, and the greedy rule needs one number for all images.
#
# **Soft suppression** refuses to decide (Bodla 2017, section 3). It deletes nothing. It lowers the score of a box
# by as much as it overlaps the one just taken, and goes on with the box that is best *now*. The paper has two
# rules, with $p$ for the score and $s$ for the IoU with the box just taken:
#
# $$\text{linear: } p \leftarrow p\,(1 - s) \ \text{ if } s \ge t
# \qquad\qquad \text{Gaussian: } p \leftarrow p\, e^{-s^2/\sigma}$$

# %%
s = torch.linspace(0, 1, 201)
factors = {
    "greedy, t = 0.3": (s <= 0.3).float(),
    "linear, t = 0.3": torch.where(s >= 0.3, 1 - s, 1),
    "Gaussian, sigma = 0.5": torch.exp(-s * s / 0.5),
}
fig, (ax,) = plot.figure(width=6.4, height=3.3)
plot.curves(ax, s, factors, xlabel="IoU with the box just taken", ylabel="factor on the score")
plot.show(fig, alt=(
    "Factor on the score against IoU. Greedy: 1 up to 0.3, then 0. Linear: a drop at 0.3 to 0.7, then a straight "
    "line to 0. Gaussian: a smooth curve from 1 to 0.14."))

# %% [markdown]
# The linear rule has a jump at $t$, the Gaussian one has none, and no threshold either. It never reaches 0: even
# an exact copy keeps $e^{-2} \approx 14\,\%$ of its score at $\sigma = 0.5$. Here is one step of either rule.

# %%
def decay(overlap, method, threshold=0.3, sigma=0.5):
    if method == "gaussian":
        return torch.exp(-overlap**2 / sigma)
    return torch.where(overlap >= threshold, 1 - overlap, 1)

at = torch.tensor([0.2, 0.3, 1.0])
torch.testing.assert_close(decay(at, "linear"), torch.tensor([1.0, 0.7, 0.0]))
torch.testing.assert_close(decay(at, "gaussian"), torch.tensor([0.9231, 0.8353, 0.1353]), atol=1e-4, rtol=0)

# %% [markdown]
# ### Exercise 02.3: soft suppression
# *Difficulty 3 of 5, 15 minutes.*
#
# Write the Gaussian rule. Take the best box, lower the scores of all boxes *that have not been taken yet*, take the
# best of those, and so on until all are taken. Return the final score of every box, in the order of the input. The
# next box is chosen by the lowered scores, not by the first ones.

# %%
def my_soft_scores(boxes, scores, sigma):
    """Scores [N] after Gaussian soft suppression of boxes [N, 4], in the order of the input."""
    # BEGIN SOLUTION 02.3
    scores = scores.clone()
    rest = torch.arange(len(scores))
    while len(rest):
        best = scores[rest].argmax()
        taken, rest = rest[best], torch.cat([rest[:best], rest[best + 1 :]])
        scores[rest] = scores[rest] * torch.exp(-(iou(boxes[taken], boxes[rest]) ** 2) / sigma)
    return scores
    # END SOLUTION

# %%
course.check("02.3", my_soft_scores)

# %% [markdown]
# labelkit's `soft_nms` returns the kept indices and their new scores; boxes whose score falls below
# `score_threshold` are dropped. mmcv, a widely used library, tests its own code with four boxes and known answers.
# labelkit's must be the same numbers.

# %% tags=["nbval-check-output"]
four = torch.tensor([[6.0, 3, 8, 7], [3, 6, 9, 11], [3, 7, 10, 12], [1, 4, 13, 7]])
given = torch.tensor([0.6, 0.9, 0.7, 0.2])
published = {"linear": [0.9, 0.6, 0.29024392, 0.2], "gaussian": [0.9, 0.59630775, 0.3527551, 0.18650459]}
print("greedy   ", nms(four, given, 0.3).tolist())
for method, expected in published.items():
    order, new = soft_nms(four, given, method=method, sigma=0.5, threshold=0.3, score_threshold=0.01)
    print(f"{method:9}", order.tolist(), [round(value, 4) for value in new.tolist()])
    torch.testing.assert_close(new, torch.tensor(expected))
assert nms(four, given, 0.3).tolist() == [1, 0, 3]

# %% [markdown]
# The greedy rule deleted box 2. Both soft rules keep it, with a score of 0.29 or 0.35 instead of 0.7. Now the
# three people:

# %% tags=["nbval-check-output"]
for method in ("linear", "gaussian"):
    order, new = soft_nms(seen, sure, method=method)
    after = dict(zip(order.tolist(), new.tolist(), strict=True))
    print(f"{method:8}  second person {sure[1]:.2f} -> {after[1]:.2f}   double {sure[3]:.2f} -> {after[3]:.2f}")
    assert after[1] > 2 * after[3]

# %% [markdown]
# The second person survives, above the double. That is all it promises: the order of the list is better, and
# whoever uses the list still needs a score threshold. The double is there too, at a low score. Average precision,
# which chapter 7 explains, forgives doubles at the end of the list. A counter of people does not.
#
# ## What must a perfect detector lose?
#
# Take a detector without any fault: it reports every true box once, exactly. Greedy suppression then compares true
# boxes with each other, and every pair with an IoU above the threshold loses a member. So the annotations alone
# say what must be lost. For our 42 tiles of forest:

# %% tags=["nbval-check-output"]
def neighbours(boxes):
    """IoU of all pairs of boxes that overlap at all."""
    table = iou(boxes[:, None], boxes).triu(diagonal=1)
    return table[table > 0]

overlaps = torch.cat([neighbours(boxes) for boxes in crowns])
print(f"{sum(map(len, crowns))} crowns, {len(overlaps)} pairs overlap, the closest with IoU {overlaps.max():.2f}")
print(f"pairs above 0.3: {(overlaps > 0.3).sum()}, above 0.5: {(overlaps > 0.5).sum()}")
assert len(overlaps) == 183 and overlaps.max() < 0.2

# %% [markdown]
# **None.** Of 183 overlapping pairs not one reaches even 0.2. A perfect detector loses nothing here, at
# any usual threshold. Seen from above, objects stand beside each other, not in front of each other, and the
# annotators drew the boxes edge to edge. We expected a loss, and the data say no. A rule of thumb that is true for
# people on a street may be false for your images: measure it, it takes three lines.
#
# How much denser would the forest have to be? We push the crowns together: the centres move closer by a factor, the
# sizes stay. This is an experiment with real sizes and real arrangement, but no longer a real forest.

# %%
def squeeze(boxes, factor):
    return boxes + (centers(boxes) * (factor - 1)).repeat(1, 2)

fig, axes = plot.figure(3, width=3.4, height=3.7)
for ax, factor in zip(axes, (1, 0.5, 0.3), strict=True):
    boxes = squeeze(tile, factor)
    plot.scene(ax, (int(128 * factor), int(128 * factor)), title=f"density × {1 / factor**2:.0f}")
    plot.boxes(ax, boxes, "gt")
plot.show(fig, alt=(
    "The boxes of one tile at their real places, pushed together to four times the density, and to eleven times: "
    "there most boxes overlap several others."))

# %% tags=["nbval-check-output"]
print("density   overlapping   pairs with IoU above    lost by a perfect detector at")
print("               pairs        0.3      0.5              0.3      0.5")
perfect = {}
for factor in (1, 0.7, 0.6, 0.5, 0.4, 0.3):
    generator = torch.Generator().manual_seed(0)
    dense = [squeeze(boxes, factor) for boxes in crowns if len(boxes)]
    overlaps = torch.cat([neighbours(boxes) for boxes in dense])
    rank = [torch.rand(len(boxes), generator=generator) for boxes in dense]
    above = [(overlaps > t).float().mean().item() for t in (0.3, 0.5)]
    kept = [sum(len(nms(b, r, t)) for b, r in zip(dense, rank, strict=True)) for t in (0.3, 0.5)]
    perfect[factor] = [1 - count / sum(map(len, dense)) for count in kept]
    print(f"  × {1 / factor**2:4.1f}  {len(overlaps):10}   {above[0]:9.1%}  {above[1]:7.1%}      "
          f"{perfect[factor][0]:10.1%}  {perfect[factor][1]:7.1%}")
assert perfect[1] == perfect[0.7] == [0, 0] and perfect[0.5][1] == 0
assert 0.03 < perfect[0.5][0] < 0.07 and 0.35 < perfect[0.3][0] < 0.46 and perfect[0.3][1] < 0.05

# %% [markdown]
# The loss comes late and then fast. At four times the density, a threshold of 0.3 loses one crown in twenty. At
# eleven times it loses 40 %, of a detector that made no mistake. The threshold 0.5 loses almost nothing even
# there. IoU is strict, and two boxes of different size rarely reach 0.5 by accident.
#
# So why not take a high threshold and be done? Because detectors are not perfect.
#
# ## Small boxes tremble
#
# A detection is off by a pixel or two. Chapter 1 showed what that does to the IoU with the *true* box. Suppression
# compares two detections, and both are off. Take many pairs of detections of the same object, each side off by
# 1.5 px (standard deviation), and look at their IoU.

# %% tags=["nbval-check-output"]
generator = torch.Generator().manual_seed(0)
agreement = {}
print("  side   median IoU of two detections   share of pairs at or below 0.5")
for side in (6, 8, 12, 16, 32, 64):
    one = torch.tensor([[0.0, 0, side, side]]).expand(20_000, 4)
    first, second = (shaken(one, 1.5, 1, generator)[0] for _ in range(2))
    agreement[side] = iou(first, second)
    doubled = (agreement[side] <= 0.5).float().mean().item()
    print(f"{side:3} px   {agreement[side].median():27.2f}   {doubled:30.0%}")
assert (agreement[8] <= 0.5).float().mean() > 0.6 > 0.01 > (agreement[32] <= 0.5).float().mean()

# %%
fig, (ax,) = plot.figure(width=6.4, height=3.3)
levels = torch.linspace(0, 1, 101)
lines = {f"{side} px": [(agreement[side] <= level).float().mean() for level in levels] for side in (6, 8, 16, 32)}
plot.curves(ax, levels, lines, xlabel="suppression threshold", ylabel="share of pairs that both stay")
plot.show(fig, alt=(
    "Share of pairs of detections of one object that suppression leaves doubled, against the threshold, for objects "
    "of 6, 8, 16 and 32 px. At 0.5 about four of five pairs at 6 px stay, hardly any at 32 px."))

# %% [markdown]
# Read the curves at 0.5. Two detections of one object of 32 px almost always overlap by more, and the worse one is
# struck out. Of an object of 8 px most pairs don't, and **both stay**. Suppression can't tell a trembling double
# from a neighbour. For it, they are two objects.
#
# ### Exercise 02.4: count what went wrong
# *Difficulty 2 of 5, 10 minutes.*
#
# To compare thresholds we need two counts. `source` says for every kept detection which object it reports: an index
# from 0 to `num_objects - 1`, or −1 for a false alarm. An object is *lost* if nobody reports it. Every report of an
# object after its first is one *double*. Count both; false alarms count for neither.

# %%
def my_lost_and_doubles(source, num_objects):
    """(objects without a detection, detections beyond the first of their object), as two ints."""
    # BEGIN SOLUTION 02.4
    reports = torch.bincount(source[source >= 0], minlength=num_objects)
    lost = (reports == 0).sum()
    doubles = (reports - 1).clamp(min=0).sum()
    return int(lost), int(doubles)
    # END SOLUTION

# %%
course.check("02.4", my_lost_and_doubles)

# %% [markdown]
# ## The experiment: one knob
#
# Now both troubles together. Five detections a crown, off by 1.5 px, at the real density and at four times that.
# The knob is the threshold. For each size we count lost crowns, and doubles for each crown.

# %%
SIZES = {"under 8 px": (0, 8), "8 to 16 px": (8, 16), "16 px and more": (16, 1000)}
sides = torch.cat([area(boxes).sqrt() for boxes in crowns])

def run(factor, threshold, suppress=ops.nms):
    """For every crown of the 42 tiles: how many of its five detections are kept."""
    generator, counts = torch.Generator().manual_seed(0), []
    for boxes in crowns:
        found, score, source = shaken(squeeze(boxes, factor), 1.5, 5, generator)
        kept = suppress(found, score, threshold)
        counts.append(source[kept].bincount(minlength=len(boxes)))
    return torch.cat(counts)

thresholds = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
reports = {(factor, t): run(factor, t) for factor in (1, 0.5) for t in thresholds}

# %% tags=["nbval-check-output"]
lost, doubles = {}, {}
for (factor, t), count in reports.items():
    for name, (low, high) in SIZES.items():
        here = count[(sides >= low) & (sides < high)]
        lost[factor, t, name] = (here == 0).float().mean().item()
        doubles[factor, t, name] = (here - 1).clamp(min=0).float().mean().item()
print(" " * 20 + "".join(f"{name:>17}" for name in SIZES) + "      lost / doubles a crown")
for factor in (1, 0.5):
    for t in thresholds:
        cells = (f"{lost[factor, t, name]:7.0%} / {doubles[factor, t, name]:.1f}" for name in SIZES)
        print(f"density × {1 / factor**2:.0f}, t = {t}" + "".join(f"{cell:>17}" for cell in cells))
tiny, *_, large = SIZES
assert doubles[1, 0.5, tiny] > 2.4 and doubles[1, 0.5, large] < 0.2 and lost[1, 0.5, tiny] == 0
assert lost[0.5, 0.1, large] > 0.3 and lost[0.5, 0.5, large] == 0
assert lost[0.5, 0.4, large] == 0 and doubles[0.5, 0.4, large] < 0.05 and 1.8 < doubles[0.5, 0.4, tiny] < 2

# %%
fig, axes = plot.figure(2, width=4.4, height=3.4)
at_four = {name: [lost[0.5, t, name] for t in thresholds] for name in SIZES}
plot.curves(axes[0], thresholds, at_four, xlabel="threshold", ylabel="share of crowns lost")
at_four = {name: [doubles[0.5, t, name] for t in thresholds] for name in SIZES}
plot.curves(axes[1], thresholds, at_four, xlabel="threshold", ylabel="doubles a crown")
axes[0].set_title("lost, density × 4")
axes[1].set_title("doubles, density × 4")
plot.show(fig, alt=(
    "Two panels at four times the density. Lost crowns fall from up to 44 percent at threshold 0.1 to none at 0.4. "
    "Doubles rise with the threshold: for crowns under 8 px from the start, for those of 16 px and more only from "
    "0.6 on."))

# %% [markdown]
# Two results, and the second is the surprising one.
#
# 1. **No threshold suits all sizes.** For crowns of 16 px and more, 0.4 is perfect at four times the density:
#    nothing lost, hardly a double. At the same 0.4, crowns under 8 px keep about two doubles each.
# 2. **What small objects suffer from is not lost neighbours. It is doubles.** At a low threshold the *large* crowns
#    lose more neighbours, and from 0.3 on nobody loses much. We built this experiment to show the opposite.
#
# ### In average precision
#
# Doubles cost, since each of them is a false alarm. The next cell asks the usual measure, AP at IoU 0.5 (1 is
# perfect, chapter 7), by size, at the real density.

# %%
generator = torch.Generator().manual_seed(0)
truths = [{"boxes": boxes, "labels": torch.zeros(len(boxes), dtype=torch.int64)} for boxes in crowns]
raw = [shaken(boxes, 1.5, 5, generator)[:2] for boxes in crowns]

def average_precision(suppress):
    found = []
    for boxes, score in raw:
        kept, new = suppress(boxes, score)
        found.append({"boxes": boxes[kept], "scores": new, "labels": torch.zeros(len(kept), dtype=torch.int64)})
    result = evaluate(found, truths)
    return [result[key] for key in ("AP50_0-8", "AP50_8-16", "AP50_16+", "AP50")]

def at_threshold(boxes, score, threshold):
    kept = nms(boxes, score, threshold)
    return kept, score[kept]

# %% tags=["nbval-check-output"]
rules = {f"greedy, {t}": partial(at_threshold, threshold=t) for t in (0.3, 0.5, 0.7)}
rules["soft, Gaussian"] = partial(soft_nms, method="gaussian")
precision = {name: average_precision(rule) for name, rule in rules.items()}
print("AP at IoU 0.5      under 8   8 to 16   16 up     all")
for name, values in precision.items():
    print(f"{name:16}" + "".join(f"{100 * value:9.0f}" for value in values))
assert precision["greedy, 0.5"][0] > precision["greedy, 0.3"][0] + 0.02
assert precision["greedy, 0.3"][1] > precision["greedy, 0.5"][1] + 0.01
assert all(precision["soft, Gaussian"][3] > precision[name][3] + 0.01 for name in list(rules)[:3])

# %% [markdown]
# Small crowns want the higher threshold here, although it leaves doubles: among five trembling boxes perhaps one is
# good enough to count, and a low threshold may strike out that one in favour of a worse box with a higher score.
# Medium crowns want the lower one. Soft suppression, which strikes out none, is ahead over all sizes. Our scores are
# drawn by lot and know nothing of the quality of a box. With a trained detector the gap may be smaller.
#
# ### Another number instead of IoU?
#
# Suppression works with any similarity. The NWD of chapter 17 looks at distances in pixels, so that two trembling
# boxes of 8 px still count as equal. It removes the doubles. Look at the price:

# %% tags=["nbval-check-output"]
by_distance = partial(nms, similarity=partial(nwd, constant=12.8))
no_noise = [len(by_distance(boxes, torch.rand(len(boxes), generator=generator), 0.5)) for boxes in crowns]
with_nwd = run(1, 0.5, by_distance)
tiny_crowns = sides < 8
print(f"doubles a crown under 8 px: {(with_nwd[tiny_crowns] - 1).clamp(min=0).float().mean():.1f} "
      f"(IoU: {doubles[1, 0.5, tiny]:.1f})")
print(f"lost crowns under 8 px:     {(with_nwd[tiny_crowns] == 0).float().mean():.0%} (IoU: {lost[1, 0.5, tiny]:.0%})")
print(f"a perfect detector loses {1 - sum(no_noise) / len(sides):.0%} of all crowns (IoU: 0%)")
assert 1 - sum(no_noise) / len(sides) > 0.03 and (with_nwd[tiny_crowns] == 0).float().mean() > 0.05
assert round(nwd(torch.tensor([0.0, 0, 6, 6]), torch.tensor([8.0, 0, 14, 6]), constant=12.8).item(), 2) == 0.54

# %% [markdown]
# Here are the lost neighbours, in the real forest, among the smallest crowns. A similarity that forgives a few
# pixels can't see that two objects of 6 px, 8 px apart, are two: their NWD is 0.54, above the threshold. **To be
# lenient with trembling is to be blind to neighbours.**
#
# ## The card
#
# | | greedy | soft |
# |---|---|---|
# | who may match | detections of one class | the same |
# | how well | IoU, or any similarity, with a kept box | the same |
# | who is chosen | the highest score | the highest score *now* |
# | who wins | a kept box removes all above the threshold | a taken box lowers the scores of the rest |
# | cost | one row of similarities a kept box | one row a box |
# | breaks | true neighbours above the threshold; doubles of small objects below it | leaves a long tail of low scores |
#
# Read the left column again in chapter 4. Its four questions are those of label assignment: there priors are
# matched with true boxes, here detections with detections.
#
# **Next.** Where do the five detections come from? A detector starts from thousands of fixed boxes or points, and
# corrects them. Chapter 3 builds those.
#
# ## Recap
#
# - Keep the best box, strike out what overlaps it by *more than* the threshold, repeat. Struck out boxes strike out
#   nothing.
# - Suppress within a class. The coordinate trick does it in one call; it needs a distance that covers negative
#   coordinates, and it costs digits.
# - Soft suppression lowers scores instead. It rescues neighbours and leaves doubles at the end of the list.
# - What a perfect detector must lose can be read from the annotations. On our crowns: nothing, even at
#   twice their density.
# - Small boxes tremble, so their doubles survive. No IoU threshold serves 6 px and 32 px at once.
#
# ## Recall
#
# <details><summary>1. A overlaps B by 0.6, B overlaps C by 0.6, A and C by 0.2. Scores fall from A to C. What does
# greedy suppression keep at 0.5?</summary>
#
# A and C. A strikes out B, and a box that is struck out strikes out nothing.
# </details>
#
# <details><summary>2. An exact copy of a detection, and Gaussian soft suppression with sigma 0.5. What happens to the
# copy?</summary>
#
# Its score is multiplied by exp(−1 / 0.5), about 0.14. It stays in the list, near its end.
# </details>
#
# <details><summary>3. Your detector reports small objects twice. Should you lower the threshold?</summary>
#
# That removes doubles, of small objects last, since their detections overlap least. It also loses neighbours where
# objects stand close, the large ones first. Measure both on your own boxes; soft suppression, or a better
# localisation, may be the better cure.
# </details>
#
# ## References
#
# - R. Girshick and others, *Rich Feature Hierarchies for Accurate Object Detection and Semantic Segmentation*, CVPR
#   2014, arXiv 1311.2524, section 2.2: greedy suppression for each class.
# - N. Bodla and others, *Soft-NMS: Improving Object Detection With One Line of Code*, ICCV 2017, arXiv 1704.04503,
#   section 3: both soft rules.
# - J. Wang and others, *A Normalized Gaussian Wasserstein Distance for Tiny Object Detection*, 2021, arXiv
#   2110.13389: NWD, also for suppression.
# - B. Weinstein and others, the tree crowns: `data/neon_trees/ATTRIBUTION.md`.
