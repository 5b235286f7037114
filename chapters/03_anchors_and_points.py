# %% [markdown]
# # 03 · Give every box a place to start from
#
# One photograph shows three trees and another one thirty-two, yet a network returns the
# same number of values for both. Each value therefore belongs to a place that was fixed
# before the network saw the image, and says how an object differs from that place. In
# this chapter you build the two kinds of places that are in use, and the two encodings
# that turn four numbers at a place into a box. Meanwhile we follow one question. Which
# objects find no place that could describe them?

# %%
import math

import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_convert

import labelkit_course as course
from labelkit import Priors, datasets, plot
from labelkit.assigners import ATSS, FCOS
from labelkit.boxes import (
    area,
    centers,
    decode_deltas,
    decode_ltrb,
    encode_deltas,
    encode_ltrb,
)
from labelkit.detectors import retinanet
from labelkit.similarity import iou

# %%
tiles = datasets.neon_trees("test", fold=None)
fixed = Priors.points((128, 128), strides=(16,)).centers
fig, axes = plot.figure(2, width=2.9, height=3.1)
without = []

for ax, (photo, marked) in zip(axes, (tiles[31], tiles[32]), strict=True):
    holds = encode_ltrb(torch.as_tensor(marked["boxes"]), fixed[:, None]).amin(dim=-1) > 0
    without.append(int((holds.sum(dim=0) == 0).sum()))
    photo = 0.4 + 0.6 * photo           # paler, so that the boxes stand out
    plot.scene(ax, photo, marked["boxes"], title=f"{holds.shape[1]} tree crowns")
    ax.scatter(*fixed.T, s=14, color="white", edgecolors=plot.INK, lw=1, zorder=8)
plot.show(fig, alt=(
    "Two aerial photographs of one size, with 3 and with 32 tree crowns, under the same "
    "64 places. The places do not depend on the photograph, so each crown on the left "
    "holds one of them, and many on the right hold none."))
assert without == [0, 18] and len(fixed) == 64

# %% [markdown]
# The network cannot know how many crowns it will meet, so it gives 64 answers about
# either photograph. On the right, 18 of the 32 crowns fall between the places. Whether
# that puts them out of reach depends on what a place may report, and on how far apart the
# places are.
#
# **You will be able to**
# - lay out the points and anchors of a feature pyramid, and count them beforehand;
# - say which place a row of the network's output belongs to, and find the bug when it
#   belongs to another;
# - encode a box as a difference from an anchor or from a point, and decode it again;
# - tell from an object's size and the stride which anchors can fit it, before any
#   training.
#
# **You need** chapter 1 (boxes, IoU), 30 minutes to read and 49 to solve the exercises,
# and a few seconds of CPU.
#
# ## One output cannot learn two objects
#
# Chapter 2 had to remove boxes, because the detector had reported every object several
# times. Since fewer outputs would be cheaper, we begin with the smallest network there
# is. Its four free numbers make one box, and we let it reduce the squared error to two
# objects.

# %%
two = torch.tensor([[10.0, 12, 50, 52], [74, 70, 118, 114]])
learned = torch.zeros(4, requires_grad=True)
optimizer = torch.optim.SGD([learned], lr=0.1)
for _ in range(100):
    optimizer.zero_grad()
    ((learned - two) ** 2).sum(dim=1).mean().backward()
    optimizer.step()

# %%
fig, (ax,) = plot.figure(width=3.6, height=3.8)
plot.scene(ax, (128, 128), two, title="one output, two objects")
plot.boxes(ax, learned, "prediction", fill=True)
plot.legend(ax, "gt", "prediction")
plot.show(fig, alt=(
    "Two objects in opposite corners, and the box that one output has learned from both. "
    "It is between them and overlaps each at one corner only."))

# %% tags=["nbval-check-output"]
print("what it learned:", [round(value) for value in learned.tolist()])
print("IoU with each object:", [f"{v:.2f}" for v in iou(learned.detach(), two).tolist()])
torch.testing.assert_close(learned.detach(), two.mean(dim=0), atol=0.01, rtol=0)

# %% [markdown]
# The network has learned the mean of the two boxes, and its IoU with either object is
# 0.04 at most. Training did what we asked for. We had given one set of four outputs, a
# **slot**, two different answers to learn, and a second slot would not help as long as
# nothing says which object is its own.
#
# Detectors therefore fix many places in the image beforehand. Each place has a slot of
# its own, which answers for what is near it and for nothing else. Such a place is called
# a **prior**, since it is what the network knows before it has looked.
#
# ## The places are the cells of the network's maps
#
# How many places there are, and where, follows from how a detector is built. We follow
# the way from an image to its boxes and look for the places:

# %%
plot.show(course.pipeline(), alt=(
    "The parts of a detector. The places at which the head predicts its boxes, the "
    "priors, come from the pyramid and are the same for every image. Only in training "
    "does the assigner tell each of them what to learn."))

# %% [markdown]
# In a detector's backbone, a convolutional network reduces the image step by step to
# *feature maps*, small images whose pixels are vectors. One pixel of a map, a **cell**,
# stands for a square of the input, and the side of that square is the **stride** $s$.
# From the vector of each cell the head computes the outputs of one slot or of several. A
# cell is thus a place, and this chapter is about the step from the head's numbers to
# boxes. What each prior should learn is decided in the lower row, from chapter 4 on.
#
# To see in which order the cells come, we cut an input of 80 × 48 px into cells of stride
# 16:

# %%
fig, (ax,) = plot.figure(width=5.0, height=3.4)
plot.scene(ax, (48, 80), title="3 rows and 5 columns at stride 16")
ax.set_xticks(range(0, 81, 16))
ax.set_yticks(range(0, 49, 16))
ax.grid(color=plot.FAINT, lw=1)
for number in range(15):
    ax.text(16 * (number % 5) + 9, 16 * (number // 5) + 7, str(number), fontsize=12)
plot.points(ax, Priors.points((48, 80), (16,)).centers, "prior")
plot.show(fig, alt=(
    "Fifteen cells of 16 px with a point in the middle of each. They are counted along "
    "the rows, from the upper left to the lower right, and the network lists its outputs "
    "in the same order."))

# %% [markdown]
# Cell $(i, j)$, in row $i$ and column $j$, covers the input from $js$ to $(j + 1)s$ in x
# and from $is$ to $(i + 1)s$ in y. The point in its middle is
#
# $$x = (j + 0.5)\, s, \qquad y = (i + 0.5)\, s,$$
#
# where 0.5 is the *offset*, which says how far into the cell its point is. Other offsets
# are in use as well, and a later section shows what they change.
#
# ## No single map serves all sizes
#
# A fine map has a cell for every small object, but the vector of each cell is computed
# from a small part of the image. On a coarse map each cell sees more, and there are few
# cells. Detectors therefore use several maps at once, a **feature pyramid**, in which
# every level has twice the stride of the level before (Lin 2017a, section 3). RetinaNet
# and FCOS, the detectors of chapters 5 and 6, call their levels P3 to P7, because
# $2^3 = 8$, and use these strides:

# %%
INPUT = (800, 1344)                     # height and width in px, usual for both detectors
STRIDES, FINER = (8, 16, 32, 64, 128), (4, 8, 16, 32, 64)

# %% [markdown]
# ### Exercise 03.5: where are they all?
# *Difficulty 1 of 5, 3 minutes. Predict.*
#
# On an input of 800 × 1344 px every cell of the five levels has one point. Guess what
# share of all points belongs to the level of stride 8, as a number between 0 and 1, and
# by what factor the total grows if the strides are `FINER` instead of `STRIDES`. A guess
# counts if the share is within 0.04 and the factor within 0.3. The cell after your guess
# prints the truth once both are filled in.

# %%
# BEGIN GIVEN
# my_guess = {"share on stride 8": ..., "factor": ...}
# BEGIN SOLUTION 03.5
my_guess = {"share on stride 8": 0.75, "factor": 4.0}
# END SOLUTION

# %%
def where_they_are():
    points, finer = Priors.points(INPUT, STRIDES), Priors.points(INPUT, FINER)
    for stride, count in zip(STRIDES, points.level_sizes, strict=True):
        print(f"stride {stride:3}: {count:6,} points, {count / len(points):5.1%} of all")
    print(f"from stride 8: {len(points):,} points, from stride 4: {len(finer):,} points,")
    print(f"{len(finer) / len(points):.2f} times as many")

course.predict("03.5", my_guess, where_they_are)

# %% [markdown]
# Counting shows what a fine level costs. What it buys is the subject of the last two
# sections, once we know what a point and an anchor can report.
#
# ## Lay out the points
#
# From the formula you know where each point is, and from the picture in which order they
# come.
#
# ### Exercise 03.1: the points of a level
# *Difficulty 2 of 5, 8 minutes. Implement.*
#
# Return the points of a feature map as a tensor `[rows * columns, 2]` of (x, y). They
# come in the order of the picture, along the first row from left to right, then along the
# second row, and so on.
#
# `torch.arange(5)` counts from 0 to 4. `torch.meshgrid(a, b, indexing="ij")` returns two
# tables of shape `[len(a), len(b)]`, and at row i and column j the first holds `a[i]` and
# the second `b[j]`.

# %%
def my_points(rows, columns, stride, offset=0.5):
    """The points (x, y) of a feature map, [rows * columns, 2], in pixels of the input."""
    # BEGIN SOLUTION 03.1
    i, j = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    x, y = (j + offset) * stride, (i + offset) * stride
    return torch.stack([x.flatten(), y.flatten()], dim=1)
    # END SOLUTION

# %%
course.check("03.1", my_points)

# %% [markdown]
# `Priors.points` is the library's form. It takes the size of the image, computes the rows
# and columns from it, and rounds them up, because a network pads its maps rather than
# lose pixels. At stride 16 a height of 50 px therefore needs four rows, although the last
# row is mostly outside the image. A point is stored as a box of size zero.

# %%
level = Priors.points((50, 80), strides=(16,))
by_formula = [((j + 0.5) * 16, (i + 0.5) * 16) for i in range(4) for j in range(5)]
assert torch.equal(level.centers, torch.tensor(by_formula))
assert (level.boxes[:, :2] == level.boxes[:, 2:]).all()

# %% [markdown]
# ### Exercise 03.6: the leaning grid
# *Difficulty 2 of 5, 6 minutes. Find the bug.*
#
# A detector works on images that are 96 px wide. When somebody gives it a width of
# 103 px, its boxes are shifted, and the lower they are in the image, the larger is the
# shift. No error is raised, and the number of points is right. Find the fault in
# `their_points` and mend it for images of every size. Rows and columns are rounded up as
# above, and `n` numbers the points in the order of the network's output.

# %%
def their_points(height, width, stride):
    """The points (x, y) of all cells of an image, [rows * columns, 2], along the rows."""
    # BEGIN GIVEN
    # n = torch.arange(math.ceil(height / stride) * math.ceil(width / stride))
    # columns = width // stride
    # x, y = n % columns + 0.5, n // columns + 0.5
    # return stride * torch.stack([x, y], dim=1)
    # BEGIN SOLUTION 03.6
    n = torch.arange(math.ceil(height / stride) * math.ceil(width / stride))
    columns = math.ceil(width / stride)
    x, y = n % columns + 0.5, n // columns + 0.5
    return stride * torch.stack([x, y], dim=1)
    # END SOLUTION

# %%
course.check("03.6", their_points)

# %% [markdown]
# What hid the fault was a list of the right length. Two tensors may agree in shape while
# their rows mean different places, and we come back to this when a cell has several
# shapes.
#
# ## What can four numbers at a place say?
#
# We might ask a slot for the four coordinates of a box. Can the network know them? Four
# convolutions with random weights are enough to find out. We cut two windows from the
# photograph with 32 crowns, and the second starts 16 px farther to the right and 16 px
# farther down. Because 16 px are one cell, what a cell of the first window sees is seen
# by its upper left neighbour in the second.

# %%
trees = datasets.neon_trees("test", fold=None)
image, crowns = trees[32][0], torch.as_tensor(trees[32][1]["boxes"])
torch.manual_seed(0)
layers = [(nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.ReLU()) for _ in range(4)]
convolutions = nn.Sequential(*(layer for pair in layers for layer in pair))

# %% tags=["nbval-check-output"]
with torch.no_grad():
    first = convolutions(image[None, :, :112, :112])[0]
    second = convolutions(image[None, :, 16:, 16:])[0]
here, there = first[:, 1:, 1:], second[:, :-1, :-1]     # cells that see the same pixels
same = (here - there).abs().amax(dim=0) < 1e-5
print(f"the same vector in {int(same.sum())} of {same.numel()} cells")
print(f"in all but the first row and column: {bool(same[1:, 1:].all())}")
assert (here - there).abs().max() > 1e-3

# %% [markdown]
# Apart from the cells at the border of a window, which see the padding, the vectors are
# the same. Wherever in the image some pixels are, a convolution makes the same vector of
# them, and this is called *translation equivariance*. Between the two windows the
# coordinates of a crown differ by 16 px, so we cannot compute them from vectors that do
# not differ. How far the crown is from its cell, however, has stayed the same as well.
# **The four numbers of a slot therefore say how an object differs from the prior.**
#
# There are two ways to say it. An **anchor** is a prior with a size, and the difference
# is a shift and a change of size. A **point** has none, and the difference is four
# distances to the sides.

# %%
anchor, point = torch.tensor([36.0, 44, 84, 92]), torch.tensor([60.0, 68])
truth = torch.tensor([44.0, 30, 108, 88])

# %%
fig, axes = plot.figure(2, width=2.9, height=3.4)
for ax, title in zip(axes, ("from an anchor", "from a point"), strict=True):
    plot.scene(ax, (128, 128), truth, title=title)
plot.boxes(axes[0], anchor, "prior")
plot.points(axes[0], centers(anchor), "prior")
plot.points(axes[0], centers(truth), "gt")
axes[0].annotate("", centers(truth).tolist(), centers(anchor).tolist(),
                 arrowprops={"arrowstyle": "->", "lw": 1.8})
plot.points(axes[1], point, "prior")
px, py = point.tolist()
for name, end in {"l": (44, py), "r": (108, py), "t": (px, 30), "b": (px, 88)}.items():
    plot.dimension(axes[1], (px, py), end, name)
plot.legend(axes[0], "gt", prior="anchor")
plot.legend(axes[1], "gt", prior="point")
plot.show(fig, alt=(
    "The same object, measured twice. An anchor needs a shift, drawn as an arrow between "
    "the two centres, and a change of width and height. From a point inside the object "
    "four distances l, t, r and b lead to the sides."))

# %% [markdown]
# If all four numbers of a slot are zero, there is no difference, so an anchor reports
# itself, and a point reports a box of size zero at its own place. In that sense a prior
# is the *zero point* of its slot. How near to it does a network start?

# %%
zero = torch.zeros(4)
assert torch.equal(decode_deltas(zero, anchor), anchor)
assert torch.equal(decode_ltrb(zero, point), torch.cat([point, point]))

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
untrained = retinanet(1).eval()         # the small detector that chapter 7 trains
with torch.no_grad():
    maps = list(untrained.backbone(image[None]).values())
    numbers = untrained.head(maps)["bbox_regression"][0]
print(f"the four numbers of {len(numbers):,} untrained slots: {numbers.abs().mean():.1f} "
      "from zero on average")
assert numbers.abs().mean() < 0.15

# %% [markdown]
# Before any training, the boxes of this detector differ from their anchors by a tenth of
# an anchor's width or so. Each slot begins its search at its prior.
#
# ## Anchors give one place several shapes
#
# A fixed size fits some objects and not others, which is why an anchor rarely comes
# alone. Faster R-CNN put nine shapes into each cell, three sizes times three ratios (Ren
# 2015, section 3.1.1). How should a shape change when its ratio does?

# %%
nine = Priors.anchors((128, 128), (128,), sizes=((32, 44, 58),), ratios=(0.5, 1, 2))
fig, axes = plot.figure(2, width=2.9, height=3.1)
groups = {"one ratio": [3, 4, 5], "one size": [0, 3, 6]}
for ax, (title, shapes) in zip(axes, groups.items(), strict=True):
    plot.scene(ax, (128, 128), title=title)
    plot.boxes(ax, nine.boxes[shapes], "prior", labels=[str(shape) for shape in shapes])
    plot.points(ax, nine.centers[:1], "prior")
    ax.set(xlim=(24, 104), ylim=(104, 24))
plot.show(fig, alt=(
    "Two groups of the nine anchors of a cell, numbered as they are stored. Shapes 3, 4 "
    "and 5 are squares of growing size. Shapes 0, 3 and 6 are lying, square and "
    "standing, and cover the same area."))
same_area = area(nine.boxes).reshape(3, 3)
torch.testing.assert_close(same_area, same_area[:1].expand(3, 3))

# %% [markdown]
# Two numbers describe a shape. Its *size* $a$ is the side of the square with the same
# area, and its *ratio* $r$ is height divided by width. If a change of the ratio is to
# leave the area alone, width and height must be
#
# $$w = a / \sqrt{r}, \qquad h = a \sqrt{r}, \qquad \text{so that} \quad w \cdot h = a^2
# \quad \text{and} \quad h / w = r.$$

# %% tags=["nbval-check-output"]
for ratio in (0.5, 1.0, 2.0):
    width, height = 32 / ratio**0.5, 32 * ratio**0.5
    print(f"ratio {ratio}: {width:5.2f} x {height:5.2f} px, area {width * height:.0f}")
    assert abs(width * height - 32**2) < 1e-9 and abs(height / width - ratio) < 1e-9

# %% [markdown]
# ### Exercise 03.2: the shapes of a cell
# *Difficulty 2 of 5, 10 minutes. Implement.*
#
# Return width and height of every shape as a tensor `[len(ratios) * len(sizes), 2]`. As
# in the picture and in torchvision, all sizes of the first ratio come before those of the
# second, which is called *ratio-major*. Sizes and ratios are tuples of numbers, and
# nothing is rounded.

# %%
def my_shapes(sizes, ratios):
    """(width, height) of a cell's anchors; a ratio is height / width; ratio-major."""
    # BEGIN SOLUTION 03.2
    side = torch.tensor(sizes, dtype=torch.float32)
    root = torch.tensor(ratios, dtype=torch.float32).sqrt()[:, None]
    return torch.stack([(side / root).flatten(), (side * root).flatten()], dim=1)
    # END SOLUTION

# %%
course.check("03.2", my_shapes)

# %% [markdown]
# RetinaNet puts nine anchors into each cell (Lin 2017b, section 4). The level of stride 8
# begins at size 32, the next one at 64, and the last one at 512, which is four strides
# each time. Between a level's first size and that of the next level there are two more,
# larger by $2^{1/3}$ and by $2^{2/3}$.

# %% tags=["nbval-check-output"]
sizes = [[4 * stride * 2 ** (step / 3) for step in range(3)] for stride in STRIDES]
anchors = Priors.anchors(INPUT, STRIDES, sizes, ratios=(0.5, 1, 2))
print(f"{len(anchors):,} anchors, {anchors.boxes.numel() * 4 / 1e6:.1f} MB of boxes")
print("sizes of the first two levels:", [round(size, 1) for size in sizes[0] + sizes[1]])
assert len(anchors) == 201_600

# %% [markdown]
# ## Which place does a row belong to?
#
# Row $n$ of the long table that a network returns belongs to prior $n$ only because both
# sides count in the same order, which is level, row, column, shape. Nothing in a tensor
# says so.

# %%
small = Priors.anchors((32, 48), strides=(16, 32), sizes=((13, 10), (26, 16)))
fig, axes = plot.figure(1, 2, width=4.8, height=2.9)
for index, ax in enumerate(axes):
    numbers = (small.levels == index).nonzero()[:, 0].tolist()
    plot.scene(ax, (32, 64), title=f"level {index}: priors {numbers[0]} to {numbers[-1]}")
    plot.boxes(ax, small.boxes[numbers], "prior")
    for number in numbers[::2]:
        cx, cy = small.centers[number].tolist()
        ax.text(cx, cy, f"{number}, {number + 1}", ha="center", va="center", fontsize=12,
                zorder=9, bbox={"fc": plot.GROUND, "lw": 0, "pad": 1})
    ax.axvline(48, color=plot.GREY, lw=2, ls="--")
plot.show(fig, alt=(
    "The anchors of two levels with two shapes per cell, numbered in the order of the "
    "output. Level 1 continues where level 0 ends, and extends over the right border of "
    "the image, drawn as a dashed line."))

# %% [markdown]
# ### Exercise 03.3: from a row of the output to its prior
# *Difficulty 3 of 5, 12 minutes. Implement.*
#
# Return level, row, column and shape of prior number `index`, all counted from 0.
# `level_shapes` lists (rows, columns) of each level, and every cell has `shapes` shapes.
# Python's `divmod(17, 5)` is `(3, 2)`, because 17 is three times 5 with 2 left over.

# %%
def my_place(index, level_shapes, shapes):
    """(level, row, column, shape) of prior number `index`, in the order of the output."""
    # BEGIN SOLUTION 03.3
    for level, (rows, columns) in enumerate(level_shapes):
        count = rows * columns * shapes
        if index < count:
            cell, shape = divmod(index, shapes)
            row, column = divmod(cell, columns)
            return level, row, column, shape
        index = index - count
    # END SOLUTION

# %%
course.check("03.3", my_place)

# %% [markdown]
# Now let the two sides count differently, and suppose that one of them lists the points
# column by column. Since each point is still in the list once, a test that compares
# *sets* of points passes, and the shapes agree as well:

# %% tags=["nbval-check-output"]
right = Priors.points((128, 192), strides=(8,)).centers
wrong = right.reshape(16, 24, 2).transpose(0, 1).reshape(-1, 2)
same_set = torch.equal(right.unique(dim=0), wrong.unique(dim=0))
distance = (right - wrong).norm(dim=1)
print(f"same shape: {right.shape == wrong.shape}, same set of points: {same_set}")
moved, far = (distance > 0).float().mean(), distance.mean()
print(f"{moved:.0%} of the rows mean another place, {far:.0f} px away on average")
assert same_set and moved > 0.99 and round(distance.mean().item()) == 81

# %% [markdown]
# A network with this fault would be trained without an error, although each row is asked
# for objects that are some 80 px from the place it sees. If your detector's boxes make no
# sense, check the order first. Decode zeros and draw the first ten boxes with their
# numbers, because a drawing of all boxes looks the same for both orders.
#
# ## Half a stride
#
# About the place of a prior in its cell the sources disagree. Beside torchvision the
# table has mmdet and detectron2, two other libraries of detectors.
#
# | | place of cell $i$ |
# |---|---|
# | FCOS, the paper (section 3.1) | $\lfloor s/2 \rfloor + i s$ |
# | FCOS in mmdet and detectron2 | $(i + 0.5)\, s$ |
# | labelkit, unless told otherwise (`offset=0.5`) | $(i + 0.5)\, s$ |
# | RetinaNet in mmdet and torchvision, torchvision's FCOS | $i s$ |
#
# If the stride is even, the first three are the same place. What does the fourth change?

# %%
fig, axes = plot.figure(2, width=2.9, height=3.1)
for ax, offset in zip(axes, (0.5, 0.0), strict=True):
    plot.scene(ax, (64, 64), [[44, 44, 64, 64]], title=f"offset {offset}")
    ax.set_xticks(range(0, 65, 16))
    ax.set_yticks(range(0, 65, 16))
    ax.grid(color=plot.FAINT)
    plot.points(ax, Priors.points((64, 64), (16,), offset=offset).centers, "prior")
    ax.set(xlim=(-3, 65), ylim=(65, -3))
plot.show(fig, alt=(
    "Points of stride 16 on an image of 64 px. With offset 0 they begin on the left and "
    "upper border and end 16 px before the right and lower one, so an object in the "
    "lower right corner is farther from its nearest point."))

# %% tags=["nbval-check-output"]
corners = torch.tensor([[0.0, 0], [64, 64]])
for offset in (0.5, 0.0):
    points = Priors.points((64, 64), (16,), offset=offset).centers
    mirrored = points * torch.tensor([-1, 1]) + torch.tensor([64, 0])
    symmetric = torch.equal(mirrored.unique(dim=0), points.unique(dim=0))
    nearest = [f"{gap:.1f}" for gap in torch.cdist(corners, points).amin(dim=1).tolist()]
    print(f"offset {offset}: upper left corner {nearest[0]} px from a point, lower right "
          f"{nearest[1]} px; mirror symmetric: {symmetric}")
    assert symmetric == (offset == 0.5)

# %% [markdown]
# With offset 0 the grid leans to the upper left. Its mirror image is another grid, so if
# you mirror an image to augment the training set, its objects lie otherwise among the
# points than before.
#
# Does it matter for labels? FCOS, the method of chapter 6, calls a point *positive* if it
# has to report an object. Such a point is inside the object, on a level that suits the
# distance to the farthest side. We take one object from mmdet's tests and change the
# offset.

# %% tags=["nbval-check-output"]
one, found = {"boxes": torch.tensor([[23.6667, 23.8757, 238.6326, 151.8874]])}, {}
for offset in (0.5, 0.0):
    labels = FCOS()(Priors.points((256, 256), STRIDES, offset), one)
    found[offset] = int(labels.positive.sum())
    print(f"offset {offset}: {found[offset]} positives")
assert found == {0.5: 32, 0.0: 48}

# %% [markdown]
# Half a stride gives the same object half as many positives again, 48 instead of 32. In
# torchvision's FCOS the half stride is missing by choice, and one of its developers
# writes that the accuracy does not suffer (torchvision issue 7473). What matters is that
# training and use agree. If you compare two libraries, or load weights from another one,
# the offset is among the first things to check.
#
# The mirror remains. If nothing depends on which side is left, a mirrored photograph gets
# the mirrored labels. We test it on the photograph with 32 crowns, with square anchors of
# 16, 32 and 64 px and with ATSS, the rule of chapter 9:

# %%
def positive_cells(boxes, offset):
    """Which cells have a positive anchor, one table for each of three levels."""
    priors = Priors.anchors((128, 128), (4, 8, 16), ((16,), (32,), (64,)), offset=offset)
    positive = ATSS()(priors, {"boxes": boxes}).positive
    fine, middle, coarse = positive.split([32**2, 16**2, 8**2])
    return fine.reshape(32, 32), middle.reshape(16, 16), coarse.reshape(8, 8)

# %% tags=["nbval-check-output"]
in_mirror = crowns[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1])
in_mirror = in_mirror + torch.tensor([128, 0, 128, 0])
for offset in (0.5, 0.0):
    here, there = positive_cells(crowns, offset), positive_cells(in_mirror, offset)
    counts = [sum(int(level.sum()) for level in levels) for levels in (here, there)]
    lost = sum(int((a.flip(1) & ~b).sum()) for a, b in zip(here, there, strict=True))
    print(f"offset {offset}: {counts[0]} positives, {counts[1]} in the mirror, where "
          f"{lost} cells have lost theirs")
    assert (counts, lost) == (([129, 129], 0) if offset else ([122, 120], 58))

# %% [markdown]
# With anchors in the middle of the cells, the mirrored photograph gets exactly the
# mirrored labels. With anchors on the corners it gets two positives fewer, and of the 122
# cells with a positive 58 have none in the mirror, because the anchor of the mirrored
# cell is one stride beside the mirrored anchor.
#
# ## What torchvision's anchors do differently
#
# torchvision makes the anchors of Faster R-CNN, RetinaNet and FCOS with an
# `AnchorGenerator`, which differs from the formulas above in three ways. The first is the
# offset, which is 0 in all three. (Its SSD has a generator of its own, with half a cell.)
# From chapter 7 on, this course trains small detectors that use the same class and move
# its anchors by half a stride, into the middle of the cells:

# %% tags=["nbval-check-output"]
ours = retinanet(1).anchor_generator.generator
makers = {"torchvision": AnchorGenerator(((16,),), ((1.0,),)), "the small detector": ours}
for name, maker in makers.items():
    (x, y), = centers(maker.cell_anchors[0])[:1].tolist()
    print(f"{name}: the first anchor of stride 4 is at ({x:.0f}, {y:.0f})")
    assert x == y == (0 if name == "torchvision" else 2)

# %% [markdown]
# The second difference is that it rounds the corners of every shape to whole pixels.

# %% tags=["nbval-check-output"]
print("size, ratio     meant, px   made, px   share of the area")
kept = {}
for size, ratio in ((4, 1), (5, 1), (7, 1), (16, 1), (7, 0.5), (128, 0.5)):
    made = AnchorGenerator(((size,),), ((ratio,),)).cell_anchors[0][0]
    width, height = (made[2:] - made[:2]).tolist()
    kept[size, ratio] = width * height / size**2
    meant = f"{size / ratio**0.5:.1f} x {size * ratio**0.5:.1f}"
    print(f"{size:4}, {ratio:<4} {meant:>14} {f'{width:.0f} x {height:.0f}':>10} "
          f"{kept[size, ratio]:19.0%}")
assert kept[5, 1] == 16 / 25 and kept[7, 1] == 64 / 49 and abs(kept[128, 0.5] - 1) < 0.01

# %% [markdown]
# At 128 px the rounding changes less than 1 % of the area. A square of 5 px, however,
# becomes one of 4, and a square of 7 becomes one of 8, because half of an odd side ends
# in .5 and is rounded to the even neighbour. If you shrink torchvision's anchors for
# small objects, print what you got. `Priors.anchors` does not round.
#
# The third difference shows on coarse levels only. Because the generator is not told the
# strides, it divides the size of the image by the size of the map and drops the
# remainder:

# %% tags=["nbval-check-output"]
map_shapes = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
for (rows, columns), stride in zip(map_shapes, STRIDES, strict=True):
    in_x, in_y = INPUT[1] // columns, INPUT[0] // rows
    print(f"stride {stride:3}: torchvision's spacing is {in_x:3} px in x, {in_y:3} in y")
assert (in_x, in_y) == (122, 114)

# %% [markdown]
# At stride 64 the spacing in y is 61 px, and at stride 128 it is 122 px by 114, since the
# maps were rounded up and the grid is squeezed to fit the image. An assigner that
# computes places from the nominal stride is wrong by many pixels there.
# `Priors.from_torchvision` takes the generator as it is, and its boxes equal
# torchvision's bit by bit.

# %%
whole = tuple(tuple(int(size) for size in level_sizes) for level_sizes in sizes)
generator = AnchorGenerator(whole, aspect_ratios=((0.5, 1.0, 2.0),) * 5)
priors = Priors.from_torchvision(generator, INPUT, map_shapes, strides=STRIDES)

# %%
batch = ImageList(torch.empty(1, 3, *INPUT), [INPUT])
theirs = generator(batch, [torch.empty(1, 1, *shape) for shape in map_shapes])[0]
assert torch.equal(priors.boxes, theirs) and len(priors) == 201_600
assert not torch.equal(priors.boxes, anchors.boxes)         # offset, rounding and spacing
# %% [markdown]
# ## Encode a box as a difference from its anchor
#
# We have yet to choose the four numbers of an anchor's slot. Plain differences of the
# corners would do. But a shift of 8 px is small for an anchor of 512 px and the whole
# width of one of 8 px. What the network sees, on the other hand, are the features of a
# cell, and they look alike for a small object on a fine level and a large one on a coarse
# level. If the same look is to ask for the same numbers, the shift has to be measured in
# widths and heights of the anchor (Ren 2015, section 3.1.2, equation 2):
#
# $$t_x = \frac{x - x_a}{w_a}, \qquad t_y = \frac{y - y_a}{h_a}, \qquad
# t_w = \ln \frac{w}{w_a}, \qquad t_h = \ln \frac{h}{h_a}.$$
#
# Here $(x, y)$ is the centre of the object and $(w, h)$ its size, and the anchor's are
# marked by $a$. Because of the logarithm, twice as wide and half as wide are equally far
# from zero, and every $t_w$ gives a positive width.

# %%
def deltas_of_one(box, anchor):
    x, y, w, h = box_convert(box, "xyxy", "cxcywh")
    xa, ya, wa, ha = box_convert(anchor, "xyxy", "cxcywh")
    return torch.stack([(x - xa) / wa, (y - ya) / ha, (w / wa).log(), (h / ha).log()])

# %%
assert torch.allclose(encode_deltas(truth, anchor), deltas_of_one(truth, anchor))

# %% tags=["nbval-check-output"]
for scale in (1, 4, 16):
    code = encode_deltas(truth * scale, anchor * scale)
    numbers = "  ".join(f"{number:+.3f}" for number in code.tolist())
    print(f"both {scale:2} times as large: {numbers}")
    torch.testing.assert_close(code, encode_deltas(truth, anchor))
double, half = torch.tensor([36.0, 44, 132, 92]), torch.tensor([36.0, 44, 60, 92])
wider, narrower = encode_deltas(double, anchor)[2], encode_deltas(half, anchor)[2]
print(f"twice as wide: tw = {wider:+.3f}, half as wide: tw = {narrower:+.3f}")

# %% [markdown]
# ### Exercise 03.4: decode
# *Difficulty 3 of 5, 10 minutes. Implement.*
#
# Return the boxes that differ from `anchors` by `deltas`, as corners, in the same shape
# `[..., 4]`. This way back runs on everything that a detector reports. Solve the four
# equations for $x, y, w, h$, then build the corners. The tensors may have any number of
# dimensions, from a single box to a batch.

# %%
def my_decode(deltas, anchors):
    """Boxes [..., 4], xyxy, that differ from the anchors by deltas = tx, ty, tw, th."""
    # BEGIN SOLUTION 03.4
    size = anchors[..., 2:] - anchors[..., :2]
    center = (anchors[..., :2] + anchors[..., 2:]) / 2 + deltas[..., :2] * size
    half = deltas[..., 2:].exp() * size / 2
    return torch.cat([center - half, center + half], dim=-1)
    # END SOLUTION

# %%
course.check("03.4", my_decode)

# %% [markdown]
# Encoding and decoding must cancel for every anchor, and such a *round trip* is the first
# test to write for a detector. We let it run over each of the 32 crowns with each of
# 1,344 anchors.

# %% tags=["nbval-check-output"]
net = Priors.anchors((128, 128), strides=(4, 8, 16), sizes=((16,), (32,), (64,)))
code = encode_deltas(crowns, net.boxes[:, None])
back = decode_deltas(code, net.boxes[:, None])
wrong = (back - crowns).abs().amax(dim=-1) > 0.001
print(f"{wrong.sum()} of {wrong.numel():,} boxes come back more than 0.001 px beside")

# %%
assert code.shape == (1344, 32, 4) and not wrong.any()

# %% [markdown]
# With the exponential comes a trap. If a network that is not yet trained returns
# $t_w = 20$, its box is half a billion anchors wide. torchvision caps $t_w$ and $t_h$ at
# $\ln(1000 / 16) \approx 4.1$ before it decodes, which is `max_log_size` here.

# %% tags=["nbval-check-output"]
wild = torch.tensor([0.0, 0, 20, 20])
for cap in (None, math.log(1000 / 16)):
    x1, _, x2, _ = decode_deltas(wild, anchor, max_log_size=cap).tolist()
    print(f"cap {'none' if cap is None else f'{cap:.2f}'}: {x2 - x1:.0e} px wide")
assert round(x2 - x1) == 3000           # 48 px times 62.5

# %% [markdown]
# ## Encode a box as four distances from a point
#
# A point $(x, y)$ has no size to divide by, and its four numbers are the distances to the
# sides (Tian 2019, section 3.1, equation 1):
#
# $$l = x - x_1, \qquad t = y - y_1, \qquad r = x_2 - x, \qquad b = y_2 - y.$$
#
# FCOS in torchvision and detectron2 divides them by the stride of the point's level, so
# that all levels share one scale, and in mmdet that is an option. We measure them in
# pixels here.

# %% tags=["nbval-check-output"]
(x, y), (x1, y1, x2, y2) = point, truth
by_equation = torch.stack([x - x1, y - y1, x2 - x, y2 - y])
print("l, t, r, b =", [round(number) for number in by_equation.tolist()])
assert torch.equal(encode_ltrb(truth, point), by_equation)

# %%
for place in net.centers:
    again = decode_ltrb(encode_ltrb(crowns, place), place)
    assert torch.allclose(again, crowns, atol=1e-3)

# %% [markdown]
# The signs carry a message. All four distances are positive exactly if the point is
# inside the box, and networks make their distances positive on purpose, by ReLU or exp.
# What, then, can a point outside the object report?

# %%
outside = torch.tensor([[60.0, 68], [118, 50]])
true_distances = encode_ltrb(truth, outside)
reachable = decode_ltrb(true_distances.clamp(min=0), outside)
fig, axes = plot.figure(2, width=2.9, height=3.4)
for ax, place, box, numbers in zip(axes, outside, reachable, true_distances, strict=True):
    name = "inside" if numbers.min() > 0 else "outside"
    plot.scene(ax, (128, 128), truth, title=f"{name}: IoU {iou(box, truth):.2f}")
    plot.boxes(ax, box, "prediction", fill=True)
    plot.points(ax, place, "prior")
    text = ", ".join(f"{number:.0f}" for number in numbers.tolist()).replace("-", "−")
    ax.set_xlabel(f"l, t, r, b =\n{text}", fontsize=12)
plot.show(fig, alt=(
    "An object and the best box that a point can report when no distance may be "
    "negative. From inside the box is exact. From 10 px outside it has to reach as far "
    "as the point, and the IoU is 0.86."))
assert torch.equal(reachable[0], truth) and true_distances[1].min() == -10

# %% [markdown]
# **A point can only describe a box that contains it.** An anchor knows no such limit,
# because its shift may lead anywhere. To see what an error costs in either encoding, we
# let each of the four numbers be wrong by a little, by 0.1 for an anchor's deltas and by
# 1 px for a point's distances, and measure the IoU that is left:

# %% tags=["nbval-check-output"]
cost = {}
for side in (8.0, 32.0, 128.0):
    box, error = torch.tensor([0, 0, side, side]), torch.tensor([1.0, 1, -1, -1])
    by_deltas = decode_deltas(torch.full((4,), 0.1), box)
    by_distances = decode_ltrb(encode_ltrb(box, centers(box)) - error, centers(box))
    cost[side] = iou(by_deltas, box).item(), iou(by_distances, box).item()
    print(f"{side:3.0f} px: deltas off by 0.1: {cost[side][0]:.2f}, "
          f"distances off by 1 px: {cost[side][1]:.2f}")
assert len({round(deltas, 4) for deltas, _ in cost.values()}) == 1

# %% [markdown]
# An error of 1 px in the distances leaves an IoU of 0.62 at 8 px and of 0.97 at 128 px.
# Deltas treat all sizes alike, as long as the anchor is as large as the object. That
# condition is the weak spot of anchors, and it leads us to the experiment.
#
# ## How large should an anchor be?
#
# We take all 725 crowns of the test photographs and a pyramid of strides 4, 8 and 16 with
# one square anchor per cell, whose side is $m$ strides. For several values of $m$ we
# count the crowns for which *some* anchor has an IoU of at least 0.5. As for anchors, the
# size of a crown is the side of the square with the same area. On average it is 13 px.
#
# Before you read on, make a guess. With $m = 1$ the anchors measure 4, 8 and 16 px, about
# as much as the objects, and with $m = 4$, where the sizes of RetinaNet begin, they
# measure 16, 32 and 64 px. Which of the two fits more crowns?

# %%
targets = [torch.as_tensor(marked["boxes"]) for _, marked in trees]
targets = [boxes for boxes in targets if len(boxes)]
side = torch.cat([area(boxes).sqrt() for boxes in targets])
small, large = side < 8, side >= 16
bins = {"under 8": small, "8 to 16": ~small & ~large, "16 or more": large}
assert len(side) == 725 and round(side.mean().item()) == 13

def best_fit(multiple, strides=(4, 8, 16)):
    """For each crown the highest IoU with any anchor, and that anchor's level."""
    priors = Priors.anchors((128, 128), strides, [(multiple * s,) for s in strides])
    best = [iou(priors.boxes[:, None], boxes).max(dim=0) for boxes in targets]
    levels = torch.cat([priors.levels[fit.indices] for fit in best])
    return torch.cat([fit.values for fit in best]), levels

# %% tags=["nbval-check-output"]
print("anchors, px      " + "".join(f"{name:>11}" for name in bins) + "     all")
shares = {}
for multiple in (1, 2, 4, 8):
    good = (best_fit(multiple)[0] >= 0.5).float()
    shares[multiple] = [good[chosen].mean().item() for chosen in bins.values()]
    row = [*shares[multiple], good.mean().item()]
    sides = f"{4 * multiple:2}, {8 * multiple:2}, {16 * multiple:3}"
    print(f"m = {multiple}: {sides}" + "".join(f"{share:11.0%}" for share in row[:3])
          + f"{row[3]:8.0%}")
assert max(shares[1]) < 0.35 and shares[4][0] == 0 and shares[4][2] > 0.95

# %% [markdown]
# With $m = 1$, anchors of the objects' own size fit only a quarter of the crowns, and
# large crowns are served little better than small ones. Anchors of four strides fit 99 %
# of the crowns of 16 px and more, 63 % of the middle class, and none under 8 px. Two
# different things are at work here.
#
# *An anchor that is too large* swallows the object. Its intersection with the object is
# then the object and their union is the anchor, so the IoU is at best the area of the
# object divided by that of the anchor, wherever the object is. An 8 px object in a 16 px
# anchor has at most $8^2 / 16^2 = 0.25$.
#
# *An anchor that is small compared with the stride* leaves gaps. We move a 16 px object
# over an image of 64 px, with 16 px anchors on grids of stride 16, 8 and 4, and note the
# best IoU at every place:

# %%
def phase_map(stride, anchor_side, object_side=16.0):
    """The best IoU with any anchor of one level, for an object centred at each place."""
    priors = Priors.anchors((64, 64), (stride,), ((anchor_side,),))
    place, half = torch.linspace(16, 48, 65), object_side / 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    objects = torch.stack([x - half, y - half, x + half, y + half], dim=-1)
    return place, iou(priors.boxes[:, None, None], objects).amax(dim=0)

# %%
fig, axes = plot.figure(2, width=3.2, height=3.0)
for ax, stride in zip(axes, (16, 4), strict=True):
    where, highest = phase_map(stride, 16)
    plot.similarity_map(ax, highest, where, where, label="best IoU", limits=(0, 1))
    ax.set_title(f"stride {stride}, m = {16 // stride}")
    ax.set_xlabel("object's centre, px", fontsize=11)
plot.show(fig, alt=(
    "The best IoU of a 16 px object with anchors of the same size, by the place of its "
    "centre. At stride 16 bright spots stand on dark ground, because an object between "
    "four anchors fits none. At stride 4 the spots have grown together."))

# %% tags=["nbval-check-output"]
for stride in (16, 8, 4):
    best = phase_map(stride, 16)[1]
    share = (best >= 0.5).float().mean()
    print(f"stride {stride:2}, m = {16 // stride}: IoU from {best.min():.2f} to "
          f"{best.max():.2f}, at least 0.5 at {share:.0%} of the places")
    assert stride != 16 or round(best.min().item(), 4) == round(1 / 7, 4)

# %% [markdown]
# Objects and anchors are equal in size and shape throughout, and only the grid differs.
# When the anchors are one stride wide, an anchor of the perfect size stays below 0.5 at
# three places in four. **Smaller anchors therefore need a smaller stride**, since half
# the anchor without half the stride opens gaps. With $m = 2$ the share under 8 px rose to
# 42 %, but from 16 px up it fell from 99 % to 81 %. Chapter 16 returns to this.
#
# ## Do points do better?
#
# A point has no size that could be wrong, and needs only to be inside. Does every crown
# hold one?

# %% tags=["nbval-check-output"]
print("crowns that hold a point" + "".join(f"{name:>11}" for name in bins))
inside = {}
for stride in (4, 8, 16, 32):
    places = Priors.points((128, 128), (stride,)).centers[:, None]
    held = torch.cat([(encode_ltrb(boxes, places).amin(dim=-1) > 0).any(dim=0)
                      for boxes in targets])
    inside[stride] = [held[chosen].float().mean().item() for chosen in bins.values()]
    row = "".join(f"{share:11.0%}" for share in inside[stride])
    print(f"stride {stride:<17}{row}")
assert inside[8][0] < 0.65 and inside[8][2] == 1 and inside[4][0] > 0.95

# %% [markdown]
# On the same strides, points serve more crowns than the best anchors do, and they meet
# the same limit. At stride 8 a point is missing in 41 % of the crowns under 8 px, and at
# stride 32 in half of those of 16 px and more. A rule that asks for a point inside cannot
# bring them back, and chapter 16 looks for rules that ask for less.

# %% [markdown]
# ## What the library adds
#
# Every assigner of this course takes `Priors`. It holds the boxes in their order and
# remembers the grid, from which it computes the cells near an object without looking at
# the other 200,000. Priors from elsewhere come in by `Priors.from_boxes`. With them the
# labels are the same and take longer to compute.

# %%
no_grid = Priors.from_boxes(net.boxes, level_sizes=net.level_sizes, strides=(4, 8, 16))
with_grid, without_grid = (FCOS()(one, {"boxes": crowns}).gt for one in (net, no_grid))
net, no_grid

# %%
assert no_grid.grid is None and net.grid is not None
assert torch.equal(no_grid.centers, net.centers)
assert torch.equal(no_grid.strides, net.strides)
assert torch.equal(with_grid, without_grid)

# %% [markdown]
# ## Which objects find no place?
#
# We asked which objects find no place that could describe them. Every box that contains a
# point can be described from it exactly, so the objects without a place are those that
# fall between the points, at stride 8 for instance 41 % of the crowns under 8 px. From an
# anchor every box can be described, and no object is out of reach. But the less an anchor
# resembles the object, the more its slot has to correct, and if we ask for an IoU of 0.5
# to begin with, anchors lose more crowns than points do on the same strides. In both
# cases the lost crowns are small compared with the stride. A finer level would bring them
# back, at the price that you have predicted, and so may a rule that asks for less, which
# is what we look for from chapter 8 on.
#
# ## The card
#
# | | anchor | point |
# |---|---|---|
# | the zero point is | a box | a place |
# | encoding | $t_x, t_y, t_w, t_h$ | $l, t, r, b$, often divided by the stride |
# | can describe | any box, near or far | boxes that contain it |
# | choices to make | sizes, ratios, number per cell | none |
# | 800 × 1344 px, strides 8 to 128 | 201,600 (9 per cell) | 22,400 |
# | fails when | an object fits no size, or is between anchors | it is between points |
# | report | strides, offset, sizes, ratios, rounding | strides, offset |
#
# Of the four questions of chapter 4 this chapter touches the first, *who may match?* A
# prior that is not in the grid cannot match anything.
#
# **Next.** Every slot has its place now, and most objects have several slots near them.
# Nothing says yet which slot has to learn which object. This is label assignment, with
# which chapter 4 begins.
#
# ## Recap
#
# - A prior is the zero point of its slot, because four zeros decode to the prior itself.
# - The points of a level are at $(i + \text{offset})\, s$. Offsets of 0 and 0.5 are both
#   in use, and they give different labels.
# - The size of an anchor is the root of its area, and the ratio of height to width leaves
#   the area alone.
# - The order of the output is level, row, column, shape, and a wrong order raises no
#   error.
# - Whether a prior fits an object depends on the object's size and on the stride, since
#   too large an anchor swallows it and too coarse a grid has gaps.
#
# ## Recall
#
# <details><summary>1. A box is encoded from an anchor of its own size as (0.5, 0, 0, 0).
# Where is it?</summary>
#
# It is half an anchor width to the right of the anchor. The two have a third of their
# union in common, so their IoU is 1/3.
# </details>
#
# <details><summary>2. Somebody halves all anchor sizes for a data set of small objects
# and keeps the strides. What improves, and what gets worse?</summary>
#
# Small objects are no longer swallowed. But the anchors are smaller compared with the
# stride, and therefore objects of *every* size fall into gaps more often.
# </details>
#
# <details><summary>3. All four distances l, t, r, b must be positive. What follows for a
# 3 px object at stride 8?</summary>
#
# Whether a point is inside is luck. The box covers 3 of every 8 px in x and in y, so it
# holds a point in $(3/8)^2$ = 14 % of the cases, and otherwise no point can describe it.
# </details>
#
# ## References
#
# - S. Ren and others, *Faster R-CNN*, NeurIPS 2015, arXiv 1506.01497, sections 3.1.1
#   (anchors) and 3.1.2 (their encoding).
# - T.-Y. Lin and others, *Feature Pyramid Networks for Object Detection*, CVPR 2017,
#   arXiv 1612.03144, section 3 (Lin 2017a).
# - T.-Y. Lin and others, *Focal Loss for Dense Object Detection*, ICCV 2017, arXiv
#   1708.02002, section 4, RetinaNet's nine anchors (Lin 2017b).
# - Z. Tian and others, *FCOS: Fully Convolutional One-Stage Object Detection*, ICCV 2019,
#   arXiv 1904.01355, section 3.1, points and l, t, r, b.
# - torchvision 0.29, `models/detection/anchor_utils.py`, rounding, order and spacing of
#   the anchors; issue 7473, the offset of its FCOS. mmdet 3.3.0 and detectron2 02b5c4e,
#   their offsets.
# - B. Weinstein and others, the tree crowns, `data/neon_trees/ATTRIBUTION.md`.
