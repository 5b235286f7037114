# %% [markdown]
# # 03 · Give every box a place to start from
#
# A network returns the same number of values for every image. This chapter builds the fixed grid of places that
# these values belong to, and the two codes that turn four numbers at a place into a box.

# %%
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_convert

import labelkit_course as course
from labelkit import Priors, datasets, plot
from labelkit.assigners import ATSS, FCOS
from labelkit.boxes import area, centers, decode_deltas, decode_ltrb, encode_deltas, encode_ltrb
from labelkit.detectors import retinanet
from labelkit.similarity import iou

# %%
trees = datasets.neon_trees("test", fold=None)
few, many = trees[31], trees[32]
grid = Priors.points((128, 128), strides=(16,))

fig, axes = plot.figure(3, width=3.4, height=3.6)
for ax, (image, target) in zip(axes, (few, many), strict=False):
    plot.scene(ax, image, target["boxes"], title=f"{len(target['boxes'])} objects")
plot.scene(axes[2], (128, 128), title=f"{len(grid)} places, for both")
plot.points(axes[2], grid.centers, "prior")
plot.show(fig, alt=(
    "Two aerial photographs of one size, with 3 and with 32 tree crowns. Beside them a grid of 64 places, the same "
    "for both photographs."))

# %% [markdown]
# Three trees on the left, thirty-two in the middle. The network does not know how many it will meet. What it
# returns has the shape of the right panel, always.
#
# **You will be able to**
# - lay out the points and anchors of a feature pyramid, and count them;
# - say which prior a row of the network's output belongs to, and find the bug when it belongs to another;
# - code a box as a difference from an anchor or from a point, and decode it again;
# - tell from an object's size which anchors can fit it, before any training.
#
# **You need** chapter 1 (boxes, IoU). About 60 minutes to read and solve, and a few seconds of CPU.
#
# ## The question
#
# Chapter 2 removed boxes: the detector had reported every object several times. Where did so many boxes come from?
# Would one output for each object not be enough?
#
# Try the smallest network that there is: four free numbers, one box. Show it two objects, and let it reduce the
# squared error to both.

# %%
two = torch.tensor([[10.0, 12, 50, 52], [74, 70, 118, 114]])
guess = torch.zeros(4, requires_grad=True)
optimizer = torch.optim.SGD([guess], lr=0.1)
for _ in range(100):
    optimizer.zero_grad()
    ((guess - two) ** 2).sum(dim=1).mean().backward()
    optimizer.step()

guess = guess.detach()
fig, (ax,) = plot.figure(width=3.6, height=3.8)
plot.scene(ax, (128, 128), two, title="one output, two objects")
plot.boxes(ax, guess, "prediction", fill=True)
plot.legend(ax, "gt", "prediction")
plot.show(fig, alt="Two objects in opposite corners. The learned box lies between them and touches neither by much.")

# %% tags=["nbval-check-output"]
print("what it learned:", [round(value) for value in guess.tolist()])
print("IoU with the two:", [f"{value:.2f}" for value in iou(guess, two).tolist()])
torch.testing.assert_close(guess, two.mean(dim=0), atol=0.01, rtol=0)
assert iou(guess, two).max() < 0.05

# %% [markdown]
# It learned the mean of the two boxes, which is no object at all. Nothing was wrong with the training. One set of
# four outputs, a *slot*, was asked two different questions.
#
# So a slot needs a question of its own. **Fix many places in the image beforehand. Each place has its own outputs,
# and answers for what is near it only.** Such a place is a *prior*: what the network knows before it has looked.
#
# ## The zero point
#
# A slot holds four numbers, and they are not coordinates. They say how the object *differs from the prior*. Think of
# a surveyor's mark in the ground: nobody measures from the centre of the earth.
#
# Two kinds of prior are in use. An **anchor** is a box, so the difference is a shift and a change of size. A
# **point** has no size, so the difference is four distances to the sides.

# %%
anchor, point = torch.tensor([36.0, 44, 84, 92]), torch.tensor([60.0, 68])
truth = torch.tensor([44.0, 30, 108, 88])
fig, axes = plot.figure(2)
for ax, title in zip(axes, ("from an anchor: shift and size", "from a point: four distances"), strict=True):
    plot.scene(ax, (128, 128), truth, title=title)
plot.boxes(axes[0], anchor, "prior")
plot.points(axes[0], centers(anchor), "prior")
plot.points(axes[0], centers(truth), "gt")
axes[0].annotate("", centers(truth).tolist(), centers(anchor).tolist(), arrowprops={"arrowstyle": "->", "lw": 1.8})
plot.points(axes[1], point, "prior")
x, y = point.tolist()
ends = {"l": (44, y), "r": (108, y), "t": (x, 30), "b": (x, 88)}
for name, end in ends.items():
    plot.dimension(axes[1], (x, y), end, name)
plot.legend(axes[0], "gt", prior="anchor")
plot.legend(axes[1], "gt", prior="point")
plot.show(fig, alt=(
    "The same object measured twice. Left from an anchor: an arrow from the anchor's centre to the object's. Right "
    "from a point inside the object: arrows l, t, r, b to its four sides."))

# %% [markdown]
# What does a slot mean when all four numbers are zero? "No difference." An anchor then reports itself, and a point
# reports a box of no size at its own place. That is the sense in which a prior is the *zero point* of its slot. It
# is also where an untrained network starts, as its first outputs are close to zero.

# %%
zero = torch.zeros(4)
assert torch.equal(decode_deltas(zero, anchor), anchor)
assert torch.equal(decode_ltrb(zero, point), torch.cat([point, point]))

# %% [markdown]
# ## The grid
#
# Where do the places come from? From the network itself. A convolutional network shrinks the image step by step. What
# it ends with is a *feature map*: a small image whose pixels are vectors. One pixel of the map, a **cell**, stands
# for a square of the input. The side of that square is the **stride** $s$. The network's last layers, its *head*, turn
# every cell's vector into the outputs of one slot, or of several.
#
# Here is an input of 80 × 48 px at stride 16. Each cell has a point in its middle, and a number.

# %%
size, stride = (48, 80), 16
fig, (ax,) = plot.figure(width=5.4, height=3.6)
plot.scene(ax, size, title="3 rows, 5 columns, stride 16")
ax.set_xticks(range(0, 81, stride))
ax.set_yticks(range(0, 49, stride))
ax.grid(color=plot.FAINT, lw=1)
for row in range(3):
    for column in range(5):
        ax.text(stride * column + 9, stride * row + 7, str(5 * row + column), fontsize=9)
plot.points(ax, Priors.points(size, (stride,)).centers, "prior")
plot.show(fig, alt=(
    "An input of 80 by 48 px cut into 5 by 3 cells of 16 px. A point stands in the middle of every cell. The numbers 0 "
    "to 14 count along the rows."))

# %% [markdown]
# Cell $(i, j)$, row $i$ and column $j$, covers the square from $js$ to $(j + 1)s$ in x, and from $is$ to $(i + 1)s$
# in y. Its middle is the point
#
# $$x = (j + 0.5)\, s, \qquad y = (i + 0.5)\, s$$
#
# The 0.5 is the *offset*: how far into the cell its point stands. More about it below.
#
# ### Exercise 03.1: the points of a level
# *Difficulty 2 of 5, 8 minutes.*
#
# Return the points of a feature map as a tensor `[rows * columns, 2]` of (x, y). Count as the picture does: along
# the first row from left to right, then along the second.
#
# `torch.arange(5)` counts from 0 to 4. `torch.meshgrid(a, b, indexing="ij")` gives two tables, `[len(a), len(b)]`
# each: in the first, every row repeats its number from `a`, in the second, every column its number from `b`.

# %%
def my_points(rows, columns, stride, offset=0.5):
    """The points (x, y) of a feature map, [rows * columns, 2], row by row, in pixels of the input."""
    # BEGIN SOLUTION 03.1
    i, j = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    x, y = (j + offset) * stride, (i + offset) * stride
    return torch.stack([x.flatten(), y.flatten()], dim=1)
    # END SOLUTION

# %%
course.check("03.1", my_points)

# %% [markdown]
# The library's form is `Priors.points`. It takes the image's size and rounds up, so that the last cells may stick out
# over the border: 50 px at stride 16 need four cells. Here it is, held against the formula.

# %%
level = Priors.points((50, 80), strides=(16,))
by_formula = [((j + 0.5) * 16, (i + 0.5) * 16) for i in range(4) for j in range(5)]
assert torch.equal(level.centers, torch.tensor(by_formula))
assert (level.boxes[:, :2] == level.boxes[:, 2:]).all()     # a point is a box of size zero

# %% [markdown]
# ## The pyramid
#
# One map can't serve all sizes. A fine map has a cell for every small object, but each of its cells was computed
# from a small part of the image. A coarse map sees much, and has few cells. So detectors use several maps at once, a
# **feature pyramid**: each level has twice the stride of the one before (Lin 2017, FPN, section 3).

# %%
image, target = many
fig, axes = plot.figure(3, width=3.4, height=3.6)
for ax, stride in zip(axes, (8, 16, 32), strict=True):
    points = Priors.points((128, 128), (stride,))
    plot.scene(ax, image, target["boxes"], title=f"stride {stride}: {len(points)} points")
    ax.scatter(*points.centers.T, s=14, color="white", edgecolors=plot.INK, linewidths=0.6, zorder=8)
plot.show(fig, alt=(
    "The photograph with 32 crowns under the points of stride 8, 16 and 32. At 8 nearly every crown holds a point, at "
    "32 most hold none."))

# %% [markdown]
# RetinaNet and FCOS, chapters 5 and 6, use strides 8 to 128 (they call the levels P3 to P7, as $2^3 = 8$). An input
# of 800 × 1344 px is their usual size. Count the places:

# %% tags=["nbval-check-output"]
strides, image_size = (8, 16, 32, 64, 128), (800, 1344)
points = Priors.points(image_size, strides)
print("stride   rows x columns    points   share")
for stride, count in zip(strides, points.level_sizes, strict=True):
    rows, columns = -(-image_size[0] // stride), -(-image_size[1] // stride)
    assert rows * columns == count
    print(f"{stride:6}   {rows:4} x {columns:<7}   {count:6,}   {count / len(points):5.1%}")
print(f"   all                    {len(points):6,}")
assert len(points) == 22_400 and points.level_sizes[0] == 16_800

# %% [markdown]
# Each level has about a quarter of the points of the one before. So the finest level holds three quarters of all of
# them, and half the stride would mean four times the points. This is the price of small objects.
#
# ## Anchors: one place, several shapes
#
# A point has no size. An anchor has one, and a fixed size can only fit some objects. The answer was to put several
# shapes in each cell (Ren 2015, section 3.1.1: three sizes times three ratios).
#
# Two numbers describe a shape. The **size** $a$ is the side of the square of the same area. The **ratio** $r$ is
# height over width. Here are three sizes with three ratios:

# %%
nine = Priors.anchors((128, 128), strides=(128,), sizes=((32, 40.3, 50.8),), ratios=(0.5, 1, 2))
fig, axes = plot.figure(3, width=3.2, height=3.4)
for index, (ax, ratio) in enumerate(zip(axes, (0.5, 1, 2), strict=True)):
    plot.scene(ax, (128, 128), title=f"ratio {ratio}: shapes {3 * index} to {3 * index + 2}")
    plot.boxes(ax, nine.boxes[3 * index : 3 * index + 3], "prior")
    plot.points(ax, nine.centers[:1], "prior")
plot.show(fig, alt=(
    "The nine anchors of one cell, in three panels of three sizes each: lying, square and standing boxes around one "
    "centre. Within a size all three have the same area."))
same_size = area(nine.boxes).reshape(3, 3)
torch.testing.assert_close(same_size, same_size[:1].expand(3, 3))

# %% [markdown]
# Changing the ratio must not change the area, so
#
# $$w = a / \sqrt{r}, \qquad h = a \sqrt{r}, \qquad w \cdot h = a^2, \qquad h / w = r$$

# %% tags=["nbval-check-output"]
for ratio in (0.5, 1.0, 2.0):
    width, height = 32 / ratio**0.5, 32 * ratio**0.5
    print(f"ratio {ratio}: {width:5.2f} x {height:5.2f} px, area {width * height:.0f}")
    assert abs(width * height - 32**2) < 1e-9 and abs(height / width - ratio) < 1e-9

# %% [markdown]
# ### Exercise 03.2: the shapes of a cell
# *Difficulty 2 of 5, 10 minutes.*
#
# Return width and height of every shape as a tensor `[len(ratios) * len(sizes), 2]`. The order is *ratio-major*, as in
# the picture and in torchvision: all sizes of the first ratio, then all sizes of the second.

# %%
def my_shapes(sizes, ratios):
    """(width, height) of the anchors of one cell: sizes are sqrt(area), ratios height / width; ratio-major."""
    # BEGIN SOLUTION 03.2
    side = torch.tensor(sizes, dtype=torch.float32)
    root = torch.tensor(ratios, dtype=torch.float32).sqrt()[:, None]
    return torch.stack([(side / root).flatten(), (side * root).flatten()], dim=1)
    # END SOLUTION

# %%
course.check("03.2", my_shapes)

# %% [markdown]
# RetinaNet puts nine anchors in each cell. The level of stride 8 begins at size 32, the next one at 64, the last one at
# 512 (Lin 2017, RetinaNet, section 4). So a level's first size is four strides. Two more stand between it and the next
# level's first: times $2^{1/3}$ and $2^{2/3}$.

# %% tags=["nbval-check-output"]
sizes = tuple(tuple(4 * stride * 2 ** (step / 3) for step in range(3)) for stride in strides)
anchors = Priors.anchors(image_size, strides, sizes, ratios=(0.5, 1, 2))
print(f"{len(points):,} cells x 9 = {len(anchors):,} anchors, {anchors.boxes.numel() * 4 / 1e6:.1f} MB of boxes")
print("sizes:", ", ".join(f"{size:.1f}" for level_sizes in sizes[:2] for size in level_sizes), "...")
assert len(anchors) == 201_600

# %% [markdown]
# **201,600 anchors, for an image with perhaps seven objects.** Keep the number in mind. Chapter 4 is about what it
# does to training, and the library is built around not looking at all of them.
#
# ## Which prior does a row belong to?
#
# The network returns one long table. Row $n$ of the table belongs to prior $n$ only because both sides count in the
# same order: level, row, column, shape. Nothing in the tensor says so.

# %%
small = Priors.anchors((32, 48), strides=(16, 32), sizes=((12, 7), (26, 16)))
fig, axes = plot.figure(2, width=4.2, height=3.2)
for index, ax in enumerate(axes):
    numbers = (small.levels == index).nonzero()[:, 0].tolist()
    plot.scene(ax, (32, 64), title=f"level {index}: priors {numbers[0]} to {numbers[-1]}")
    plot.boxes(ax, small.boxes[numbers], "prior")
    for number in numbers[::2]:
        x, y = small.centers[number].tolist()
        ax.text(x, y, f"{number}, {number + 1}", ha="center", va="center", fontsize=9)
    ax.axvline(48, color=plot.GREY, lw=1)
plot.show(fig, alt=(
    "A pyramid of two levels with two square shapes a cell. Level 0 has 2 by 3 cells with the priors 0 to 11, level 1 "
    "has 1 by 2 cells with the priors 12 to 15. The numbers run along rows, two a cell. A grey line marks the image's "
    "right border, over which level 1 sticks out."))

# %% [markdown]
# ### Exercise 03.3: from a row of the output to its prior
# *Difficulty 3 of 5, 12 minutes.*
#
# Given the index of a prior, find its level, row, column and shape. `level_shapes` lists (rows, columns) of each
# level. Every cell has `shapes` shapes. Python's `divmod(17, 5)` is `(3, 2)`: 17 is three times 5, and 2 remain.

# %%
def my_place(index, level_shapes, shapes):
    """(level, row, column, shape) of prior number `index`; the order is level, row, column, shape."""
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
# What happens if the two sides count differently? Suppose somebody lists the points column by column. Every point is
# still there, once. A test that compares *sets* of points is green, and the shapes agree too.

# %% tags=["nbval-check-output"]
right = Priors.points((128, 192), strides=(8,))
wrong = right.centers.reshape(16, 24, 2).transpose(0, 1).reshape(-1, 2)
same_set = torch.equal(right.centers.unique(dim=0), wrong.unique(dim=0))
distance = (right.centers - wrong).norm(dim=1)
print(f"same shape: {right.centers.shape == wrong.shape}, same set of points: {same_set}")
moved = (distance > 0).float().mean()
print(f"but {moved:.0%} of the rows mean another place, on average {distance.mean():.0f} px away")
assert same_set and moved > 0.99 and round(distance.mean().item()) == 81

# %% [markdown]
# Such a network trains without an error. Each row is asked for objects some 80 px from the place that it sees, which it
# can't know, so it learns nothing. If a detector's boxes are nonsense, check the order first: decode zeros, and draw
# the first ten boxes with their numbers. Drawing all of them shows the same picture for both orders.
#
# ## Half a stride
#
# Where in its cell does a prior stand? The sources disagree. (mmdet and detectron2 are two libraries of detectors.)
#
# | | cell $i$ stands at |
# |---|---|
# | FCOS, the paper (section 3.1) | $\lfloor s/2 \rfloor + i s$ |
# | mmdet's and detectron2's points | $(i + 0.5)\, s$ |
# | labelkit, unless told otherwise (`offset=0.5`) | $(i + 0.5)\, s$ |
# | mmdet's and torchvision's anchors, torchvision's FCOS too | $i s$ |
#
# For an even stride the first three are the same. The last stands in the corner of the cell.

# %%
fig, axes = plot.figure(2, width=3.8, height=3.8)
grids = {offset: Priors.points((64, 64), (16,), offset=offset) for offset in (0.5, 0.0)}
for ax, (offset, grid) in zip(axes, grids.items(), strict=True):
    plot.scene(ax, (64, 64), [[44, 44, 64, 64]], title=f"offset {offset}")
    ax.set_xticks(range(0, 65, 16))
    ax.set_yticks(range(0, 65, 16))
    ax.grid(color=plot.FAINT)
    plot.points(ax, grid.centers, "prior")
axes[1].set(xlim=(-3, 64), ylim=(64, -3))
plot.show(fig, alt=(
    "Points of stride 16 on an image of 64 px. With offset 0.5 they stand in the middle of the cells. With offset 0 "
    "they begin on the left and upper border and end 16 px before the right and lower one."))

# %% [markdown]
# With offset 0 the grid leans to the upper left. Mirror the image, and the grid does not fit any more: augmentation by
# flipping shows the network a different geometry each time. An object in the lower right corner is farther from its
# nearest prior than the same object in the upper left.

# %% tags=["nbval-check-output"]
def farthest_corner(grid, size=64):
    corners = torch.tensor([[0.0, 0], [size, size]])
    return [f"{torch.cdist(corner[None], grid.centers).min().item():.1f}" for corner in corners]

for offset, grid in grids.items():
    mirrored = torch.stack([64 - grid.centers[:, 0], grid.centers[:, 1]], dim=1)
    symmetric = torch.equal(mirrored.unique(dim=0), grid.centers.unique(dim=0))
    print(f"offset {offset}: mirror symmetric {symmetric!s:5}; px from the upper left and lower right corner to the "
          f"nearest point: {farthest_corner(grid)}")
    assert symmetric == (offset == 0.5)

# %% [markdown]
# Does it matter for labels? FCOS, the method of chapter 6, makes certain points near an object's middle *positive*:
# they have to report it. Here is one object from mmdet's tests, with both offsets and nothing else changed.

# %% tags=["nbval-check-output"]
one = {"boxes": torch.tensor([[23.6667, 23.8757, 238.6326, 151.8874]]), "labels": torch.tensor([0])}
method, found = FCOS(center_radius=1.5, closed_ranges=False), {}
for offset in (0.5, 0.0):
    answer = method(Priors.points((256, 256), strides, offset), one)
    found[offset] = int(answer.positive.sum())
    print(f"offset {offset}: {found[offset]:2} positives")
assert found == {0.5: 9, 0.0: 15}

# %% [markdown]
# The same object has 9 positives or 15, by half a stride. torchvision's maintainers say that the missing half stride in
# their FCOS is deliberate (torchvision issue 7473). What matters is that training and use agree. If you compare two
# libraries, or load another's weights, it is among the first things to check.
#
# And the mirror? If nothing depends on which side is left, a mirrored photograph gets the mirrored labels. We try it
# with the 32 crowns of the second photograph, anchors of 16, 32 and 64 px, and the rule of chapter 9.

# %% tags=["nbval-check-output"]
def positive_cells(boxes, offset):
    """Which cells of the three levels, of 32, 16 and 8 cells a side, have a positive anchor."""
    priors = Priors.anchors((128, 128), strides=(4, 8, 16), sizes=((16,), (32,), (64,)), offset=offset)
    levels = ATSS()(priors, {"boxes": boxes}).positive.split([32**2, 16**2, 8**2])
    return [level.reshape(side, side) for level, side in zip(levels, (32, 16, 8), strict=True)]

as_they_are = torch.as_tensor(many[1]["boxes"])
in_mirror = as_they_are[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([128, 0, 128, 0])
counts, lost = {}, {}
for offset in (0.5, 0.0):
    here, there = positive_cells(as_they_are, offset), positive_cells(in_mirror, offset)
    counts[offset] = [sum(int(level.sum()) for level in levels) for levels in (here, there)]
    lost[offset] = sum(int((one.flip(1) & ~other).sum()) for one, other in zip(here, there, strict=True))
    print(f"offset {offset}: {counts[offset][0]} positives, {counts[offset][1]} in the mirrored photograph; "
          f"{lost[offset]} of the {counts[offset][0]} are not positive in their mirrored cell")
assert counts == {0.5: [129, 129], 0.0: [122, 120]} and lost == {0.5: 0, 0.0: 58}

# %% [markdown]
# In mid-cell the mirrored photograph gets exactly the mirrored labels. On the corners it gets two positives fewer, and
# for 58 of the 122 the mirrored cell is not positive, because the anchor of that cell stands one stride beside the
# mirrored anchor.
#
# ## torchvision's anchors
#
# torchvision makes its anchors with an `AnchorGenerator`. It differs from the formulas above in three things. The
# first is the offset, 0, in all of torchvision's own detectors. The small detectors that this course trains from
# chapter 7 on use the same class and move its anchors by half a stride, so that they stand in mid-cell.

# %% tags=["nbval-check-output"]
first_cells = {
    "torchvision": AnchorGenerator(((16,),), ((1.0,),)),
    "the course's small detector": retinanet(1).anchor_generator.generator,
}
for name, maker in first_cells.items():
    print(f"{name}: anchor of the first cell of stride 4 at {centers(maker.cell_anchors[0])[0].tolist()}")
assert [centers(maker.cell_anchors[0])[0].tolist() for maker in first_cells.values()] == [[0, 0], [2, 2]]

# %% [markdown]
# The second difference is that it rounds the corners of every shape to whole pixels.

# %% tags=["nbval-check-output"]
print("size   meant     torchvision   area is off by")
off_by = {}
for size in (4, 5, 7, 8, 16, 32, 128):
    base = AnchorGenerator(((size,),), ((0.5, 1.0),)).cell_anchors[0]
    for ratio, (x1, y1, x2, y2) in zip((0.5, 1.0), base.tolist(), strict=True):
        off_by[size, ratio] = (x2 - x1) * (y2 - y1) / size**2 - 1
        width, height = size / ratio**0.5, size * ratio**0.5
        meant, made = f"{width:5.1f} x {height:<5.1f}", f"{x2 - x1:4.0f} x {y2 - y1:<4.0f}"
        print(f"{size:4}   {meant}   {made}   {off_by[size, ratio]:+7.0%}")
assert off_by[5, 1.0] == 16 / 25 - 1 and off_by[7, 1.0] == 64 / 49 - 1
assert abs(off_by[128, 0.5]) < 0.01

# %% [markdown]
# At 128 px it is nothing. A square of 5 px becomes one of 4, a square of 7 becomes one of 8: half of an odd side ends
# in .5, and rounding goes to the even neighbour. If you shrink torchvision's anchors for small objects, print what you
# got. labelkit's `Priors.anchors` does not round.
#
# The third difference hides on the coarse levels. torchvision does not know the strides. It divides the image's size
# by the map's size and drops the remainder.

# %% tags=["nbval-check-output"]
maps = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
for (rows, columns), stride in zip(maps, strides, strict=True):
    in_x, in_y = image_size[1] // columns, image_size[0] // rows
    print(f"stride {stride:3}: torchvision's spacing is {in_x:3} px in x, {in_y:3} in y")
assert (in_x, in_y) == (122, 114)

# %% [markdown]
# At stride 64 the spacing in y is 61, at 128 it is 122 by 114. The maps were rounded up, and the grid is squeezed to
# fit. An assigner that computes places from the nominal stride is off by many pixels there.
#
# `Priors.from_torchvision` takes the generator as it is. Its boxes are equal to torchvision's, bit for bit.

# %%
generator = AnchorGenerator(
    sizes=tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512)),
    aspect_ratios=((0.5, 1.0, 2.0),) * 5,
)
theirs = generator(ImageList(torch.empty(1, 3, *image_size), [image_size]), [torch.empty(1, 1, *m) for m in maps])[0]
ours = Priors.from_torchvision(generator, image_size, maps, strides=strides)
assert torch.equal(ours.boxes, theirs) and len(ours) == 201_600
assert not torch.equal(ours.boxes, anchors.boxes)           # offset, rounding and spacing differ

# %% [markdown]
# ## Code a box as a difference from its anchor
#
# Back to the zero point. Which four numbers should an anchor's slot hold? The plain difference of the corners would
# do. But a shift of 8 px is a trifle for an anchor of 512 px, and the whole width of one of 8 px. The network sees a
# cell's features, and those look alike for a small object on a fine level and a large one on a coarse level. The same
# look should ask for the same answer. So the shift is measured in anchor widths:
#
# $$t_x = \frac{x - x_a}{w_a}, \qquad t_y = \frac{y - y_a}{h_a}, \qquad
# t_w = \ln \frac{w}{w_a}, \qquad t_h = \ln \frac{h}{h_a}$$
#
# with centres $(x, y)$ and sizes $(w, h)$, the anchor's marked by $a$ (Ren 2015, section 3.1.2, equation 2). The
# logarithm makes twice as wide and half as wide equally far from zero, and any $t_w$ gives a positive width.

# %%
def deltas_of_one(box, anchor):
    x, y, w, h = box_convert(box, "xyxy", "cxcywh")
    xa, ya, wa, ha = box_convert(anchor, "xyxy", "cxcywh")
    return torch.stack([(x - xa) / wa, (y - ya) / ha, (w / wa).log(), (h / ha).log()])

torch.testing.assert_close(encode_deltas(truth, anchor), deltas_of_one(truth, anchor))

# %% tags=["nbval-check-output"]
for scale in (1, 4, 16):
    code = encode_deltas(truth * scale, anchor * scale)
    print(f"objects {scale:2} times as large:", "  ".join(f"{number:+.3f}" for number in code.tolist()))
    torch.testing.assert_close(code, encode_deltas(truth, anchor))
double, half = anchor.clone(), anchor.clone()
double[2], half[2] = 36 + 96, 36 + 24
log_width = encode_deltas(double, anchor)[2], encode_deltas(half, anchor)[2]
print(f"twice as wide: tw = {log_width[0]:+.3f}, half as wide: tw = {log_width[1]:+.3f}")
torch.testing.assert_close(log_width[0], -log_width[1])

# %% [markdown]
# ### Exercise 03.4: decode
# *Difficulty 3 of 5, 10 minutes.*
#
# Write the way back, from four numbers and an anchor to a box. It runs on everything a detector reports. Solve the
# four equations for $x, y, w, h$, then build the corners. Both tensors are `[..., 4]`.

# %%
def my_decode(deltas, anchors):
    """Boxes [..., 4], xyxy, that differ from the anchors [..., 4] by deltas [..., 4] = tx, ty, tw, th."""
    # BEGIN SOLUTION 03.4
    size = anchors[..., 2:] - anchors[..., :2]
    center = (anchors[..., :2] + anchors[..., 2:]) / 2 + deltas[..., :2] * size
    half = deltas[..., 2:].exp() * size / 2
    return torch.cat([center - half, center + half], dim=-1)
    # END SOLUTION

# %%
course.check("03.4", my_decode)

# %% [markdown]
# Coding and decoding must cancel, whatever the anchor. So a *round trip* is the first test to write for a detector.
# Every crown of the photograph, with every one of 1,344 anchors:

# %%
net = Priors.anchors((128, 128), strides=(4, 8, 16), sizes=((16,), (32,), (64,)))
crowns = torch.as_tensor(target["boxes"])
code = encode_deltas(crowns, net.boxes[:, None])
assert code.shape == (1344, 32, 4)
back = decode_deltas(code, net.boxes[:, None])
torch.testing.assert_close(back, crowns.expand_as(back), atol=1e-3, rtol=0)

# %% [markdown]
# The exponential has a trap. An untrained network may return $t_w = 20$, and $e^{20}$ anchor widths are half a billion.
# torchvision caps $t_w$ and $t_h$ at $\ln(1000 / 16) \approx 4.1$ before it decodes. That is `max_log_size` here.

# %% tags=["nbval-check-output"]
wild = torch.tensor([0.0, 0, 20, 20])
for cap in (None, torch.log(torch.tensor(1000 / 16)).item()):
    x1, _, x2, _ = decode_deltas(wild, anchor, max_log_size=cap).tolist()
    print(f"cap {'none' if cap is None else f'{cap:.2f}'}: {x2 - x1:.0e} px wide")
assert round(x2 - x1) == 3000           # 48 px times 62.5

# %% [markdown]
# ## Code a box as four distances from a point
#
# A point $(x, y)$ has no size to divide by. Its four numbers are the distances to the sides (Tian 2019, FCOS, section
# 3.1, equation 1):
#
# $$l = x - x_1, \qquad t = y - y_1, \qquad r = x_2 - x, \qquad b = y_2 - y$$
#
# Usually they are divided by the stride of the point's level, so that the levels share one scale.

# %%
(x, y), (x1, y1, x2, y2) = point, truth
assert torch.equal(encode_ltrb(truth, point), torch.stack([x - x1, y - y1, x2 - x, y2 - y]))
assert encode_ltrb(truth, point).tolist() == [16, 38, 48, 20]
code = encode_ltrb(crowns, net.centers[:, None])
torch.testing.assert_close(decode_ltrb(code, net.centers[:, None]), crowns.expand_as(code), atol=1e-3, rtol=0)

# %% [markdown]
# The signs carry a message. All four distances are positive exactly if the point lies inside the box. A network's
# distances are made positive on purpose, by ReLU or exp. So **a point can only describe a box that it lies in**. An
# anchor knows no such limit: its shift may lead anywhere.

# %%
places = torch.tensor([[60.0, 68], [108, 60], [118, 50]])
distances = encode_ltrb(truth, places)
reachable = decode_ltrb(distances.clamp(min=0), places)
fig, axes = plot.figure(3, width=3.2, height=3.6)
titles = ("inside", "on the side", "10 px outside")
for ax, place, box, code, title in zip(axes, places, reachable, distances, titles, strict=True):
    plot.scene(ax, (128, 128), truth, title=f"{title}: IoU {iou(box, truth):.2f}")
    plot.boxes(ax, box, "prediction", fill=True)
    plot.points(ax, place, "prior")
    ax.set_xlabel("l, t, r, b = " + ", ".join(f"{number:.0f}" for number in code.tolist()).replace("-", "−"))
plot.show(fig, alt=(
    "The object and the box that a point can report with distances that are not negative. Inside and on the side the "
    "box is exact. 10 px outside it reaches too far, and the IoU is 0.86."))

assert (distances.amin(dim=1) > 0).tolist() == [True, False, False]
assert torch.equal(reachable[0], truth) and round(iou(reachable[2], truth).item(), 2) == 0.86

# %% [markdown]
# ### What an error costs in either code
#
# Let every one of the four numbers be wrong by a little: 0.1 in the code of deltas, 1 px in the plain distances. How
# much IoU does that cost objects of different sizes?

# %% tags=["nbval-check-output"]
print("  side   deltas off by 0.1   distances off by 1 px")
cost = {}
for side in (8.0, 32.0, 128.0):
    box, error = torch.tensor([0, 0, side, side]), torch.tensor([1.0, 1, -1, -1])
    by_deltas = decode_deltas(torch.full((4,), 0.1), box)
    by_distances = decode_ltrb(encode_ltrb(box, centers(box)) - error, centers(box))
    cost[side] = iou(by_deltas, box).item(), iou(by_distances, box).item()
    print(f"{side:4.0f} px   {cost[side][0]:17.2f}   {cost[side][1]:21.2f}")
assert len({round(deltas, 4) for deltas, _ in cost.values()}) == 1
assert cost[8.0][1] < 0.65 < 0.96 < cost[128.0][1]

# %% [markdown]
# Deltas treat all sizes alike, as long as the anchor is as large as the object. That condition is the weak spot. It is
# why we now ask which anchors fit which objects.
#
# ## The experiment: how large should an anchor be?
#
# Take the 725 boxes of the tree crowns, and a pyramid of strides 4, 8 and 16 with one square anchor a cell. Its side
# is $m$ strides. We turn the knob $m$, and count the crowns for which *some* anchor reaches an IoU of 0.5.
#
# A guess first: crowns measure 13 px on average. $m = 1$ gives anchors of 4, 8 and 16 px, about the sizes of the
# objects. $m = 4$, RetinaNet's choice, gives 16, 32 and 64 px.

# %%
targets = [torch.as_tensor(target["boxes"]) for _, target in trees if len(target["boxes"])]
side = torch.cat([area(boxes).sqrt() for boxes in targets])
assert len(side) == 725 and round(side.mean().item()) == 13
bins = {"under 8 px": side < 8, "8 to 16 px": (side >= 8) & (side < 16), "16 px and more": side >= 16}

def best_fit(multiple, strides=(4, 8, 16)):
    priors = Priors.anchors((128, 128), strides, [(multiple * stride,) for stride in strides])
    fits = [iou(priors.boxes[:, None], boxes).max(dim=0) for boxes in targets]
    return torch.cat([fit.values for fit in fits]), torch.cat([priors.levels[fit.indices] for fit in fits])

# %% tags=["nbval-check-output"]
print("share of crowns with an anchor of IoU 0.5 or more")
print("                      " + "".join(f"{name:>16}" for name in bins) + "             all")
shares = {}
for multiple in (1, 2, 4, 8):
    good = best_fit(multiple)[0] >= 0.5
    shares[f"m = {multiple}"] = {name: good[chosen].float().mean().item() for name, chosen in bins.items()}
    row = [*shares[f"m = {multiple}"].values(), good.float().mean().item()]
    sides = f"{4 * multiple:3}, {8 * multiple:3}, {16 * multiple:3} px"
    print(f"m = {multiple}: {sides}" + "".join(f"{share:16.0%}" for share in row))
assert max(shares["m = 1"].values()) < 0.35 and shares["m = 4"]["under 8 px"] == 0
assert shares["m = 4"]["16 px and more"] > 0.95

# %%
fig, (ax,) = plot.figure(width=6.6, height=3.2)
plot.bars_by_size(ax, shares, ylabel="share with an anchor of IoU ≥ 0.5")
plot.show(fig, alt=(
    "Share of crowns with a fitting anchor, by size of the crown and of the anchors. One stride: a quarter everywhere. "
    "Two strides: 42, 69 and 81 percent. Four strides: none, 63 and nearly all. Eight strides: none, none, a fifth."))

# %% [markdown]
# The guess was wrong. Anchors of the objects' own size ($m = 1$) fit only a quarter of the crowns, in every size class.
# Anchors of four strides fit nearly all crowns of 16 px and more, and not one below 8 px.
#
# Two different things are at work. **An anchor that is too large** swallows the object. Then the intersection is the
# object and the union is the anchor, so IoU is at best the object's area by the anchor's, wherever the object lies:
# 8 px in 16 px give $8^2 / 16^2 = 0.25$.
#
# **An anchor that is small against the stride** leaves gaps. It fits an object that lies on it, and misses one that
# lies between two cells. The maps show the best IoU for an object of 16 px, wherever its centre lies in the middle of
# an image of 64 px.

# %%
def phase_map(stride, anchor_side, object_side=16.0):
    priors = Priors.anchors((64, 64), (stride,), ((anchor_side,),))
    place = torch.linspace(16, 48, 65)
    y, x = torch.meshgrid(place, place, indexing="ij")
    middle, half = torch.stack([x, y], dim=-1), object_side / 2
    objects = torch.cat([middle - half, middle + half], dim=-1)
    return place, iou(priors.boxes[:, None, None], objects).amax(dim=0)

fig, axes = plot.figure(3, width=3.7, height=3.3)
worst = {}
for ax, (multiple, stride) in zip(axes, ((1, 16), (2, 8), (4, 4)), strict=True):
    place, best = phase_map(stride, 16)
    worst[multiple] = best.min().item(), (best >= 0.5).float().mean().item()
    plot.similarity_map(ax, best, place, place, label="best IoU", limits=(0, 1))
    ax.set(title=f"stride {stride}, m = {multiple}: worst {worst[multiple][0]:.2f}",
           xlabel="x of the object's centre, px", ylabel="y, px")
plot.show(fig, alt=(
    "Best IoU of an object of 16 px with anchors of 16 px, by the object's place. At stride 16 bright spots stand on a "
    "dark ground, the worst value is 0.14. At stride 8 it is 0.39, at stride 4 0.62."))

# %% tags=["nbval-check-output"]
for multiple, (low, share) in worst.items():
    print(f"m = {multiple}: IoU from {low:.2f} to 1.00, 0.5 or more at {share:.0%} of the places")
assert round(worst[1][0], 4) == round(1 / 7, 4) and worst[1][1] < 0.3 and worst[4][0] > 0.6

# %% [markdown]
# Size and shape of object and anchor are equal in all three panels. Only the grid differs. With anchors of one stride,
# three places in four are dead zones, where a *perfectly sized* anchor stays below 0.5. So the stride, not the anchor,
# limits small objects: half the anchor without half the stride opens gaps. Chapter 16 returns to it.
#
# ### Which level, and does a point do better?
#
# A crown picks its level by size. Here is the level of each crown's best anchor, for $m = 2$.

# %%
level = best_fit(2)[1]
edges = torch.arange(4, 33, 2)
middles = (edges[:-1] + 1).tolist()
fig, (ax,) = plot.figure(width=6.4, height=3.0)
bottom = torch.zeros(len(middles))
for index, color in enumerate((plot.BLUE, plot.ORANGE, plot.GREEN)):
    count = torch.histogram(side[level == index], edges.float()).hist
    label = f"stride {4 * 2**index}, anchor {8 * 2**index} px"
    ax.bar(middles, count, 1.7, bottom=bottom, color=color, label=label)
    bottom += count
ax.set(xlabel="size of the crown, sqrt(area) in px", ylabel="crowns")
ax.legend(fontsize=9)
plot.show(fig, alt=(
    "Histogram of the crowns' sizes, coloured by the level of their best anchor. Up to 10 px the anchor of 8 px wins, "
    "from 14 to 22 px that of 16 px, above that of 32 px."))
chosen = {index: side[level == index].median().item() for index in range(3)}
assert chosen[0] < chosen[1] < chosen[2]

# %% [markdown]
# A point has no size that could be wrong. It needs to be *inside*, nothing else. Does every crown hold a point?

# %% tags=["nbval-check-output"]
print("share of crowns with a point inside, and points in each")
inside = {}
for stride in (4, 8, 16, 32):
    places = Priors.points((128, 128), (stride,)).centers[:, None]
    held = torch.cat([(encode_ltrb(boxes, places).amin(dim=-1) > 0).sum(dim=0) for boxes in targets])
    inside[stride] = {name: (held[chosen] > 0).float().mean().item() for name, chosen in bins.items()}
    row = [f"{share:5.0%} {held[chosen].float().mean():5.1f}" for share, chosen in
           zip(inside[stride].values(), bins.values(), strict=True)]
    print(f"stride {stride:2}   " + "   ".join(f"{name}: {text}" for name, text in zip(bins, row, strict=True)))
assert inside[8]["under 8 px"] < 0.65 and inside[8]["16 px and more"] == 1
assert inside[4]["under 8 px"] > 0.95

# %% [markdown]
# Points do better than anchors on the same stride, and they meet the same wall. At stride 8, four crowns in ten under
# 8 px lie between the points. At stride 32 half of the large ones do too. A rule that asks for a point inside can't
# bring them back. Chapter 16 looks for rules that ask for less.
#
# ## What the library adds
#
# `Priors` is what every assigner of this course takes. It holds the boxes in their order, and it remembers the grid:
# from an object's box it can compute which cells are near, without looking at the other 200,000. Priors from elsewhere
# come in by `Priors.from_boxes`. Everything works with them as well, only more slowly.

# %%
no_grid = Priors.from_boxes(net.boxes, level_sizes=net.level_sizes, strides=(4, 8, 16))
assert no_grid.grid is None and net.grid is not None
assert torch.equal(no_grid.centers, net.centers) and torch.equal(no_grid.strides, net.strides)
assert torch.equal(FCOS()(no_grid, {"boxes": crowns}).gt, FCOS()(net, {"boxes": crowns}).gt)
net

# %% [markdown]
# ## The card
#
# | | anchor | point |
# |---|---|---|
# | the zero point is | a box | a place |
# | code | $t_x, t_y, t_w, t_h$ | $l, t, r, b$, divided by the stride |
# | can describe | any box, near or far | boxes that it lies in |
# | choices to make | sizes, ratios, number a cell | none |
# | 800 × 1344, strides 8 to 128 | 201,600 (9 a cell) | 22,400 |
# | breaks | sizes that no anchor has; gaps when small against the stride | objects between the points |
#
# Of the four questions of chapter 4 this is the first, *who may match?* A prior that is not in the grid can't match.
#
# **Next.** Now every slot has its place, and every object has some slots near it. Nobody has said yet which slot has to
# learn which object. That is label assignment, and chapter 4 begins it.
#
# ## Recap
#
# - A prior is the zero point of its slot: four zeros decode to the prior itself.
# - Points stand at $(i + \text{offset})\, s$. Offsets of 0 and 0.5 are both in use, and change the labels.
# - An anchor's size is the root of its area; the ratio, height / width, leaves the area alone.
# - Order is meaning: level, row, column, shape. A wrong order raises no error.
# - What fits an object is decided by its size *and* by the stride: too large an anchor swallows it, too coarse a grid
#   has gaps.
#
# ## Recall
#
# <details><summary>1. A box is coded from an anchor of its own size as (0.5, 0, 0, 0). Where does it lie?</summary>
#
# Half an anchor width to the right of the anchor. Two such boxes of equal size share a third of their union: IoU 1/3.
# </details>
#
# <details><summary>2. Somebody halves all anchor sizes for a data set of small objects, and keeps the strides. What
# improves, what gets worse?</summary>
#
# Small objects are no longer swallowed. But the anchors are smaller against the stride, so objects of *every* size
# fall into gaps more often.
# </details>
#
# <details><summary>3. All four distances l, t, r, b must be positive. What follows for an object of 3 px at stride
# 8?</summary>
#
# A point lies in it only by luck: the box covers 3 of every 8 px in x and in y, so in about 14 % of the cases
# ((3/8)² = 0.14). Otherwise no point can describe it.
# </details>
#
# ## References
#
# - S. Ren and others, *Faster R-CNN*, NeurIPS 2015, arXiv 1506.01497, sections 3.1.1 (anchors) and 3.1.2 (their code).
# - T.-Y. Lin and others, *Feature Pyramid Networks for Object Detection*, CVPR 2017, arXiv 1612.03144, section 3.
# - T.-Y. Lin and others, *Focal Loss for Dense Object Detection*, ICCV 2017, arXiv 1708.02002, section 4: RetinaNet's
#   nine anchors.
# - Z. Tian and others, *FCOS: Fully Convolutional One-Stage Object Detection*, ICCV 2019, arXiv 1904.01355, section
#   3.1: points and l, t, r, b.
# - torchvision 0.29, `models/detection/anchor_utils.py`: rounding, order and spacing of the anchors.
# - B. Weinstein and others, the tree crowns: `data/neon_trees/ATTRIBUTION.md`.
