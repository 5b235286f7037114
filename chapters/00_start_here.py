# %% [markdown]
# # 00 · Start here
#
# A detector learns from labels that nobody drew. This course is about the rule that makes them. This chapter shows
# what that means in one picture, how the notebooks and the exercises work, and what comes in which chapter.

# %%
import os
import platform

import torch

import labelkit_course as course
from labelkit import Priors, datasets, plot
from labelkit.assigners import ATSS, MaxIoU

# %%
image, target = datasets.neon_trees("test", fold=None)[34]
priors = Priors.anchors((128, 128), strides=(8, 16, 32), sizes=((16,), (32,), (64,)), ratios=(1,))
rules = {"fixed thresholds": MaxIoU(), "ATSS": ATSS()}
labels = {name: rule(priors, target) for name, rule in rules.items()}

fig, axes = plot.figure(3, width=3.5, height=3.9)
plot.scene(axes[0], image, target["boxes"], title=f"{len(target['boxes'])} trees")
for ax, (name, assignment) in zip(axes[1:], labels.items(), strict=True):
    plot.scene(ax, image, title=name)
    plot.assignment(ax, priors, assignment, target["boxes"])
plot.legend(axes[1], "gt", "positive", "ignored", "negative")
plot.show(fig, alt=(
    "An aerial photograph with nine trees in boxes, three times. In the second panel fixed "
    "thresholds make 9 of the 336 priors positive, in the third ATSS makes 31 of them "
    "positive, on the same trees."))

# %% [markdown]
# On the left is a photograph from the air. A person drew a box around each of its nine trees. These boxes are the
# **ground truths**.
#
# A detector does not know these nine places. It looks at 336 fixed places of the picture, the dots in the other
# two panels. In each it holds a box ready, a **prior**, and asks: is there an object, of which class, and how must I
# move my box to fit it? To train it, every one of the 336 needs a right answer. Nobody drew those.
#
# So a rule makes them from the nine boxes. Blue priors are *positive*: each has to find a tree. Grey ones are
# *negative*: they have to say "nothing here". Orange diamonds are *ignored*: the training leaves them out.
#
# The two panels show the same trees and the same priors under two rules: fixed thresholds on the overlap (chapter 5)
# and ATSS (chapter 9). Count:

# %% tags=["nbval-check-output"]
for name, assignment in labels.items():
    counts = [int(getattr(assignment, role).sum()) for role in ("positive", "negative", "ignored")]
    print("{:>16}: {:2} positive, {} negative, {} ignored".format(name, *counts))
assert [int(assignment.positive.sum()) for assignment in labels.values()] == [9, 31] and len(priors) == 336

# %% [markdown]
# One rule tells the network about 9 places with a tree, the other about 31. The network is the same, and it will learn
# something else. Which rule is better, and for which objects? That is **label assignment**, and that is the question
# of this course. It matters most where the objects are small.
#
# **You will be able to**
# - run a chapter, change it, and get back to where you were;
# - solve an exercise, read what its check says, and ask for help in three steps;
# - say what the colours of the pictures mean;
# - choose what to read next.
#
# **You need** Python and a little PyTorch, and nothing about detection. About 15 minutes, and a few seconds of CPU.

# %% [markdown]
# ## How to read
#
# A chapter is a notebook. It goes from an idea in words, through a picture, to a few lines of code. Run the cells from
# top to bottom with Shift and Enter. A cell may use what the cells above it made, so do not skip one.
#
# Lines that begin with `assert` are claims. If a number in the text were wrong, that line would stop the
# notebook. You have just run one: 9 and 31.
#
# Change things. The priors of this chapter are squares of 16, 32 and 64 px. Make the smallest ones larger in the cell
# below, and run it again. When you have lost your way, choose *Kernel*, *Restart Kernel and Run All Cells*.

# %% tags=["nbval-check-output"]
side = 16  # try 12, 24 or 32

changed = Priors.anchors((128, 128), strides=(8, 16, 32), sizes=((side,), (32,), (64,)), ratios=(1,))
for name, rule in rules.items():
    print(f"{name:>16}: {int(rule(changed, target).positive.sum())} positive")

# %% [markdown]
# You work on a copy in the folder `work/`. No update of the course overwrites it. When a chapter has changed since
# you copied it, `make lab` says so and leaves your file as it is. To get the new one, rename yours and run
# `make lab` again.
#
# ## What the colours mean
#
# In pictures of boxes they mean the same in every chapter. Lines and marks differ too, so that most pictures can be
# read without colour. Only *positive* and *good* look alike in grey.

# %%
fig, (ax,) = plot.figure(width=4.4, height=3.2)
roles = {
    "gt": "a box that a person drew",
    "prior": "a prior, not labelled yet",
    "positive": "must find an object",
    "ignored": "left out of training",
    "negative": "must find nothing",
    "prediction": "yours, or a network's",
    "good": "the right answer",
}
plot.scene(ax, (96, 150), title="the seven roles")
for row, (role, meaning) in enumerate(roles.items()):
    y = 9 + 13 * row
    plot.boxes(ax, [[6, y - 4, 22, y + 4]], role)
    plot.points(ax, [[31, y]], role)
    ax.text(40, y, f"{role}: {meaning}", va="center", fontsize=9)
ax.set_axis_off()
plot.show(fig, alt=(
    "The seven roles with their line and mark: ground truth, prior, positive, ignored, "
    "negative, prediction, and the right answer."))

# %% [markdown]
# ## How exercises work
#
# An exercise is a function with a gap. You fill the gap, run the cell, and run the next one, which checks it. The check
# has four answers:
#
# | | | |
# |---|---|---|
# | ○ | blank | you have not written anything yet |
# | ✗ | not yet | it runs, and here is an input for which it is wrong |
# | ! | your code stopped | your own error, and the call that caused it |
# | ✓ | passed | it is right on all inputs that we try, the awkward ones too |
#
# No answer is needed to read on: the cells that follow an exercise use labelkit's version, not yours. A notebook
# without a single answer runs to its end.
#
# Here is what *not yet* looks like. The function should return the centre of every box. It takes half of the width and
# half of the height, and forgets where the box begins:

# %%
def half_the_size(boxes):
    return (boxes[:, 2:] - boxes[:, :2]) / 2

course.preview("00.1", half_the_size)

# %% [markdown]
# The message gives the input and what came back. It does not give the answer. Many checks also draw your answer
# beside the right one, as here. When your own function is wrong, `course.case("00.1")` returns the input by name, and
# `my_centers(**course.case("00.1"))` repeats the call. Now it is your turn.
#
# ### Exercise 00.1: the centres of boxes
# *Difficulty 1 of 5, 5 minutes.*
#
# A box is four numbers, `x1, y1, x2, y2`: its left, upper, right and lower side, in pixels. `boxes` holds one box a
# row, so `boxes[:, :2]` is the first two columns, the upper left corners of all boxes. Return the centres.

# %%
def my_centers(boxes):
    """The centres (x, y) of boxes [N, 4] given as x1, y1, x2, y2: a tensor [N, 2]."""
    # BEGIN SOLUTION 00.1
    left_top, right_bottom = boxes[:, :2], boxes[:, 2:]
    return (left_top + right_bottom) / 2
    # END SOLUTION

# %%
course.check("00.1", my_centers)

# %% [markdown]
# Stuck? Open a new cell with the + button and run `course.hint("00.1")`. There are three hints, each says more than the
# one before. `course.solution("00.1")` shows an answer. It is not a defeat: read it, close it, and write your own.
#
# Your progress is kept in `work/progress.json`, on this machine only. `course.status()` prints it, and in a terminal
# `labelkit course status` does the same. `labelkit course reset 00.1` forgets one exercise, without an id it forgets
# all.
#
# In some later chapters you build a whole assignment rule. `course.use` then puts your rule into the experiments in
# place of labelkit's.
#
# ## What your machine has
#
# A CPU with two cores is enough for everything here. Each chapter runs in about a minute, one that trains a detector in
# two or three.

# %%
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none, and none is needed"
print(f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}")
print(f"CPU cores: {os.cpu_count()}")
print(f"GPU: {gpu}")

# %% [markdown]
# If something does not start, run `labelkit doctor` in a terminal. It says in words what is wrong and what to do.
#
# ## The map
#
# Read 00 to 07 in order. After that, pick: each chapter says at its top what it needs. Chapters without a link are
# being written.
#
# | | chapter | the question it answers |
# |---|---|---|
# | 00 | Start here | how do I use this? |
# | 01 | [Boxes and IoU][01] | how well do two boxes agree, and why is one pixel a lot at 8 px? |
# | 02 | [Non-maximum suppression][02] | which of many predictions stays, and what happens in a crowd? |
# | 03 | [Anchors and points][03] | where does a detector look before it has seen anything? |
# | 04 | [Why assign labels][04] | why do labels decide what is learned, and why are more positives not better? |
# | 05 | [RetinaNet][05] | what do two thresholds on IoU give, and whom do they leave out? |
# | 06 | [FCOS][06] | what changes when a prior is a point? |
# | 07 | [Train and measure][07] | what does a rule do to average precision, by object size? |
# | 08 | [TopK][08] | what if each ground truth chooses its own priors? |
# | 09 | [ATSS][09] | can the threshold come from the data? |
# | 10 | [HAMBox][10] | are there priors that overlap badly and still predict well? |
# | 11 | [Noisy anchors][11] | what if a label is a number between 0 and 1? |
# | 12 | [Soft labels][12] | what may a target be? |
# | 13 | [Mixtures and transport][13] | how many anchors should an object get, and can their scores decide? |
# | 14 | [Task alignment][14] | what if class and place are judged in one number? |
# | 15 | [Without NMS][15] | what if each object has one prediction only? |
# | 16 | [Small objects][16] | why are small objects hard, in six ways? |
# | 17 | [Metrics for small objects][17] | what can replace IoU where boxes never touch? |
# | 18 | [RFLA][18] | what if a prior is what the network can see? |
# | 19 | Audit your own data | why are my small objects not found? |
# | 20 | All of them, side by side | which rule should I use on my data? |
#
# [01]: 01_boxes_and_iou.ipynb
# [02]: 02_non_maximum_suppression.ipynb
# [03]: 03_anchors_and_points.ipynb
# [04]: 04_why_assign_labels.ipynb
# [05]: 05_retinanet.ipynb
# [06]: 06_fcos.ipynb
# [07]: 07_train_and_measure.ipynb
# [08]: 08_topk.ipynb
# [09]: 09_atss.ipynb
# [10]: 10_hambox.ipynb
# [11]: 11_noisy_anchors.ipynb
# [12]: 12_soft_labels.ipynb
# [13]: 13_mixtures_and_transport.ipynb
# [14]: 14_task_alignment.ipynb
# [15]: 15_without_nms.ipynb
# [16]: 16_small_objects.ipynb
# [17]: 17_metrics_for_small_objects.ipynb
# [18]: 18_rfla.ipynb
#
# Every rule of this course answers the same four questions, and chapter 4 starts the table that compares them:
#
# 1. **Who may match?** Which priors does a ground truth consider at all?
# 2. **How well?** By which number is a pair of prior and ground truth judged?
# 3. **Who is chosen?** From which value on, or how many?
# 4. **Who wins?** Who gets a prior that several ground truths want?
#
# ## Recap
#
# - A rule makes the labels of many priors, here 336, from a few boxes that a person drew.
# - Another rule gives other labels for the same picture: here 9 positives or 31.
# - Run cells from top to bottom. An `assert` is a claim that was checked.
# - A check answers blank, not yet, your code stopped, or passed. Reading on needs no answers.
# - `course.hint`, `course.solution` and `course.status` help. `labelkit doctor` says what is wrong with the
#   installation.
#
# ## Three questions to take along
#
# <details><summary>Who decides which priors are positive: the person who drew the boxes, or a rule?</summary>
#
# A rule. The person drew the ground truths only. From chapter 10 on the network takes part, but a rule still decides.
# </details>
#
# <details><summary>What does "ignored" mean, and how does it differ from "negative"?</summary>
#
# An ignored prior is left out of the training loss: whatever it answers is neither right nor wrong. A negative prior is
# punished when it answers "object".
# </details>
#
# <details><summary>The check says ✗ with an input. Where do you look first?</summary>
#
# At that input. Work it out on paper, call your function with it in a new cell, and compare.
# </details>
