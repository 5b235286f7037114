# %% [markdown]
# # 01 · Measure how well two boxes agree
#
# A detector draws a box, a person drew another. This chapter builds the number that says how well they agree, and
# shows on which objects that number is strict, and on which it is merciless.

# %%
import torch
from torchvision import ops

import labelkit_course as course
from labelkit import datasets, plot
from labelkit.boxes import area, check_boxes
from labelkit.similarity import ciou, diou, giou, iou

# %%
big, small = torch.tensor([28.0, 28, 100, 100]), torch.tensor([60.0, 60, 68, 68])
off_by_four = torch.tensor([4.0, 4, 4, 4])

fig, axes = plot.figure(2)
for ax, box, title in zip(axes, (big, small), ("an object of 72 px", "an object of 8 px"), strict=True):
    plot.scene(ax, (128, 128), box, title=title)
    plot.boxes(ax, box + off_by_four, "prediction", fill=True)
    plot.legend(ax, "gt", "prediction")
plot.show(fig, alt=(
    "Two panels. Both predictions lie 4 px right of and 4 px below the true box. The one of "
    "72 px still covers nearly all of its object, the one of 8 px only a quarter."))

# %% [markdown]
# Both predictions are wrong by the same four pixels. You would accept the left one, and not the right one.
#
# **You will be able to**
# - read a box in the three usual formats, and see when a program reads it in the wrong one;
# - build IoU from intersection and union, and say what each step guards against;
# - build GIoU, and say what it adds for boxes that do not meet;
# - tell how many pixels an object of a given size may be off before IoU drops below a threshold.
#
# **You need** Python and a little PyTorch. About 60 minutes to read and solve, and a few seconds of CPU.
#
# Every claim in the text stands next to the code that shows it. The `assert` lines are part of the course: if a
# number in a sentence were wrong, the cell would stop. Change a number and run the cell again to see what
# happens.
#
# ## The question
#
# The first idea is to measure the error in pixels: how far is each side from where it should be?

# %% tags=["nbval-check-output"]
def side_error(a, b):
    return (a - b).abs().mean()

for name, box in {"72 px": big, "8 px": small}.items():
    print(f"{name:>6}: the sides are off by {side_error(box, box + off_by_four):.1f} px")
assert side_error(big, big + off_by_four) == side_error(small, small + off_by_four) == 4

# %% [markdown]
# Four pixels, twice. The number does not see what you see. Dividing by the size would help, but by which one:
# width or height, of which of the two boxes? And four errors for four sides still have to become one number.
#
# We want a number that is 1 for a perfect box and 0 for a useless one, whatever the size of the object. **Which
# share of the two boxes do they have in common?** That is the idea of this chapter. First, though, we have to
# agree on what a box is.
#
# ## A box is four numbers
#
# There are three common ways to choose the four. The picture shows one box and its three descriptions.

# %%
box = torch.tensor([30.0, 40, 100, 90])
titles = ("xyxy: two corners", "xywh: corner and size", "cxcywh: centre and size")
marked = ([(30, 40), (100, 90)], [(30, 40)], [(65, 65)])
fig, axes = plot.figure(3, width=3.3, height=3.5)
for ax, title, places in zip(axes, titles, marked, strict=True):
    plot.scene(ax, (128, 128), box, title=title)
    plot.points(ax, places, "good")
    for x, y in places:
        ax.text(x, y - 6 if y < 90 else y + 12, f"({x}, {y})", ha="center")
for ax in axes[1:]:
    plot.dimension(ax, (30, 112), (100, 112), "w = 70")
    plot.dimension(ax, (106, 40), (106, 90), "h =\n50")
plot.show(fig, alt=(
    "One box three times: by its corners (30, 40) and (100, 90); by the corner (30, 40) with "
    "width 70 and height 50; by the centre (65, 65) with the same width and height."))

# %% [markdown]
# - **xyxy**: left, top, right, bottom. torchvision and labelkit use it.
# - **xywh**: left, top, width, height. COCO's annotation files use it.
# - **cxcywh**: centre x, centre y, width, height. Convenient for learning: chapter 3 uses it.
#
# `y` grows downwards, as in image files. So "top" is the smaller `y`.
#
# Nothing in the four numbers says which format they are in. A tensor of the wrong format has the right shape and
# the right type. Here is one tensor, read in the three ways:

# %%
four = torch.tensor([[40.0, 30, 60, 50]])
fig, axes = plot.figure(3, width=3.3, height=3.5)
areas = []
for ax, form in zip(axes, ("xyxy", "xywh", "cxcywh"), strict=True):
    read = ops.box_convert(four, form, "xyxy")
    areas.append(area(read).item())
    plot.scene(ax, (128, 128), title=f"read as {form}: {areas[-1]:.0f} square px")
    plot.boxes(ax, read, "prediction", fill=True)
plot.show(fig, alt=(
    "The numbers 40, 30, 60, 50 read as xyxy give a box of 20 by 20; read as xywh one of 60 "
    "by 50; read as cxcywh one of the same size around another place."))
assert areas == [400, 3000, 3000]

# %% [markdown]
# Three different boxes, no error, no warning. The same mistake in a training run shows up as a detector that
# learns nothing, days later. So convert once, when the data is read, and draw a few boxes on their image before
# you train.
#
# Converting is arithmetic on columns. This is xywh to xyxy.
#
# Two idioms will come back in every chapter. `boxes[..., 0]` takes the first number of every box, however many
# dimensions stand before it. `boxes.unbind(-1)` takes the last dimension apart and gives the four columns at
# once.

# %%
def xywh_to_xyxy(boxes):
    x, y, w, h = boxes.unbind(-1)
    return torch.stack([x, y, x + w, y + h], dim=-1)

assert torch.equal(xywh_to_xyxy(four), ops.box_convert(four, "xywh", "xyxy"))

# %% [markdown]
# ### Exercise 01.1: from the centre to the corners
# *Difficulty 1 of 5, 5 minutes.*
#
# Turn boxes from cxcywh to xyxy. The centre lies in the middle: half of the width is on its left, half on its
# right. The function must work for one box `[4]`, for many `[N, 4]` and for `[B, N, 4]` alike.

# %%
def my_cxcywh_to_xyxy(boxes):
    """Boxes [..., 4] as centre x, centre y, width, height, turned into left, top, right, bottom."""
    # BEGIN SOLUTION 01.1
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)
    # END SOLUTION

# %%
course.check("01.1", my_cxcywh_to_xyxy)

# %% [markdown]
# ### The trap of the extra pixel
#
# How wide is a box from `x1 = 1` to `x2 = 4`? In this course, and in torchvision: `x2 - x1`, three pixels.
# Coordinates are positions of *lines between* the pixels. The left edge of the image is the line 0.
#
# Older code, for instance that of PASCAL VOC and of maskrcnn-benchmark, counts *pixels* instead. There 1 and 4
# are numbers of columns, both columns belong to the box, and its width is `x2 - x1 + 1`, four pixels.

# %%
fig, axes = plot.figure(2, width=3.6, height=2.9)
for ax, right in zip(axes, (4, 5), strict=True):
    plot.scene(ax, (4, 7), title=f"{right - 1} pixels wide")
    ax.vlines(range(8), 0, 4, color=plot.FAINT)
    ax.hlines(range(5), 0, 7, color=plot.FAINT)
    ax.set_yticks([])
    plot.boxes(ax, [[1, 1, right, 3]], "prediction", fill=True)
axes[0].set_xticks(range(8))
axes[0].set_xlabel("x counts the lines: x2 − x1")
axes[1].set_xticks([i + 0.5 for i in range(7)], range(7))
axes[1].set_xlabel("x counts the columns: x2 − x1 + 1")
plot.show(fig, alt=(
    "From x = 1 to x = 4 on a grid of pixels. Counting lines, the box is three pixels wide. "
    "Counting columns, it is four pixels wide, because column 4 belongs to it."))

# %% tags=["nbval-check-output"]
sides = torch.tensor([8.0, 32, 128])
too_large = ((sides + 1) / sides) ** 2 - 1
for side, extra in zip(sides.tolist(), too_large.tolist(), strict=True):
    print(f"{side:4.0f} px: one extra pixel in width and height adds {extra:4.0%} to the area")
assert [round(100 * extra) for extra in too_large.tolist()] == [27, 6, 2]

# %% [markdown]
# At 128 px nobody notices the mix-up. At 8 px it adds 27 % to the area, and labels can change. It is the first
# sign of the theme of this course: **a convention that is harmless on large objects decides on small ones.**
#
# ## What two boxes have in common
#
# Start with one dimension. Two segments lie on a line. Their common part begins where the *later* one begins, and
# ends where the *earlier* one ends.

# %%
first = (2, 8)
others = {"overlap": (4, 11), "one inside the other": (3, 6), "apart": (11, 14)}
fig, axes = plot.figure(3, width=3.1, height=2.1)
for ax, (title, second) in zip(axes, others.items(), strict=True):
    start, end = max(first[0], second[0]), min(first[1], second[1])
    part = plot.GREEN if end > start else plot.GREY
    rows = ((2, first, plot.VERMILLION), (1, second, plot.PURPLE), (0, (start, end), part))
    for row, ends, color in rows:
        ax.plot(ends, (row, row), lw=7, color=color, solid_capstyle="butt")
    ax.set(title=f"{title}: {end} − {start} = {end - start}".replace("-", "−"), xlim=(0, 16), ylim=(-0.7, 2.7))
    ax.set_xticks(range(0, 17, 2))
    ax.set_yticks([0, 1, 2], ["both", "b", "a"])
    ax.title.set_size(10)
plot.show(fig, alt=(
    "Segment a from 2 to 8 with three segments b. Overlapping: 4 in common. Inside: 3 in "
    "common. Apart: end minus start is minus 3, the size of the gap."))

# %% tags=["nbval-check-output"]
def overlap(a1, a2, b1, b2):
    return min(a2, b2) - max(a1, b1)

for title, second in others.items():
    print(f"{title:>20}: {overlap(*first, *second):2}")
assert [overlap(*first, *second) for second in others.values()] == [4, 3, -3]

# %% [markdown]
# In the first two panels the green bar is what both have in common. In the third there is nothing in common. The
# "common part" would begin at 11 and end at 8, and its length is negative: it measures the gap. As a length of
# overlap it has to be raised to 0: a guard against negative lengths.
#
# Is that guard needed? A negative overlap is easy to notice. In two dimensions it is not. The intersection is the
# overlap in x times the overlap in y. For two boxes that lie apart in *both* directions, two negative numbers
# multiply to a positive one.

# %%
left_above, right_below = torch.tensor([10.0, 10, 50, 40]), torch.tensor([80.0, 70, 120, 110])
fig, (ax,) = plot.figure(width=3.8, height=3.8)
plot.scene(ax, (128, 128), left_above)
ax.text(30, 26, "a", ha="center")
plot.boxes(ax, right_below, "prediction")
ax.text(100, 90, "b", ha="center")
plot.boxes(ax, [[50, 40, 80, 70]], "ignored", fill=True)
ax.text(65, 55, "−30 · −30\n= 900 ?", ha="center", va="center", fontsize=9)
plot.show(fig, alt=(
    "Box a at the upper left, box b at the lower right. They do not meet. The gap between "
    "their corners is a square of 30 by 30 that code without the guard takes for the "
    "intersection."))

# %% tags=["nbval-check-output"]
gap_x = overlap(10, 50, 80, 120)
gap_y = overlap(10, 40, 70, 110)
print("without the guard:", gap_x * gap_y)
print("with it:          ", max(gap_x, 0) * max(gap_y, 0))
assert (gap_x, gap_y) == (-30, -30)

# %% [markdown]
# So the guard goes on each axis, before the multiplication. After it, the sign is gone, and nothing tells the 900
# from a real overlap. This bug has a second trait that makes it hard to find: it needs boxes that lie apart in
# both directions. On a tidy example with two overlapping boxes, the broken code is right.
#
# ## Intersection over union
#
# The **intersection** is the area that both boxes cover. The **union** is the area that at least one of them
# covers. The larger the share of the intersection in the union, the better they agree.

# %%
a, b = torch.tensor([20.0, 25, 80, 85]), torch.tensor([45.0, 45, 110, 100])
both = torch.tensor([45.0, 45, 80, 85])
fig, axes = plot.figure(2)
for ax, title in zip(axes, ("intersection", "union"), strict=True):
    plot.scene(ax, (128, 128), a, labels=["a"], title=title)
    plot.boxes(ax, b, "prediction", labels=["b"])
plot.boxes(axes[0], both, "good", fill=True)
for part in (a, torch.tensor([80.0, 45, 110, 100]), torch.tensor([45.0, 85, 80, 100])):
    x1, y1, x2, y2 = part.tolist()
    axes[1].fill_between([x1, x2], y1, y2, color=plot.GREEN, alpha=0.22, lw=0)
plot.show(fig, alt=(
    "Two overlapping boxes twice. Left, their common rectangle is filled: the intersection. "
    "Right, everything that either box covers is filled: the union."))

# %% [markdown]
# $$\text{IoU}(a, b) = \frac{|a \cap b|}{|a \cup b|}, \qquad |a \cup b| = |a| + |b| - |a \cap b|$$
#
# The subtraction is needed because $|a| + |b|$ counts the common part twice.
#
# For one pair of boxes this is five lines. The example below can be checked by hand: two squares of side 2, one
# moved by 1 to the right and 1 down. They share one square pixel, and cover 4 + 4 − 1 = 7.

# %%
def iou_of_one_pair(a, b):
    width = max(overlap(a[0], a[2], b[0], b[2]), 0)
    height = max(overlap(a[1], a[3], b[1], b[3]), 0)
    intersection = width * height
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return intersection / (area_a + area_b - intersection)

assert iou_of_one_pair([0, 0, 2, 2], [1, 1, 3, 3]) == 1 / 7
assert iou_of_one_pair([0, 0, 2, 2], [0, 0, 2, 2]) == 1
assert iou_of_one_pair([0, 0, 2, 2], [5, 5, 7, 7]) == 0

# %% [markdown]
# IoU is a pure share: no unit, no scale. Enlarge the image and nothing changes. It is symmetric: it does not
# matter which box is the prediction. It is 1 only for identical boxes, and 0 for boxes that share no area.
#
# Both the intersection and the union matter. A huge box covers every object in the image completely, and yet its IoU
# with each is small, because the union is huge. A tiny box in the middle of an object lies completely inside it, and
# yet its IoU is small, because the intersection is tiny.
#
# Outside of vision it is called the Jaccard index. PASCAL VOC made it the test for "found": a detection counts if
# its IoU with the true box is above 0.5 (Everingham 2010, section 4.2).
#
# A detector needs it for thousands of pairs at once. A Python loop over the pairs would be the slowest part of
# the whole program. A tensor operation does them all in one call. That is your turn.

# %% [markdown]
# ### Exercise 01.2: IoU of many pairs
# *Difficulty 2 of 5, 12 minutes.*
#
# Write IoU for tensors of boxes `[..., 4]`, xyxy, pair by pair: `a[i]` with `b[i]`. Use no loop. If you only use
# operations that broadcast (`torch.maximum`, `clamp`, `*`), the same function also gives tables of all pairs.
#
# Two boxes without area (points) have the IoU 0, not NaN. `tensor.clamp(min=0)` raises all negative numbers of a
# tensor to 0.

# %%
def my_iou(a, b):
    """IoU of the boxes a [..., 4] with the boxes b [..., 4], elementwise; 0 where neither has an area."""
    # BEGIN SOLUTION 01.2
    left_top = torch.maximum(a[..., :2], b[..., :2])
    right_bottom = torch.minimum(a[..., 2:], b[..., 2:])
    width, height = (right_bottom - left_top).clamp(min=0).unbind(-1)
    intersection = width * height
    union = area(a) + area(b) - intersection
    return intersection / union.clamp(min=1e-9)
    # END SOLUTION

# %%
course.check("01.2", my_iou)

# %% [markdown]
# From here on the chapter uses labelkit's `iou`, whether you solved the exercise or not. It does what the
# exercise asks. We hold it to two witnesses: to the five lines above, and to torchvision.

# %%
def random_boxes(count, seed):
    corner, size = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(seed)) * 100
    return torch.cat([corner, corner + size + 1], dim=1)

one, other = random_boxes(200, seed=0), random_boxes(200, seed=1)
by_hand = torch.tensor([iou_of_one_pair(p, q) for p, q in zip(one.tolist(), other.tolist(), strict=True)])
torch.testing.assert_close(iou(one, other), by_hand)
torch.testing.assert_close(iou(one[:, None], other), ops.box_iou(one, other))

# %% [markdown]
# Now the first picture gets its two numbers. They say what the eye said.

# %% tags=["nbval-check-output"]
for name, box in {"72 px": big, "8 px": small}.items():
    print(f"{name:>6}: IoU {iou(box, box + off_by_four):.2f}")
assert round(iou(big, big + off_by_four).item(), 2) == 0.81
assert round(iou(small, small + off_by_four).item(), 2) == 0.14

# %% [markdown]
# ### What a value looks like
#
# A threshold on IoU appears in most chapters of this course. So it is worth having a picture of the values in
# mind. Here is a square of 64 px, and a copy that is moved to the right until the IoU has the value in the title.

# %%
square = torch.tensor([16.0, 32, 80, 96])
fig, axes = plot.figure(5, width=2.1, height=2.5)
for ax, value in zip(axes, (0.9, 0.7, 0.5, 0.3, 0.1), strict=True):
    step = 64 * (1 - value) / (1 + value)
    moved = square + torch.tensor([step, 0, step, 0])
    torch.testing.assert_close(iou(square, moved), torch.tensor(value))
    plot.scene(ax, (128, 160), square, title=f"IoU {value}")
    plot.boxes(ax, moved, "prediction", fill=True)
    ax.set(xticks=[], yticks=[])
plot.show(fig, alt=(
    "Five pairs of equal squares, side by side, shifted further from pair to pair: IoU 0.9, "
    "0.7, 0.5, 0.3 and 0.1. At 0.5 the shift is a third of the side."))

# %% [markdown]
# Some values to remember. 0.5 is the classical line between "found" and "missed". RetinaNet, chapter 5, calls an
# anchor positive from 0.5 and negative below 0.4. The first stage of Faster R-CNN asks for 0.7. COCO's benchmark
# averages over ten thresholds from 0.5 to 0.95.
#
# An IoU of 0.5 looks worse than the number sounds. The shift of the middle pair is a third of the side, because
# $64 \cdot \frac{1 - 0.5}{1 + 0.5} = 64 / 3$. Each box has two thirds of its area in common with the other.
#
# ## Boxes that are no boxes
#
# Sooner or later a box without an area turns up. Somebody clicked twice on the same spot. A box was cut at the
# image's border, and nothing was left. Coordinates were rounded, and both sides fell on the same pixel. And the
# points of chapter 3 are boxes of size 0 on purpose.
#
# Two such boxes have no intersection and no union. The formula asks for 0 / 0.

# %% tags=["nbval-check-output"]
nothing = torch.tensor(0.0) / torch.tensor(0.0)
values = torch.stack([torch.tensor(0.9), nothing])
print("0 / 0 is              ", nothing.item())
print("is it above 0.5?      ", (nothing > 0.5).item())
print("is it at most 0.5?    ", (nothing <= 0.5).item())
print("argmax of [0.9, nan]  ", values.argmax().item())
assert values.argmax() == 1

# %% [markdown]
# NaN is neither above nor at most 0.5, and yet it wins every contest for the best value.
#
# One NaN in an annotation file is enough. Its IoU with every box is NaN. So when each of 200 boxes picks the
# ground truth that it fits best, all of them pick the broken one:

# %% tags=["nbval-check-output"]
ground_truths = torch.tensor([[20.0, 20, 90, 90], [float("nan"), 8, 40, 18]])
favourite = ops.box_iou(one, ground_truths).argmax(dim=1)
print(f"{(favourite == 1).sum()} of {len(one)} boxes prefer the broken one")
assert (favourite == 1).all()

# %% [markdown]
# No line of code complains. labelkit answers twice. `iou` is 0 for boxes without an area. And a broken *ground
# truth* never gets that far: every method checks what it is given, and names the box that is wrong.

# %% tags=["nbval-check-output"]
point = torch.tensor([5.0, 5, 5, 5])
print("IoU of a point with itself:", iou(point, point).item())
inverted = torch.tensor([[3.0, 4, 20, 30], [50.0, 8, 40, 18]])
for broken in (inverted, ground_truths):
    try:
        check_boxes(broken, "gt_boxes")
    except ValueError as error:
        print(error)
assert iou(point, point) == 0

# %% [markdown]
# There is one more way to get nonsense from good boxes. Half precision ends at 65,504. An area does not.

# %% tags=["nbval-check-output"]
large = torch.tensor([[0.0, 0, 256, 256]], dtype=torch.float16)
width, height = large[:, 2] - large[:, 0], large[:, 3] - large[:, 1]
print("in half precision:", (width * height).item())
print("labelkit.area:    ", area(large).item(), area(large).dtype)
assert area(large).item() == 65536 and (width * height).isinf()

# %% [markdown]
# Detectors are often trained in half precision, so this is no exotic case: every object of 256 × 256 px or more
# overflows. labelkit computes in 32 bits or more, whatever comes in.
#
# ## A table of all pairs, or only the pairs that matter
#
# Assigning labels means comparing many *priors* (the boxes a detector starts from, chapter 3) with a few ground
# truths. The usual way is a table with a row for each prior and a column for each ground truth. Broadcasting
# makes it from the elementwise function: `[256, 1, 4]` against `[15, 4]` gives `[256, 15]`.

# %%
scene = plot.SCENES["crowd"]
y, x = torch.meshgrid(torch.arange(4.0, 128, 8), torch.arange(4.0, 128, 8), indexing="ij")
places = torch.stack([x.flatten(), y.flatten()], dim=1)
priors = torch.cat([places - 8, places + 8], dim=1)
table = iou(priors[:, None], scene.boxes)

fig, axes = plot.figure(2)
plot.scene(axes[0], scene)
plot.points(axes[0], places, "negative")
plot.boxes(axes[0], priors[[68, 136]], "prior")
axes[1].imshow(table > 0, cmap="cividis", aspect="auto", interpolation="nearest")
axes[1].set(xlabel="ground truth", ylabel="prior", title="pairs that overlap at all")
plot.show(fig, alt=(
    "Left: fifteen small objects and the 256 places of priors of 16 by 16 px, two of them "
    "drawn. Right: the table of 256 by 15 pairs; only a few scattered cells are bright."))

# %% tags=["nbval-check-output"]
empty = (table == 0).float().mean().item()
print(f"{table.shape[0]} x {table.shape[1]} pairs, {empty:.0%} of them without any overlap")
cells = 100 * 168 + 50 * 84 + 25 * 42 + 13 * 21 + 7 * 11  # one place every 8, 16, 32, 64 and 128 px
print(f"an image of 800 x 1344 px, 9 priors a place, 1000 objects: {9 * cells:,} x 1000 pairs,")
print(f"{9 * cells * 1000 * 4 / 1e6:,.0f} MB for one table of IoU")
assert round(100 * empty) == 95 and 9 * cells == 201_600

# %% [markdown]
# Yellow are the pairs that overlap, and the dark rest are the pairs that can't matter. Most
# of the table is zeros, and with smaller objects it is emptier still. So labelkit never builds it. It finds from
# the geometry which pairs can overlap, keeps their two indices, and evaluates `iou` on the pairs alone. That is
# why every similarity in labelkit is elementwise.

# %% tags=["nbval-check-output"]
prior_index, gt_index = table.nonzero(as_tuple=True)
on_pairs = iou(priors[prior_index], scene.boxes[gt_index])
assert torch.equal(on_pairs, table[prior_index, gt_index])
print(f"{len(on_pairs)} pairs carry everything that {table.numel()} cells say")

# %% [markdown]
# ## When the boxes do not meet
#
# IoU has a blind side. Whether a prediction misses by a hair or by half the image, IoU is 0.

# %%
target = torch.tensor([12.0, 44, 52, 84])
fig, axes = plot.figure(3, width=3.2, height=3.6)
for ax, step in zip(axes, (44, 58, 72), strict=True):
    guess = target + torch.tensor([step, 0, step, 0])
    plot.scene(ax, (128, 128), target)
    plot.boxes(ax, guess, "prediction")
    plot.boxes(ax, [[52, 44, 12 + step, 84]], "ignored", fill=True)
    ax.set_title(f"IoU {iou(target, guess):.2f}    GIoU {giou(target, guess):.2f}")
    plot.legend(ax, "gt", "prediction", ignored="the gap")
plot.show(fig, alt=(
    "A prediction at three distances right of the true box, never touching it. IoU is 0 each "
    "time. GIoU falls from -0.05 to -0.29, as the gap between the two grows."))

# %% [markdown]
# A number that is always 0 can't say which of the three is best. As a training loss, 1 − IoU would be 1 for all
# three, with no slope: move the prediction a little, and the loss stays the same. So the detector is never told
# in which direction the object lies.
#
# **Generalised IoU** repairs that (Rezatofighi 2019, section 3, algorithm 1). Draw the smallest box $c$ that
# encloses both. The part of $c$ that neither box covers is wasted: the gap in the picture. GIoU subtracts its
# share:
#
# $$\text{GIoU} = \text{IoU} - \frac{|c| - |a \cup b|}{|c|}$$
#
# Two squares of side 2 with a gap of 1 between them: the enclosing box has 5 · 2 = 10 square pixels, the union
# covers 8.

# %%
a, b = torch.tensor([0.0, 0, 2, 2]), torch.tensor([3.0, 0, 5, 2])
assert iou(a, b) == 0
torch.testing.assert_close(giou(a, b), torch.tensor(0 - (10 - 8) / 10))

# %% [markdown]
# ### Exercise 01.3: GIoU
# *Difficulty 3 of 5, 12 minutes.*
#
# Write GIoU for boxes `[..., 4]` of positive size. You may call `area` and labelkit's `iou`. The union is not a
# third call, but you can get it without the intersection: from $\text{IoU} = I / U$ and $U = |a| + |b| - I$
# follows $U = (|a| + |b|) / (1 + \text{IoU})$.

# %%
def my_giou(a, b):
    """Generalised IoU of the boxes a [..., 4] with the boxes b [..., 4], elementwise, in (-1, 1]."""
    # BEGIN SOLUTION 01.3
    left_top = torch.minimum(a[..., :2], b[..., :2])
    right_bottom = torch.maximum(a[..., 2:], b[..., 2:])
    width, height = (right_bottom - left_top).unbind(-1)
    enclosing = width * height
    overlap = iou(a, b)
    union = (area(a) + area(b)) / (1 + overlap)
    return overlap - (enclosing - union) / enclosing
    # END SOLUTION

# %%
course.check("01.3", my_giou)

# %%
torch.testing.assert_close(giou(one[:, None], other), ops.generalized_box_iou(one, other))
assert (giou(one, other) <= iou(one, other) + 1e-6).all()
assert giou(one, other).min() > -1

# %% [markdown]
# GIoU never exceeds IoU, since it only subtracts. It comes close to −1 for two tiny boxes far apart: nothing is
# in common, and nearly the whole enclosing box is wasted. The loss that detectors train with is 1 − GIoU, between
# 0 and 2.
#
# Two relatives are in use as well (both Zheng 2020). **DIoU** subtracts the squared distance of the centres,
# divided by the squared diagonal of the enclosing box (equation 7). **CIoU** subtracts a second term, for a
# difference in the aspect ratio (equations 8 to 11). The picture shows where they differ: as soon as one box lies
# inside the other, nothing is wasted, and GIoU is the same as IoU.

# %%
outer = torch.tensor([14.0, 14, 114, 114])
inner = torch.tensor([[44.0, 44, 84, 84], [64, 64, 104, 104], [54, 24, 74, 104]])
fig, axes = plot.figure(3, width=3.2, height=3.7)
for ax, guess, title in zip(axes, inner, ("in the middle", "off the middle", "another shape"), strict=True):
    plot.scene(ax, (128, 128), outer)
    plot.boxes(ax, guess, "prediction", fill=True)
    measured = [f"{measure.__name__} {measure(outer, guess):.2f}" for measure in (iou, giou, diou, ciou)]
    ax.set_title(f"{title}\n{measured[0]}   {measured[1]}\n{measured[2]}   {measured[3]}")
plot.show(fig, alt=(
    "A small box inside a large one: in the middle, off the middle, and long and thin with "
    "the same area. IoU and GIoU are 0.16 each time. DIoU is lower off the middle, CIoU lower "
    "for the thin one."))

for measure in (iou, giou):
    torch.testing.assert_close(measure(outer, inner), torch.full((3,), 0.16))
middle, off, thin = range(3)
assert diou(outer, inner)[off] < diou(outer, inner)[middle]
assert ciou(outer, inner)[thin] < diou(outer, inner)[thin]

# %% [markdown]
# The numbers in the middle and on the right differ by a few hundredths only. That is enough for a loss, which
# needs a slope, not a large value.
#
# Here are three of the measures along one path: a square of 32 px slides away to the right. Watch the place where
# the boxes part.

# %%
steps = torch.linspace(0, 96, 193)
still = torch.tensor([0.0, 0, 32, 32])
sliding = still + torch.stack([steps, torch.zeros_like(steps)], dim=1).repeat(1, 2)
fig, (ax,) = plot.figure(width=6.4, height=3.4)
lines = {"IoU": iou(still, sliding), "GIoU": giou(still, sliding), "DIoU": diou(still, sliding)}
plot.curves(ax, steps, lines, xlabel="shift in px", ylabel="similarity")
ax.axvline(32, color=plot.GREY, lw=1)
ax.text(33, 0.6, "the boxes part")
plot.show(fig, alt=(
    "Similarity against the shift of a square of 32 px. IoU falls to 0 at 32 px and stays "
    "there. GIoU and DIoU go on falling below 0."))

apart = steps > 32
assert (lines["IoU"][apart] == 0).all()
assert (lines["GIoU"].diff() < 0).all() and (lines["DIoU"].diff() < 0).all()

# %% [markdown]
# ## The experiment: one pixel
#
# Back to the first picture. We turn one knob, the size of the object, and keep the error: the prediction has the
# right size, and lies one pixel too far right and one too far down.

# %% tags=["nbval-check-output"]
sides = torch.tensor([4.0, 8, 16, 32, 128])
true_boxes = torch.stack([torch.zeros(5), torch.zeros(5), sides, sides], dim=1)
one_pixel = iou(true_boxes, true_boxes + 1)
print("   side   IoU after one pixel")
for side, value in zip(sides.tolist(), one_pixel.tolist(), strict=True):
    print(f"{side:4.0f} px   {value:.2f}")
assert [round(value, 2) for value in one_pixel.tolist()] == [0.39, 0.62, 0.78, 0.88, 0.97]
assert (iou(true_boxes, true_boxes + 2) < 0.5).tolist() == [True, True, False, False, False]

# %% [markdown]
# One pixel costs an object of 128 px 3 % of its IoU, and one of 8 px 38 %. One more, and the small object is
# below 0.5. Chapter 16 comes back to this table, chapter 17 to the measures that were invented because of it.
#
# This is no property of a particular detector. It is geometry, and it has a closed form. A square of side $s$,
# moved by $d$ to the right and down, keeps a common square of side $s - d$:
#
# $$\text{IoU}(s, d) = \frac{(s - d)^2}{2 s^2 - (s - d)^2} \qquad (0 \le d \le s)$$

# %%
def iou_after_shift(side, shift):
    common = (side - shift) ** 2
    return common / (2 * side**2 - common)

torch.testing.assert_close(iou_after_shift(sides, 1), one_pixel)

# %%
shifts = torch.linspace(0, 8, 81)
lines = {f"{side} px": iou_after_shift(torch.tensor(float(side)), shifts) for side in (8, 32, 128)}
fig, (ax,) = plot.figure(width=6.4, height=3.4)
plot.curves(ax, shifts, lines, xlabel="error in px, right and down", ylabel="IoU")
ax.axhline(0.5, color=plot.GREY, lw=1)
ax.text(6.2, 0.52, "threshold 0.5")
plot.show(fig, alt=(
    "IoU against the error in pixels for objects of 8, 32 and 128 px. The curve of 8 px falls "
    "below 0.5 between one and two pixels, that of 32 px just before six, that of 128 px "
    "stays near 1."))

# %% [markdown]
# The paper that made this known uses squares of 6 and 36 px, moved by 1 and by 4 px (Wang 2021, section 1). Its
# four numbers are this formula's.

# %% tags=["nbval-check-output"]
for side in (6, 36):
    print(f"{side:2} px: from {iou_after_shift(side, 1):.2f} to {iou_after_shift(side, 4):.2f}")
claimed = {(6, 1): 0.53, (6, 4): 0.06, (36, 1): 0.90, (36, 4): 0.65}
assert all(round(iou_after_shift(*case), 2) == value for case, value in claimed.items())

# %% [markdown]
# ### Exercise 01.4: how much error is allowed?
# *Difficulty 3 of 5, 12 minutes.*
#
# Turn the formula round. A square of side `side` is moved by the same distance to the right and down. How far may
# it move until its IoU has fallen to `threshold`? Answer in pixels. Both arguments are plain numbers; `x ** 0.5`
# is the square root. Solve $\text{IoU}(s, d) = t$ for $d$ on paper: first for $(s - d)^2$, then for $d$.

# %%
def my_tolerance(side, threshold):
    """The diagonal shift in pixels at which a square's IoU has fallen to `threshold`."""
    # BEGIN SOLUTION 01.4
    common_area = 2 * threshold / (1 + threshold) * side**2
    return side - common_area**0.5
    # END SOLUTION

# %%
course.check("01.4", my_tolerance)

# %% [markdown]
# Whether you solved it or not, here is the answer by brute force: 100,001 shifts, and the last that still reaches
# the threshold.

# %% tags=["nbval-check-output"]
print("          " + "".join(f"{f'IoU {t}':>12}" for t in (0.5, 0.7, 0.9)))
tolerance = {}
for side in (8, 32, 128):
    tried = torch.linspace(0, side, 100_001, dtype=torch.float64)
    for t in (0.5, 0.7, 0.9):
        tolerance[side, t] = tried[iou_after_shift(side, tried) >= t].max().item()
    print(f"{side:4} px   " + "".join(f"{tolerance[side, t]:9.1f} px" for t in (0.5, 0.7, 0.9)))
assert [round(100 * tolerance[side, 0.5] / side) for side in (8, 32, 128)] == [18, 18, 18]
assert round(tolerance[8, 0.7], 1) == 0.7

# %% [markdown]
# The tolerance is a fixed share of the side: 18 % at IoU 0.5, for every size. So IoU is fair, as long as errors
# are shares too.
#
# But many errors come in pixels. The places where a detector looks are often 8 px apart or more (chapter 3), whatever
# the object's size. An annotator's hand shakes by a pixel or two. The image itself is made of pixels. To reach IoU 0.7
# on an object of 8 px, a box must be right to 0.7 px: finer than the image it was drawn on.

# %% [markdown]
# ### The same on real boxes
#
# The course's real data are tree crowns, seen from an aeroplane, with boxes drawn by hand. Look at the picture
# below, and decide for some crown where its box ends. One pixel more or less is a matter of taste.

# %%
trees = datasets.neon_trees("test", fold=None)
image, target = trees[32]
fig, (ax,) = plot.figure(width=5.6, height=5.6)
plot.scene(ax, image, target["boxes"], title="128 × 128 px, boxes drawn by people")
plot.show(fig, alt=(
    "An aerial photograph of a meadow with trees. Some thirty boxes mark the crowns; most are "
    "between 6 and 16 px wide, one is 35 px high."))

# %% tags=["nbval-check-output"]
boxes = torch.cat([target["boxes"] for _, target in trees])
sizes = area(boxes).sqrt()
bins = {"under 8 px": (0, 8), "8 to 16 px": (8, 16), "16 px and more": (16, 1000)}
kept = {}
print(f"{'':16} boxes   IoU after 1 px, 2 px   still 0.5 or more after 2 px")
for name, (low, high) in bins.items():
    chosen = boxes[(sizes >= low) & (sizes < high)]
    one_px, two_px = iou(chosen, chosen + 1), iou(chosen, chosen + 2)
    kept[name] = (two_px >= 0.5).float().mean().item()
    print(f"{name:16} {len(chosen):5}   {one_px.mean():14.2f}   {two_px.mean():4.2f}   {kept[name]:28.0%}")
assert [round(100 * share) for share in kept.values()] == [0, 67, 100]

# %%
fig, (ax,) = plot.figure(width=6.4, height=3.2)
shares = {}
for error in (1, 2, 3):
    good = iou(boxes, boxes + error) >= 0.5
    shares[f"off by {error} px"] = {
        name: good[(sizes >= low) & (sizes < high)].float().mean().item()
        for name, (low, high) in bins.items()
    }
plot.bars_by_size(ax, shares, ylabel="share with IoU 0.5 or more")
plot.show(fig, alt=(
    "Share of tree crowns whose IoU with their own shifted box is at least 0.5. Off by one "
    "pixel: 72, 100 and 100 percent. By two: 0, 67 and 100. By three: 0, 0 and 92."))

# %% [markdown]
# The edge is sharper than one would guess. After **two** pixels not one of the crowns under 8 px still counts as
# found, and every crown of 16 px and more does. The detector in this test knows each crown and its exact size,
# and is two pixels off. By the usual rule it has missed all the small ones.
#
# ## The card
#
# | | IoU |
# |---|---|
# | answers | *How well does this box fit that one?*, the second of the four questions of chapter 4 |
# | values | 0 to 1; symmetric; independent of scale |
# | cost | some twenty operations a pair; a table of all pairs is what costs |
# | breaks | 0 without a slope when boxes do not meet; 0 / 0 on boxes without area; strict on small objects |
# | repairs | GIoU, DIoU, CIoU for the first; a check at the door for the second; chapter 17 for the third |
#
# **Next.** A detector reports the same object many times. Chapter 2 uses IoU to keep one box for each object, and
# shows what that does to a crowd.
#
# ## Recap
#
# - A box is four numbers and a convention. Convert once, draw some, and mind the extra pixel.
# - Intersection: later start, earlier end, clamp *each axis* at 0, multiply. Union: sum of the areas minus the
#   intersection.
# - 0 / 0 makes NaN, and NaN wins every argmax. labelkit's `iou` is 0 there.
# - GIoU subtracts the wasted share of the enclosing box, so it still ranks boxes that do not meet.
# - IoU tolerates the same *share* of the side at every size. In pixels, that is almost nothing for a small
#   object.
#
# ## Recall
#
# <details><summary>1. Two boxes lie apart, one to the upper left of the other. Code without a clamp reports a positive
# intersection. Why?</summary>
#
# Both overlaps are negative, and the product of two negative numbers is positive. Clamp each axis before
# multiplying.
# </details>
#
# <details><summary>2. A prediction lies entirely inside the true box and covers a quarter of it. What are IoU and
# GIoU?</summary>
#
# Both are 0.25. The intersection is the prediction, the union is the true box, and the enclosing box is the true
# box too: nothing is wasted.
# </details>
#
# <details><summary>3. An object of 100 px may be moved diagonally by about 18 px until IoU is 0.5. How far may one of
# 10 px?</summary>
#
# By about 1.8 px. The tolerance is a share of the side.
# </details>
#
# ## References
#
# - M. Everingham and others, *The PASCAL Visual Object Classes (VOC) Challenge*, IJCV 2010, section 4.2: IoU
#   above 0.5.
# - H. Rezatofighi and others, *Generalized Intersection over Union*, CVPR 2019, arXiv 1902.09630, section 3:
#   GIoU.
# - Z. Zheng and others, *Distance-IoU Loss*, AAAI 2020, arXiv 1911.08287, equations 7 to 11: DIoU and CIoU.
# - J. Wang and others, *A Normalized Gaussian Wasserstein Distance for Tiny Object Detection*, 2021, arXiv
#   2110.13389, section 1: IoU on small objects.
# - B. Weinstein and others, the tree crowns: `data/neon_trees/ATTRIBUTION.md`.
