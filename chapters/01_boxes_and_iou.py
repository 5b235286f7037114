# %% [markdown]
# # 01 · Measure how well two boxes agree
#
# A detector has drawn a box around an object, a person has drawn another, and the two
# differ by three pixels. Is the detector's box still right? In this chapter we build
# the number that detection uses to decide such cases, and with it we follow one
# question to the end. How far off may a box be before it counts as wrong?

# %%
import torch
from matplotlib import patheffects
from torchvision import ops

import labelkit_course as course
from labelkit import datasets, plot
from labelkit.boxes import area, check_boxes
from labelkit.similarity import ciou, diou, giou, iou

# %%
fig, axes = plot.figure(2, width=3.4, height=3.8)
for ax, side in zip(axes, (72.0, 8.0), strict=True):
    truth = torch.tensor([64 - side / 2, 64 - side / 2, 64 + side / 2, 64 + side / 2])
    plot.scene(ax, (128, 128), truth, title=f"an object of {side:.0f} px")
    plot.boxes(ax, truth + 3, "prediction", fill=True)
    plot.legend(ax, "gt", "prediction")
    assert round(100 * ((side - 3) / side) ** 2) == (92 if side == 72 else 39)
plot.show(fig, alt=(
    "The same error on two objects. Each prediction is 3 px too far right and 3 px too "
    "far down. The large one still covers 92 % of its object, the small one 39 %."))

# %% [markdown]
# Both predictions are off by the same three pixels, and yet you would accept the left
# one and send the right one back. Whatever number we build has to see this difference.
#
# **You will be able to**
# - read a box in the three usual formats, and say what happens if it is read in the wrong
#   one,
# - compute IoU from intersection and union, and find the bugs that such code tends to
#   have,
# - build GIoU, and say what it adds for boxes that do not overlap,
# - calculate by how many pixels an object of a given size may be off before its IoU falls
#   below a threshold.
#
# **You need** Python and a little PyTorch, 25 minutes to read and 41 to solve the
# exercises, and a few seconds of CPU.
#
# A number in the text is computed by a cell near it or comes with its source, and the
# folded `assert` lines stop the notebook if one is wrong. Change a number and run the
# cell again whenever you want to know what happens.
#
# ## Why not count the pixels?
#
# The obvious measure is the error itself, averaged over the four sides.

# %% tags=["nbval-check-output"]
big, small = torch.tensor([28.0, 28, 100, 100]), torch.tensor([60.0, 60, 68, 68])

def side_error(a, b):
    return (a - b).abs().mean()

for name, box in {"72 px": big, "8 px": small}.items():
    print(f"{name:>6}: the sides are off by {side_error(box, box + 3):.1f} px")

# %% [markdown]
# Three pixels, twice. What you told apart at a glance, the mean error cannot tell
# apart. We could divide it by the size of the object, but somebody would have to decide
# whether that is its width or its height, and what to do if the two boxes differ in
# size.
#
# We ask for something else. Our number should be 1 for a perfect box and 0 for a
# useless one, whatever the size of the object, and there is a candidate for it, which
# is the share of their area that the two boxes have in common. Before we can compute an
# area, however, we have to agree on what a box is.
#
# ## A box is four numbers
#
# There are three common ways to choose the four. If a program expects one of them and
# is given another, what will it see?

# %%
fig, axes = plot.figure(2, width=3.5, height=3.8)
plot.scene(axes[0], (128, 128), [[30, 40, 100, 90]], title="one box")
plot.points(axes[0], [(30, 40), (100, 90), (65, 65)], "prior")
for x, y, below in ((30, 40, -5), (100, 90, 13), (65, 65, -5)):
    axes[0].text(x, y + below, f"({x}, {y})", ha="center", fontsize=11)
plot.dimension(axes[0], (30, 115), (100, 115), "")
plot.dimension(axes[0], (108, 40), (108, 90), "")
axes[0].text(65, 109, "w = 70", ha="center", fontsize=11)
axes[0].text(111, 66, "h =\n50", va="center", fontsize=11)
plot.scene(axes[1], (128, 128), title="40, 30, 60, 50 three times")
for form, look, place in (("xyxy", "gt", (38, 47)), ("xywh", "prediction", (98, 77)),
                          ("cxcywh", "prior", (37, 16))):
    corners = ops.box_convert(torch.tensor([[40.0, 30, 60, 50]]), form, "xyxy")
    plot.boxes(axes[1], corners, look)
    axes[1].text(*place, form, ha="right", fontsize=11)
plot.show(fig, alt=(
    "Left, a box with its corners, its centre, its width and its height, from which "
    "each format takes four numbers. Right, one set of four numbers, read in each of "
    "the three formats. They are three different boxes."))

# %% [markdown]
# - `xyxy` is left, top, right, bottom. torchvision and labelkit use it.
# - `xywh` is left, top, width, height. COCO's annotation files use it.
# - `cxcywh` is centre x, centre y, width, height. Chapter 3 uses it to describe a box
#   relative to another one.
#
# The box of the left panel is written (30, 40, 100, 90) in the first format, (30, 40,
# 70, 50) in the second and (65, 65, 70, 50) in the third. As in image files, `y` grows
# downwards, so the top of a box is its smaller `y`.
#
# Nothing in four numbers says which format they are in, since a tensor in the wrong
# format has the right shape and the right type.

# %% tags=["nbval-check-output"]
four = torch.tensor([[40.0, 30, 60, 50]])
for form in ("xyxy", "xywh", "cxcywh"):
    read = ops.box_convert(four, form, "xyxy")
    corners, size = read[0].tolist(), area(read).item()
    print(f"read as {form:>6}: corners {corners}, area {size:.0f} px²")

# %% [markdown]
# The same numbers are a box of 400 px² in one format and of 3,000 px² in the others,
# and no error or warning tells you. In a training run you would only notice a detector
# that does not learn. Convert once, when the data is read, and draw a few boxes on
# their image before you train.
#
# Converting is arithmetic on columns, for which two idioms will come back in every
# chapter. With `boxes[..., 0]` you take the first number of every box, however many
# dimensions stand before it, and with `boxes.unbind(-1)` you split the last dimension
# into its four columns. Two lines then turn xywh into xyxy:

# %%
def xywh_to_xyxy(boxes):
    x, y, w, h = boxes.unbind(-1)
    return torch.stack([x, y, x + w, y + h], dim=-1)

assert torch.equal(xywh_to_xyxy(four), ops.box_convert(four, "xywh", "xyxy"))

# %% [markdown]
# ### Exercise 01.1: from the centre to the corners
# *Difficulty 1 of 5, 5 minutes. Implement.*
#
# Return the boxes in xyxy. You get them in cxcywh, as a tensor of shape `[4]`, `[N, 4]`
# or `[B, N, 4]`, and the function has to work for all three. Since the centre is in the
# middle, half of the width is on its left and half on its right.

# %%
def my_cxcywh_to_xyxy(boxes):
    """Boxes [..., 4] as centre x, centre y, width, height, turned into x1, y1, x2, y2."""
    # BEGIN SOLUTION 01.1
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)
    # END SOLUTION

# %%
course.check("01.1", my_cxcywh_to_xyxy)

# %% [markdown]
# ### An extra pixel
#
# Even two programs that agree on the format may disagree on how wide a box is. Let it
# begin at `x1 = 1` and end at `x2 = 4`.

# %%
fig, axes = plot.figure(2, width=3.4, height=2.7)
for ax, right in zip(axes, (4, 5), strict=True):
    plot.scene(ax, (4, 7), title=f"{right - 1} pixels wide")
    ax.vlines(range(8), 0, 4, color=plot.GREY, lw=0.8)
    ax.hlines(range(5), 0, 7, color=plot.GREY, lw=0.8)
    ax.set_yticks([])
    plot.boxes(ax, [[1, 1, right, 3]], "prediction", fill=True)
axes[0].set_xticks(range(8))
axes[0].set_xlabel("x numbers the lines", fontsize=11)
axes[1].set_xticks([column + 0.5 for column in range(7)], range(7))
axes[1].set_xlabel("x numbers the columns", fontsize=11)
plot.show(fig, alt=(
    "A box from x = 1 to x = 4 on a grid of pixels. If x numbers the lines between "
    "pixels, the box is three pixels wide. If x numbers the columns, it is four pixels "
    "wide, because column 4 belongs to it."))

# %% [markdown]
# In this course and in torchvision a coordinate is the position of a *line between*
# pixels. The left edge of the image is line 0, and the width is `x2 - x1`. Older code,
# for instance that of PASCAL VOC and of maskrcnn-benchmark, numbers the *pixels*
# instead, so there the width is `x2 - x1 + 1`. Code that mixes the two makes a box one
# pixel wider and one pixel higher than it is.

# %% tags=["nbval-check-output"]
for side in (8, 32, 128):
    larger = ((side + 1) / side) ** 2 - 1
    print(f"{side:3} px: an extra pixel each way adds {larger:3.0%} to the area")

# %% [markdown]
# On a 128 px object few people would notice the 2 %, but on an 8 px object the extra
# pixel adds 27 % to the area, and this can change what is learned. FCOS (chapter 6)
# lets a place in the image that is inside two objects learn the one with the smaller
# area. In the code that its authors published, distances are measured between lines,
# but `area()` adds the extra pixel. Take a pole of 3 × 20 px and a square of 8 × 8 px.

# %% tags=["nbval-check-output"]
for counted, extra in {"lines": 0, "columns": 1}.items():
    pole, square = (3 + extra) * (20 + extra), (8 + extra) * (8 + extra)
    smaller = "pole" if pole < square else "square"
    print(f"by {counted:7}: pole {pole} px², square {square} px², smaller: {smaller}")

# %% [markdown]
# If lines are counted the place learns the pole, and if columns are counted it learns
# the square. **A convention that does not matter on large objects decides on small
# ones**, and it is not the last of its kind in this course.
#
# ## What do two boxes share?
#
# We begin with one dimension, that is with two segments on a line, and look for the
# part that they have in common. Where does it begin, and where does it end?

# %%
fig, (ax,) = plot.figure(width=5.4, height=3.4)
seconds = {"overlap": (4, 11), "one inside the other": (3, 6), "apart": (11, 14)}
for row, (title, ends) in enumerate(seconds.items()):
    y, start, end = 10 - 4 * row, max(2, ends[0]), min(8, ends[1])
    ax.plot((2, 8), (y, y), lw=7, color=plot.VERMILLION, solid_capstyle="butt")
    ax.plot(ends, (y - 1, y - 1), lw=7, color=plot.PURPLE, solid_capstyle="butt")
    color, line, thick = (plot.GREEN, "-", 7) if end > start else (plot.INK, ":", 2)
    ax.plot((start, end), (y - 2, y - 2), line, color=color, lw=thick,
            solid_capstyle="butt")
    ax.text(16, y - 1, f"{title}:\n{end} − {start} = {end - start}".replace("= -", "= −"),
            va="center", fontsize=11)
    for height, name in enumerate(("a", "b", "both")):
        ax.text(0.4, y - height, name, va="center", fontsize=11)
ax.set(xlim=(0, 25), ylim=(-1, 11), xticks=range(0, 16, 2), yticks=[])
ax.spines["left"].set_visible(False)
ax.spines["bottom"].set_bounds(0, 15)
plot.show(fig, alt=(
    "Segment a from 2 to 8 with three segments b. The third bar runs from the later "
    "start to the earlier end. It is what both have in common, but if they are apart it "
    "runs backwards through the gap (dotted)."))

# %% [markdown]
# It begins where the later segment begins, and it ends where the earlier one ends.

# %% tags=["nbval-check-output"]
def overlap(a1, a2, b1, b2):
    return min(a2, b2) - max(a1, b1)

for title, b1, b2 in (("overlap", 4, 11), ("one inside", 3, 6), ("apart", 11, 14)):
    print(f"{title:>10}: {overlap(2, 8, b1, b2):2}")

# %% [markdown]
# If the segments are apart, this part would begin at 11 and end at 8. Its length of −3
# measures the gap, and as a length of overlap it has to be raised to 0. A missing guard
# is easy to notice in one dimension, because a negative length is absurd. For two
# boxes, however, we multiply the overlap in x by the overlap in y.

# %%
fig, (ax,) = plot.figure(width=4.2, height=4.2)
plot.scene(ax, (128, 128), [[10, 10, 50, 40]])
plot.boxes(ax, [[80, 70, 120, 110]], "prediction")
plot.boxes(ax, [[50, 40, 80, 70]], "ignored", fill=True)
for x, y, text in ((30, 27, "a"), (100, 92, "b"), (65, 56, "−30 · −30")):
    ax.text(x, y, text, ha="center", va="center", fontsize=11)
plot.show(fig, alt=(
    "Two boxes that are apart in x and in y. The overlap is −30 px in each direction, "
    "so code without a guard multiplies two negative numbers and takes the dashed gap "
    "for the intersection."))

# %% tags=["nbval-check-output"]
gap_x, gap_y = overlap(10, 50, 80, 120), overlap(10, 40, 70, 110)
print("without a guard:   ", gap_x * gap_y)
print("guard on each axis:", max(gap_x, 0) * max(gap_y, 0))

# %% [markdown]
# Two negative overlaps make a positive area, and after the multiplication nothing tells
# these 900 px² from a real intersection. The guard therefore has to act on each axis.
# This bug is hard to find, since it only shows on boxes that are apart in both
# directions. On two overlapping boxes, the usual first test, the broken code is right.
#
# ## Intersection over union
#
# From lengths we come to areas. How much of all that two boxes cover do they cover
# together?

# %%
fig, axes = plot.figure(2, width=3.4, height=3.6)
for ax, title in zip(axes, ("intersection", "union"), strict=True):
    plot.scene(ax, (128, 128), [[20, 25, 80, 85]], title=title)
    plot.boxes(ax, [[45, 45, 110, 100]], "prediction")
    ax.text(14, 36, "a", fontsize=13)
    ax.text(113, 98, "b", fontsize=13)
parts = ([[45, 45, 80, 85]], [[20, 25, 80, 85], [80, 45, 110, 100], [45, 85, 80, 100]])
for ax, covered in zip(axes, parts, strict=True):
    for x1, y1, x2, y2 in covered:
        ax.fill_between([x1, x2], y1, y2, fc=plot.GREEN + "40", ec=plot.GREEN, lw=0,
                        hatch="//")
plot.show(fig, alt=(
    "Two overlapping boxes. Hatched on the left is the area that both cover, the "
    "intersection. Hatched on the right is the area that at least one of them covers, "
    "the union."))

# %% [markdown]
# What both boxes cover is their **intersection**, and what at least one of them covers
# is their **union**. The share of the first area in the second is called **intersection
# over union**, IoU for short:
#
# $$\text{IoU}(a, b) = \frac{|a \cap b|}{|a \cup b|}, \qquad
# |a \cup b| = |a| + |b| - |a \cap b|$$
#
# We subtract the intersection because $|a| + |b|$ counts it twice. For one pair of
# boxes this takes five lines of Python, and you can follow an example by hand. Of two
# 3 px squares, one is moved by 1 px to the right and 1 px down. They share 2 · 2
# = 4 px² and cover 9 + 9 − 4 = 14 px².

# %%
def iou_of_one_pair(a, b):
    width = max(overlap(a[0], a[2], b[0], b[2]), 0)
    height = max(overlap(a[1], a[3], b[1], b[3]), 0)
    intersection = width * height
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return intersection / (area_a + area_b - intersection)

assert iou_of_one_pair([0, 0, 3, 3], [1, 1, 4, 4]) == 4 / 14

# %%
assert iou_of_one_pair([1, 1, 4, 4], [0, 0, 3, 3]) == 4 / 14
assert iou_of_one_pair([0, 0, 24, 24], [8, 8, 32, 32]) == 4 / 14
assert iou_of_one_pair([50, 70, 53, 73], [51, 71, 54, 74]) == 4 / 14
assert iou_of_one_pair([0, 0, 3, 3], [0, 0, 3, 3]) == 1
assert iou_of_one_pair([0, 0, 3, 3], [5, 5, 7, 7]) == 0
assert round(iou_of_one_pair([0, 0, 128, 128], small.tolist()), 3) == 0.004
assert round(iou_of_one_pair([63, 63, 65, 65], small.tolist()), 2) == 0.06

# %% [markdown]
# As a share, IoU has no unit. It stays the same if we enlarge the image, if we move
# both boxes together, or if we exchange them, and it is 1 only for identical boxes and
# 0 for boxes that share no area.
#
# Both parts of the fraction are needed. Although a box as large as the image covers the
# 8 px object of our first picture completely, their IoU is only 0.004, because the
# union is large. A 2 px box in the middle of that object is completely inside it, but
# the intersection is small, which leaves an IoU of 0.06.
#
# Outside of vision the same number is called the Jaccard index. PASCAL VOC made it the
# test for a found object, which a detection passes if its IoU with the true box is
# above 0.5 (Everingham 2010, section 4.2).
#
# ### Exercise 01.6: five pairs
# *Difficulty 1 of 5, 4 minutes. Predict, then run.*
#
# What is the IoU of a 20 px square with each of the five boxes below? Try to answer by
# eye before you calculate. Each number counts as right if it is off by at most 0.06.
#
# - `"half the side"`: a square of half the side, inside the first,
# - `"moved"`: the same square, moved to the right by half of its side,
# - `"moved both ways"`: the same square, moved right and down by half of its side,
# - `"twice as wide"`: a box with the same left side, top and bottom, but twice as wide,
# - `"moved a tenth"`: the same square, moved right and down by a tenth of its side.

# %%
# BEGIN GIVEN
# my_ious = {
#     "half the side": ...,
#     "moved": ...,
#     "moved both ways": ...,
#     "twice as wide": ...,
#     "moved a tenth": ...,
# }
# BEGIN SOLUTION 01.6
my_ious = {
    "half the side": 0.25,
    "moved": 0.33,
    "moved both ways": 0.14,
    "twice as wide": 0.5,
    "moved a tenth": 0.68,
}
# END SOLUTION

# %%
def five_pairs():
    square = torch.tensor([10.0, 10, 30, 30])
    moves = (5, 5, -5, -5), (10, 0, 10, 0), (10, 10, 10, 10), (0, 0, 20, 0), (2, 2, 2, 2)
    fig, axes = plot.figure(2, 3, width=3.4, height=2.9)
    for ax, name, move in zip(axes, my_ious, moves, strict=False):
        other = square + torch.tensor(move)
        plot.scene(ax, (42, 54), square, title=f"{name}: IoU {iou(square, other):.2f}")
        plot.boxes(ax, other, "prediction", fill=True)
    axes[5].set_axis_off()
    plot.show(fig, alt="The five pairs with their IoU. A move costs twice, because the "
                       "intersection shrinks while the union grows.")

course.predict("01.6", my_ious, five_pairs)

# %% [markdown]
# ### Many pairs at once
#
# A detector compares thousands of pairs, so IoU is computed by tensor operations, which
# take all pairs in one call. If the function only uses operations that broadcast, such
# as `torch.maximum`, `clamp` and `*`, it serves for a list of pairs as well as for a
# table of all pairs.
#
# ### Exercise 01.5: alike though apart
# *Difficulty 2 of 5, 8 minutes. Find the bug.*
#
# The function below returns 0.23 for two boxes that are apart in x and in y. Repair it
# so that it returns the IoU of every pair, `a[i]` with `b[i]`, and 0 where neither box
# has an area. There may be more than one fault.

# %%
# BEGIN GIVEN
# def their_iou(a, b):
#     """IoU of the boxes a [..., 4] with the boxes b [..., 4], elementwise."""
#     left_top = torch.maximum(a[..., :2], b[..., :2])
#     right_bottom = torch.minimum(a[..., 2:], b[..., 2:])
#     common = (right_bottom - left_top).prod(dim=-1).clamp(min=0)
#     area_a = (a[..., 2:] - a[..., :2] + 1).prod(dim=-1)
#     area_b = (b[..., 2:] - b[..., :2] + 1).prod(dim=-1)
#     return common / (area_a + area_b - common).clamp(min=1e-9)
# BEGIN SOLUTION 01.5
def their_iou(a, b):
    """IoU of the boxes a [..., 4] with the boxes b [..., 4], elementwise."""
    left_top = torch.maximum(a[..., :2], b[..., :2])
    right_bottom = torch.minimum(a[..., 2:], b[..., 2:])
    common = (right_bottom - left_top).clamp(min=0).prod(dim=-1)
    area_a = (a[..., 2:] - a[..., :2]).prod(dim=-1)
    area_b = (b[..., 2:] - b[..., :2]).prod(dim=-1)
    return common / (area_a + area_b - common).clamp(min=1e-9)
# END SOLUTION

# %%
course.check("01.5", their_iou)

# %% [markdown]
# From here on we use labelkit's `iou`, which does what the exercise asks. We compare it
# with two witnesses, the five lines above and torchvision.

# %%
def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(2, count, 2, generator=generator) * 100
    return torch.cat([corner, corner + size + 1], dim=1)

one, other = random_boxes(200, seed=0), random_boxes(200, seed=1)
pairs = zip(one.tolist(), other.tolist(), strict=True)
by_hand = torch.tensor([iou_of_one_pair(p, q) for p, q in pairs])
torch.testing.assert_close(iou(one, other), by_hand)
torch.testing.assert_close(iou(one[:, None], other), ops.box_iou(one, other))

# %% [markdown]
# Now the two boxes of the first picture get their numbers:

# %% tags=["nbval-check-output"]
for name, box in {"72 px": big, "8 px": small}.items():
    print(f"{name:>6}: IoU {iou(box, box + 3):.2f}")

# %% [markdown]
# IoU sees the difference that the mean error missed. The same three pixels leave the
# large object an IoU of 0.85 and the small one 0.24, of which the first counts as found
# by PASCAL VOC's test and the second does not.
#
# ### What does a threshold look like?
#
# Most chapters of this course compare an IoU with a threshold, so it is worth knowing
# the values by sight. How far is a box off when its IoU is 0.5?

# %%
fig, axes = plot.figure(2, 2, width=3.2, height=2.4)
for ax, value in zip(axes, (0.9, 0.7, 0.5, 0.3), strict=True):
    still, step = torch.tensor([16.0, 16, 80, 80]), 64 * (1 - value) / (1 + value)
    slid = still + step * torch.tensor([1, 0, 1, 0])
    torch.testing.assert_close(iou(still, slid), torch.tensor(value))
    plot.scene(ax, (96, 140), still, title=f"IoU {value}")
    plot.boxes(ax, slid, "prediction", fill=True)
    ax.set(xticks=[], yticks=[])
    assert value != 0.5 or abs(step - 64 / 3) < 1e-4
plot.show(fig, alt=(
    "Equal squares, one moved to the right until the IoU is 0.9, 0.7, 0.5 and 0.3. At "
    "0.5 the shift is already a third of the side."))

# %% [markdown]
# An IoU of 0.5 looks worse than the number sounds. After a shift by a third of the
# side, each box shares two thirds of its area with the other, and the union is four
# thirds of a box.
#
# This value is the classical line between found and missed. RetinaNet, which we build
# in chapter 5, calls an anchor positive from 0.5 up and negative below 0.4, and the
# first stage of Faster R-CNN asks for 0.7. COCO's benchmark averages over ten
# thresholds from 0.5 to 0.95.
#
# ## When the number is no number
#
# So far both boxes had an area. Sooner or later one turns up that has none, because
# somebody clicked twice on the same spot, because a box was cut at the image's border
# and nothing was left, or because rounding put two sides on the same pixel. The points
# of chapter 3 are even boxes of size 0 on purpose.
#
# Two such boxes have neither an intersection nor a union, so the formula asks for 0 /
# 0:

# %% tags=["nbval-check-output"]
nothing = torch.tensor(0.0) / torch.tensor(0.0)
values = torch.stack([torch.tensor(0.9), nothing])
print("0 / 0 is             ", nothing.item())
print("is it above 0.5?     ", (nothing > 0.5).item())
print("is it at most 0.5?   ", (nothing <= 0.5).item())
print("argmax of [0.9, nan] ", values.argmax().item())

# %% [markdown]
# NaN is neither above nor at most 0.5, and yet it wins every contest for the best
# value. One NaN in an annotation file is therefore enough to spoil a whole image. The
# IoU of the broken box is NaN with every other, and when each of our 200 random boxes
# picks the ground truth that it fits best, it picks this one.

# %% tags=["nbval-check-output"]
ground_truths = torch.tensor([[20.0, 20, 90, 90], [float("nan"), 8, 40, 18]])
favourite = ops.box_iou(one, ground_truths).argmax(dim=1)
print(f"{(favourite == 1).sum()} of {len(one)} boxes prefer the broken one")

# %% [markdown]
# No line of this code complains. labelkit guards in two places. Its `iou` is 0 for boxes
# without an area, and a broken *ground truth* never gets as far as IoU, because every
# assigner checks what it is given and says which box is wrong.

# %% tags=["nbval-check-output"]
point = torch.tensor([5.0, 5, 5, 5])
print("IoU of a point with itself:", iou(point, point).item())
inverted = torch.tensor([[3.0, 4, 20, 30], [50.0, 8, 40, 18]])
for broken in (inverted, ground_truths):
    try:
        check_boxes(broken, "gt_boxes")
    except ValueError as error:
        print(error)

# %% [markdown]
# There is one more way to get nonsense from good boxes. Detectors are often trained in
# half precision, whose largest number is 65,504, and an area may well be larger.

# %% tags=["nbval-check-output"]
large = torch.tensor([[0.0, 0, 256, 256]], dtype=torch.float16)
width, height = large[:, 2] - large[:, 0], large[:, 3] - large[:, 1]
print("in half precision:", (width * height).item())
print("labelkit.area:    ", area(large).item(), area(large).dtype)

# %% [markdown]
# Every object of 256 × 256 px or more overflows in this way. labelkit computes areas
# and IoU in at least 32 bits, whatever precision comes in.
#
# ## How many pairs need a number?
#
# To assign labels, we have to compare many **priors**, which are the boxes that a
# detector starts from (chapter 3), with a few ground truths. The usual way is a table
# with one row per prior and one column per ground truth, which broadcasting makes from
# the elementwise function, because `[256, 1, 4]` against `[15, 4]` gives `[256, 15]`.

# %% tags=["nbval-check-output"]
objects = plot.SCENES["crowd"].boxes
places = torch.cartesian_prod(torch.arange(4.0, 128, 8), torch.arange(4.0, 128, 8))
priors = torch.cat([places - 8, places + 8], dim=1)
table = iou(priors[:, None], objects)
empty = (table == 0).float().mean().item()
print(f"{len(table)} x {len(objects)} pairs, {empty:.0%} of them without any overlap")

# %% [markdown]
# In this scene of fifteen small objects, 95 % of the table says nothing. On a real
# image the waste is larger. If an image of 800 × 1344 px has 9 priors at each place of
# the usual five grids, whose places are 8 to 128 px apart, a thousand objects need this
# much memory.

# %% tags=["nbval-check-output"]
cells = 100 * 168 + 50 * 84 + 25 * 42 + 13 * 21 + 7 * 11
print(f"{9 * cells:,} x 1000 pairs, {9 * cells * 1000 * 4 / 1e6:,.0f} MB for one table")

# %% [markdown]
# labelkit never builds such a table. It finds out from the geometry which pairs can
# overlap, keeps their two indices, and evaluates `iou` on these pairs alone, which is
# why every similarity in labelkit is elementwise.

# %% tags=["nbval-check-output"]
prior_index, gt_index = table.nonzero(as_tuple=True)
on_pairs = iou(priors[prior_index], objects[gt_index])
assert torch.equal(on_pairs, table[prior_index, gt_index])
print(f"{len(on_pairs)} pairs carry everything that {table.numel()} cells say")

# %% [markdown]
# ## How wrong is a box that misses?
#
# Whether a prediction misses its object by a hair or by half the image, its IoU is 0. A
# detector that is to improve its boxes would have to know the difference.

# %%
fig, axes = plot.figure(2, width=3.5, height=3.8)
plot.scene(axes[0], (128, 128), [[10, 30, 50, 70]], title="the box around both")
plot.boxes(axes[0], [[78, 60, 118, 100]], "prediction")
plot.boxes(axes[0], [[10, 30, 118, 100]], "prior")
axes[0].fill_between([10, 118], 30, 100, fc="none", ec=plot.GREY, lw=0, hatch="//")
for x in (10, 78):
    axes[0].fill_between([x, x + 40], 30 if x == 10 else 60, 70 if x == 10 else 100,
                         color=plot.GROUND, lw=0)
plot.legend(axes[0], "gt", "prediction")
still, steps = torch.tensor([8.0, 44, 48, 84]), torch.linspace(0, 120, 121)
sliding = still + steps[:, None] * torch.tensor([1, 0, 1, 0])
curves = {"IoU": iou(still, sliding), "GIoU": giou(still, sliding)}
plot.curves(axes[1], steps, curves, xlabel="shift to the right in px")
axes[1].axvline(40, color=plot.GREY, lw=1)
axes[1].text(42, 0.4, "from here on\napart", fontsize=11)
plot.show(fig, alt=(
    "Left, a prediction that misses its object. Hatched is what neither covers of the "
    "smallest box around both. Right, a 40 px square slides away from its object. IoU "
    "stays at 0 once they are apart, whereas GIoU counts the waste and goes on falling."))
assert (curves["IoU"][steps > 40] == 0).all() and (curves["GIoU"].diff() < 0).all()

# %% [markdown]
# As long as the squares on the right overlap, both curves are one, because two squares
# side by side waste nothing. **Generalised IoU** was made for what comes after
# (Rezatofighi 2019, section 3, algorithm 1). Take the smallest box $c$ that encloses
# both. The part of $c$ that neither box covers is wasted, and GIoU subtracts its share:
#
# $$\text{GIoU} = \text{IoU} - \frac{|c| - |a \cup b|}{|c|}$$
#
# Two 2 px squares with a gap of 1 px between them have an enclosing box of 5 · 2
# = 10 px² and a union of 8 px².

# %%
a, b = torch.tensor([0.0, 0, 2, 2]), torch.tensor([3.0, 0, 5, 2])
assert iou(a, b) == 0
torch.testing.assert_close(giou(a, b), torch.tensor(0 - (10 - 8) / 10))

# %% [markdown]
# ### Exercise 01.3: GIoU
# *Difficulty 3 of 5, 12 minutes. Implement.*
#
# Return GIoU for boxes `[..., 4]`, elementwise. All boxes have a positive size. You may
# call `area` and labelkit's `iou`, and you can get the union without the intersection.
# From $\text{IoU} = I / U$ and $U = |a| + |b| - I$ follows
# $U = (|a| + |b|) / (1 + \text{IoU})$.

# %%
def my_giou(a, b):
    """Generalised IoU of boxes a [..., 4] with b [..., 4], elementwise, in (-1, 1]."""
    # BEGIN SOLUTION 01.3
    left_top = torch.minimum(a[..., :2], b[..., :2])
    right_bottom = torch.maximum(a[..., 2:], b[..., 2:])
    enclosing = (right_bottom - left_top).prod(dim=-1)
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
assert giou(torch.tensor([0.0, 0, 1, 1]), torch.tensor([99.0, 99, 100, 100])) < -0.999

# %% [markdown]
# GIoU never exceeds IoU, since it only subtracts. It comes close to −1 for two small
# boxes that are far apart, because they share nothing and waste the enclosing box. As a
# loss, detectors use 1 − GIoU, which is between 0 and 2.
#
# What such a loss needs is a slope. We let a prediction miss its object by 18 px and
# ask by how much each similarity changes per pixel of shift.

# %% tags=["nbval-check-output"]
target = torch.tensor([8.0, 44, 48, 84])
for measure in (iou, giou):
    shift = torch.tensor(58.0, requires_grad=True)
    value = measure(target, target + shift * torch.tensor([1.0, 0, 1, 0]))
    (slope,) = torch.autograd.grad(value, shift)
    numbers = f"value {value.item():5.2f}, slope {slope.item():.4f} per px"
    print(f"{measure.__name__:>4}: {numbers}")

# %% [markdown]
# With IoU the slope is 0, so a network would never be told in which direction its object
# is. At this distance GIoU gains 0.008 with a pixel towards the object.
#
# Two relatives are in use as well, both from one paper (Zheng 2020). **DIoU** subtracts
# the squared distance of the centres, divided by the squared diagonal of the enclosing
# box (equation 7), and **CIoU** subtracts another term for a difference in the aspect
# ratio (equations 8 to 11). They also tell boxes apart when one is inside the other,
# where nothing is wasted and GIoU is the same as IoU. We put three boxes of 1,600 px²
# into one of 10,000 px², the first in its middle, the second off the middle, and the
# third in the middle but long and thin.

# %% tags=["nbval-check-output"]
outer = torch.tensor([14.0, 14, 114, 114])
inner = torch.tensor([[44.0, 44, 84, 84], [64, 64, 104, 104], [54, 24, 74, 104]])
for measure in (iou, giou, diou, ciou):
    middle, off, thin = measure(outer, inner).tolist()
    print(f"{measure.__name__:>4}: middle {middle:.3f}   off {off:.3f}   thin {thin:.3f}")

# %% [markdown]
# IoU and GIoU are 0.16 three times. DIoU is 0.04 lower off the middle and CIoU 0.015
# lower for the thin box, which is little, but a loss needs a slope and not a large
# value.
#
# ## What does one pixel cost?
#
# We return to our question with a number that can answer it. The prediction has the
# right size and is one pixel too far right and one pixel too far down, and we change
# nothing but the size of the object.

# %% tags=["nbval-check-output"]
sides = torch.tensor([4.0, 8, 16, 32, 128])
objects = torch.stack([torch.zeros(5), torch.zeros(5), sides, sides], dim=1)
one_pixel = iou(objects, objects + 1)
for side, value in zip(sides.tolist(), one_pixel.tolist(), strict=True):
    print(f"{side:4.0f} px   IoU after one pixel {value:.2f}")

# %%
assert [round(100 * value) for value in one_pixel.tolist()] == [39, 62, 78, 88, 97]
assert (iou(objects, objects + 2) < 0.5).tolist() == [True, True, False, False, False]

# %% [markdown]
# One pixel costs a 128 px object 0.03 of its IoU and an 8 px object 0.38. With a second
# pixel the small object is already below 0.5. Chapter 16 returns to this table, and
# chapter 17 to the measures that were invented because of it.
#
# No particular detector is to blame, since all of this is geometry. We draw the IoU
# against the error, on the left in pixels and on the right as a share of the side.

# %%
def iou_after_shift(side, shift):
    common = (side - shift) ** 2
    return common / (2 * side**2 - common)

torch.testing.assert_close(iou_after_shift(sides, 1), one_pixel)

# %%
fig, axes = plot.figure(2, width=3.5, height=3.3)
errors = torch.linspace(0, 8, 81)
curves = {f"{side} px": iou_after_shift(side, errors) for side in (8, 32, 128)}
plot.curves(axes[0], errors, curves, xlabel="error in px, right and down", ylabel="IoU")
shares = torch.linspace(0, 0.5, 31)
for start, side, look in ((0, 8, "o"), (1, 32, "s"), (2, 128, "^")):
    some, (color, _) = shares[start::3], plot.CYCLE[start]
    axes[1].plot(some, iou_after_shift(side, side * some), look, color=color, ms=5,
                 label=f"{side} px")
axes[1].set_xlabel("error as a share of the side")
axes[1].legend(fontsize=10)
for ax in axes:
    ax.axhline(0.5, color=plot.GREY, lw=1)
    ax.set(ylim=(0, 1.02))
plot.show(fig, alt=(
    "IoU against the error for three sizes, with the threshold 0.5 in grey. In pixels "
    "the curve of the 8 px object falls below it before 2 px and that of the 128 px "
    "object is still at 0.78 after 8 px. As shares of the side all three are one curve."))
for side in (32, 128):
    same = iou_after_shift(8, 8 * shares), iou_after_shift(side, side * shares)
    torch.testing.assert_close(*same)

# %% [markdown]
# These curves have a closed form, because a square of side $s$ that is moved by $d$ to
# the right and down keeps a common square of side $s - d$:
#
# $$\text{IoU}(s, d) = \frac{(s - d)^2}{2 s^2 - (s - d)^2} \qquad (0 \le d \le s)$$
#
# In a paper on tiny objects, squares of 6 and 36 px are moved by 1 and by 4 px (Wang
# 2021, section 1). Its four numbers are those of the formula:

# %% tags=["nbval-check-output"]
for side in (6, 36):
    after = [f"{iou_after_shift(side, shift):.2f}" for shift in (1, 4)]
    print(f"{side:2} px: from {after[0]} to {after[1]}")

# %%
for side, shift, value in ((6, 1, 0.53), (6, 4, 0.06), (36, 1, 0.90), (36, 4, 0.65)):
    assert round(iou_after_shift(side, shift), 2) == value

# %% [markdown]
# ### Exercise 01.4: how much error is allowed?
# *Difficulty 3 of 5, 12 minutes. Implement.*
#
# Return the distance in pixels by which a square of side `side` may move, right and
# down alike, until its IoU has fallen to `threshold`. Both arguments are plain numbers,
# and `x ** 0.5` is the square root. On paper, solve $\text{IoU}(s, d) = t$ first for
# $(s - d)^2$ and then for $d$.

# %%
def my_tolerance(side, threshold):
    """The diagonal shift in px at which a square's IoU has fallen to `threshold`."""
    # BEGIN SOLUTION 01.4
    common_area = 2 * threshold / (1 + threshold) * side**2
    return side - common_area**0.5
    # END SOLUTION

# %%
course.check("01.4", my_tolerance)

# %% [markdown]
# We can also find the answer by brute force. Of 100,001 shifts we take the largest that
# still reaches the threshold.

# %% tags=["nbval-check-output"]
tolerance = {}
for side in (8, 32, 128):
    tried = torch.linspace(0, side, 100_001, dtype=torch.float64)
    for t in (0.5, 0.7, 0.9):
        tolerance[side, t] = tried[iou_after_shift(side, tried) >= t].max().item()
    row = "   ".join(f"IoU {t}: {tolerance[side, t]:4.1f} px" for t in (0.5, 0.7, 0.9))
    print(f"{side:4} px   {row}")

# %%
assert [round(100 * tolerance[side, 0.5] / side) for side in (8, 32, 128)] == [18, 18, 18]
assert round(72 * tolerance[8, 0.5] / 8) == 13

# %% [markdown]
# At IoU 0.5 the tolerance is 18 % of the side for every size. As long as errors are
# shares of the side, too, IoU treats all objects alike.
#
# Many errors, however, come in pixels. The places where a detector looks are often 8 px
# apart or more, whatever the size of the object (chapter 3), and an annotator sees a
# side no more exactly than the pixels show it. To reach IoU 0.7, a box for an 8 px
# object must be right to 0.7 px, which is less than one pixel of the image it was drawn
# on.
#
# ### The same on real boxes
#
# So far we drew the objects ourselves. Among the course's real photographs are some of
# tree crowns, taken from an aeroplane, with boxes drawn by hand. Where exactly does a
# crown end?

# %%
trees = datasets.neon_trees("test", fold=None)
crowns = [target["boxes"].as_subclass(torch.Tensor) for _, target in trees]

# %%
fig, axes = plot.figure(2, width=3.4, height=3.7)
small_one, photo = crowns[32][26], trees[32][0] / trees[32][0].max()
plot.scene(axes[0], 0.4 + 0.6 * photo, crowns[32], title="boxes drawn by people")
plot.scene(axes[1], 0.4 + 0.6 * photo, small_one, title="one box, and 2 px off")
plot.boxes(axes[1], small_one + 2, "prediction", fill=True)
for box in axes[1].patches:  # a pale rim, so that both are seen in grey too
    box.set_path_effects([patheffects.withStroke(linewidth=5, foreground="white")])
axes[1].set(xlim=(34, 51), ylim=(23, 6))
plot.show(fig, alt=(
    "Left, 32 tree crowns on a meadow. Right, one of them enlarged, 6 px wide, with its "
    "box and the same box 2 px off. A person could just as well have drawn a side one "
    "pixel elsewhere, but the moved box only has an IoU of 0.29."))
assert len(crowns[32]) == 32 and round(iou(small_one, small_one + 2).item(), 2) == 0.29

# %% [markdown]
# We take the boxes of all 725 crowns of the test tiles, move each to the right and down
# by one, two and three pixels, and count which of them still reach IoU 0.5:

# %% tags=["nbval-check-output"]
boxes = torch.cat(crowns)
sizes = area(boxes).sqrt()
classes = {"under 8 px": (0, 8), "8 to 16 px": (8, 16), "16 px and more": (16, 1000)}
for name, (low, high) in classes.items():
    chosen = boxes[(sizes >= low) & (sizes < high)]
    found = [(iou(chosen, chosen + error) >= 0.5).float().mean() for error in (1, 2, 3)]
    row = "   ".join(f"{error} px: {share:4.0%}" for error, share in enumerate(found, 1))
    print(f"{name:14} {len(chosen):3} crowns   {row}")

# %% [markdown]
# Size decides. **After two pixels none of the 130 crowns under 8 px still counts as
# found**, while all 192 crowns of 16 px and more do, and of the 403 between them 67 %. In
# this test the detector knows each crown and its exact size and is only two pixels off,
# but by the usual threshold it has missed every small one.
#
# ## The card
#
# | | IoU |
# |---|---|
# | answers | *how well does it fit?*, the second of chapter 4's four questions |
# | values | 0 to 1, symmetric, independent of place and scale |
# | cost | some twenty operations per pair, so the table of all pairs is what costs |
# | fails when | the boxes do not overlap, neither has an area, or the object is small |
# | repairs | GIoU, DIoU or CIoU; a check of the input; the measures of chapter 17 |
# | report | the threshold, whether it has to be reached or exceeded, lines or columns |
#
# ## How far off may a box be?
#
# It may be off by a fixed share of its side, which for a shift to the right and down is
# 18 % at IoU 0.5. For the 72 px object of the first picture this allows 13 px, for the
# 8 px object 1.5 px, so the same error of three pixels is right for the one and wrong
# for the other. As long as detectors, images and annotators make their errors in
# pixels, a threshold on IoU asks more of a small object than of a large one. IoU is
# still the number to begin with, and you now know on which objects to distrust it.
#
# **Next.** A detector reports the same object many times, with boxes that overlap.
# Chapter 2 uses IoU to keep one box per object, and asks what becomes of objects that
# overlap themselves.
#
# ## Recap
#
# - A box is four numbers and a convention. Convert once, draw some boxes, and find out
#   whether the code counts lines or columns.
# - The intersection runs from the later start to the earlier end, raised to 0 *on each
#   axis* before the product, and the union is the sum of the areas minus the
#   intersection.
# - NaN, as from 0 / 0, wins every argmax. labelkit's `iou` is 0 there.
# - GIoU subtracts the wasted share of the enclosing box, so it still ranks boxes that do
#   not overlap.
# - At every size IoU tolerates the same *share* of the side, which for a small object is
#   less than two pixels.
#
# ## Recall
#
# <details><summary>1. Two boxes are apart, one above and to the left of the other. Code
# without a guard reports a positive intersection. Why?</summary>
#
# Both overlaps are negative, and the product of two negative numbers is positive. The
# overlap has to be raised to 0 on each axis before the product.
# </details>
#
# <details><summary>2. A prediction is inside the true box and covers a ninth of it. What
# are IoU and GIoU?</summary>
#
# Both are 1/9. The intersection is the prediction and the union is the true box. Since
# the enclosing box is the true box too, nothing is wasted.
# </details>
#
# <details><summary>3. A 100 px object may be moved by about 18 px, right and down, until
# IoU is 0.5. How far may a 10 px object be moved?</summary>
#
# By about 1.8 px, because the tolerance is a share of the side.
# </details>
#
# ## References
#
# - M. Everingham and others, *The PASCAL Visual Object Classes (VOC) Challenge*, IJCV
#   2010, section 4.2: IoU above 0.5.
# - H. Rezatofighi and others, *Generalized Intersection over Union*, CVPR 2019, arXiv
#   1902.09630, section 3: GIoU.
# - Z. Zheng and others, *Distance-IoU Loss*, AAAI 2020, arXiv 1911.08287, equations 7 to
#   11: DIoU and CIoU.
# - J. Wang and others, *A Normalized Gaussian Wasserstein Distance for Tiny Object
#   Detection*, 2021, arXiv 2110.13389, section 1: IoU on small objects.
# - The authors' code of FCOS, `fcos_core/modeling/rpn/fcos/loss.py` (distances and
#   areas), and maskrcnn-benchmark, `structures/bounding_box.py` (`area()`), on which it
#   is based.
# - B. Weinstein and others, the tree crowns: `data/neon_trees/ATTRIBUTION.md`.
