# %% [markdown]
# # 00 · Start here
#
# Two detectors were built with the same network and trained on the same pictures, in
# which the same boxes had been drawn, and yet in one picture of the sky one of them finds
# more than nine times as many objects as the other. Between the drawn boxes and the
# network stands a rule that turns boxes into labels, and only this rule was different.
# How can a rule decide what a detector will find? The whole course is about this
# question. In this chapter we look at what such a rule does and where in a detector it
# does it, and then at how the notebooks and their exercises work.

# %%
from functools import partial

import torch

import labelkit_course as course
from labelkit import Priors, datasets, plot
from labelkit.assigners import RKA, MaxIoU, TopK
from labelkit.boxes import area
from labelkit.similarity import iou, nwd

# %%
two_rules = "max_iou, no low quality", "rka"
ranking = course.stage(*two_rules, pictures=["sky"])["sky"]

# %%
assert course.shown(two_rules[0])["sky"] == (108, 6, 10, 98, 3)
assert ranking == (108, 108, 96, 12, 59)

# %% [markdown]
# This tile is part of a real photograph, the Hubble eXtreme Deep Field. It holds 108
# objects, most of them galaxies, and half of them cover less than 6 × 6 px. Its boxes
# come from a program that outlines whatever is bright enough. Both networks started
# from the same weights and trained for 500 steps on other tiles of the photograph.
#
# In the upper row the labels come from a fixed threshold on overlap, `max_iou` without
# its rescue for objects that nothing fits. Only 6 of the 108 objects count as something
# to be found, and the detector that was taught so finds 10. In the lower row they come
# from a ranking, `rka`. It leaves no object out, and its detector finds 96. In return it
# has 59 false alarms where the other has 3. We count the boxes whose score is 0.25 or
# more, and look at the best score first. A box finds an object if the two agree well
# enough (IoU 0.5 or more, explained below). One that agrees with no object, or only with
# objects that have been found already, is a false alarm.
#
# **You will be able to**
# - say what a label is, what makes it, and where in a detector that happens;
# - run a chapter, change it, and return to where you were;
# - solve an exercise, read what its check says, and ask for help in three steps;
# - choose the chapters that you need.
#
# **You need** Python and a little PyTorch, and nothing about detection. It takes 15
# minutes to read and 8 to solve the exercises, and a few seconds of CPU.
#
# ## A label for every prior
#
# A drawn box, with the class of the object in it, is called a **ground truth**. Since
# the network does not know where the ground truths are, it looks everywhere. We lay a
# grid of 3,294 fixed boxes over the tile, the **priors**, and for each prior the
# network answers two questions: which class of object is here, if any, and how must
# this box move to fit it? Training therefore needs 3,294 right answers, and nobody has
# drawn a single one of them.
#
# A rule makes them. It calls a prior **positive** if the prior has to find an object,
# **negative** if it has to answer that there is none, and **ignored** if training
# leaves it out. We call the rule an **assigner** and its work **label assignment**.
# Here the assigners of the two detectors label the tile:

# %% tags=["nbval-check-output"]
image, target = datasets.deep_field("test")[2]
priors = Priors.anchors((200, 200), strides=(4, 8, 16), sizes=((16,), (32,), (64,)))
likeness = partial(nwd, constant=6.8)  # chapter 17 builds it
rules = {"fixed threshold": MaxIoU(allow_low_quality_matches=False),
         "ranking": RKA(k=3, similarity=likeness)}

taught = {}  # by rule, for each object whether it has a positive prior
for name, rule in rules.items():
    labels = rule(priors, target)
    taught[name] = labels.positives_per_gt(len(target["boxes"])) > 0
    print(f"{name:>15}: {labels.positive.sum():3} of {len(priors)} priors are positive, "
          f"for {taught[name].sum():3} of {len(target['boxes'])} objects")

# %%
assert area(target["boxes"].as_subclass(torch.Tensor)).median() < 6 * 6
assert (area(target["boxes"].as_subclass(torch.Tensor))[~taught["fixed threshold"]]
        < 16 * 16 / 2).sum() == 101
assert (iou(priors.boxes[:, None], target["boxes"]).amax(dim=0) < 0.4).sum() == 98

# %% [markdown]
# The fixed threshold accepts a prior that overlaps an object with IoU 0.5 or more, where
# IoU is the shared area divided by the area of both together. Of the 102 objects for
# which it accepts none, 101 cover less than half of the smallest prior, so that they
# could not pass wherever they were. For 98 of them no prior reaches IoU 0.4, from which
# on this rule ignores it, and the network is taught that they are background. Under the
# ranking each object gets the three priors that are most like it, however little that may
# be, unless another object wants the same one more.
#
# ## Where the rule works
#
# A detector has many parts, and we want to know which of them the rule touches, and
# what the finished detector still has of it.

# %%
plot.show(course.pipeline(), alt=(
    "The parts of a detector. The way from the image to the boxes that NMS keeps does "
    "not pass the assigner. Its decisions reach the network in training only, on the "
    "dashed way back."))

# %% [markdown]
# First the **backbone** turns the image into maps of features, each smaller than the
# last. Then the **pyramid** combines them, and its fine maps serve small objects while
# the coarse ones serve large objects. At every cell of every map stands a prior, and
# the **head** answers its two questions. It predicts one number per class, the
# **logit**, which a sigmoid turns into a score between 0 and 1, and four numbers that
# move the prior. Since several priors report the same object, **non-maximum
# suppression** (NMS) keeps one box of each.
#
# In training, the assigner compares the drawn boxes with the priors and gives each
# prior its **target**, a class and a box. The **loss** says how far the predictions are
# from the targets, and its gradient changes the weights of the network. When training
# ends, the assigner is gone. All that is left of its decisions is in the weights.
#
# ## What the marks mean
#
# In pictures of boxes and priors, colour, line and mark mean the same in every chapter,
# unless a key or a name in the picture says otherwise, as in the first one above.

# %%
roles = {
    "gt": "a drawn box",
    "prior": "not labelled yet",
    "positive": "must find an object",
    "ignored": "left out of training",
    "negative": "must find nothing",
    "prediction": "yours, or a network's",
    "good": "the right answer",
}
fig, (ax,) = plot.figure(width=4.6, height=3.2)
plot.scene(ax, (96, 150))
for row, (role, meaning) in enumerate(roles.items()):
    y = 9 + 13 * row
    plot.boxes(ax, [[6, y - 4, 22, y + 4]], role)
    plot.points(ax, [[31, y]], role)
    ax.text(40, y, f"{role}: {meaning}", va="center", fontsize=12)
ax.set_axis_off()
plot.show(fig, alt=(
    "The roles, each with its line and its mark. Marks and dashes tell them apart in "
    "grey too."))

# %% [markdown]
# ## How to read and run a chapter
#
# A chapter is a notebook. Run its cells from top to bottom with Shift and Enter, and do
# not skip any, because a cell may use what the cells above it made. We have folded the
# cells that only draw, import or assert, and a click on the three dots opens them.
#
# A line that begins with `assert` makes a claim. If a number of the text were wrong,
# that line would stop the notebook. You can change anything. For example, give `k`
# another value in the next cell and run it again:

# %% tags=["nbval-check-output"]
k = 3  # try 1 or 9

labels = RKA(k=k, similarity=likeness)(priors, target)
print(f"{labels.positive.sum()} positive priors for {len(target['boxes'])} objects")

# %% [markdown]
# If you have lost your way, choose *Kernel*, *Restart Kernel and Run All Cells*. You
# work on a copy in the folder `work/`, which no update of the course overwrites. If a
# chapter has changed since then, `make lab` tells you, and copies the new one once you
# have renamed yours.
#
# ## How to solve an exercise
#
# An exercise asks for a prediction, a function, a mended function, good settings, or a
# verdict. It stands where its matter has just been explained, and its number is its name,
# so within a chapter the numbers may be out of order or have gaps. You replace the dots
# or the gap by your answer, run the cell, and run the next one, which checks it and says
# one of these:
#
# | | | |
# |---|---|---|
# | ○ | blank | you have not written anything yet |
# | ✗ | not yet | your answer runs, and the message says where it is wrong |
# | ! | your code stopped | your own error, with the call that caused it |
# | ✓ | passed | right for every input that we try, the awkward ones included |
# | ● | committed | you predicted something else than what happened, which is no fault |
#
# You can read on without an answer, because later cells use labelkit's version and not
# yours.
#
# The first exercise is a prediction, because we remember a surprise better than a fact.
# In the next picture two rules have labelled a tile with eleven digits. Rule A ranks
# and gives every digit three priors, and rule B is the fixed threshold. Priors without
# a mark are negative.

# %%
digits = datasets.digits("test", n=8)[7]
grid = Priors.anchors((128, 128), strides=(4, 8, 16), sizes=((16,), (32,), (64,)))
fig, axes = plot.figure(2, width=3.9, height=4.6)
for ax, name, rule in zip(axes, "AB", (TopK(k=3), rules["fixed threshold"]), strict=True):
    labels = rule(grid, digits[1])
    plot.scene(ax, 0.3 + 0.7 * digits[0].mean(dim=0), digits[1]["boxes"])
    ax.set_title(f"rule {name}", fontsize=15)
    ax.set(xticks=[], yticks=[])
    plot.points(ax, grid.centers[labels.positive], "positive")
    plot.points(ax, grid.centers[labels.ignored], "ignored")
    plot.legend(ax, "positive", "ignored")
    for word in ax.get_legend().get_texts():
        word.set_size(14)
plot.show(fig, alt=(
    "Eleven digits and the labels of two rules. Under rule A each has three positive "
    "priors. Under rule B some have several, some have only ignored ones, and some have "
    "neither."))

# %% [markdown]
# ### Exercise 00.2: Who will be found?
# *Difficulty 1 of 5, 3 minutes. Predict, then run.*
#
# For each rule we trained a detector on 1,500 other tiles of this kind, for 750 steps
# and with the labels that its rule gives there. Predict how many of the eleven digits
# each detector will find. A number that is off by one still counts as right.

# %%
# BEGIN GIVEN
# my_counts = {"A": ..., "B": ...}
# BEGIN SOLUTION 00.2
my_counts = {"A": 11, "B": 7}
# END SOLUTION

# %%
def at_work():
    course.stage("topk, k=3", "max_iou, no low quality", pictures=["digits"])

course.predict("00.2", my_counts, at_work)

# %% [markdown]
# <details><summary>Once you have predicted: why not as many as have a
# positive?</summary>
#
# Under rule B five digits have a positive prior on this tile, but seven are found. Its
# detector has never seen these labels. It learned from other tiles, where a digit of
# the same size may be better placed, and the best priors of those two digits are
# ignored, which does not teach that they are background. The four digits under 8 px
# have only negative priors, on this tile and on every other.
# </details>
#
# The second exercise asks for a function that returns the centres of boxes. If we take
# half of the width and of the height, and forget where the box begins, the check
# answers *not yet*:

# %%
def half_the_size(boxes):
    return (boxes[:, 2:] - boxes[:, :2]) / 2

course.preview("00.1", half_the_size)

# %% [markdown]
# The message gives the input and what came back. It does not write down the right answer,
# although a picture may show where it is. When your own function is wrong,
# `course.case("00.1")` returns that input by name, so that
# `my_centers(**course.case("00.1"))` repeats the call.
#
# ### Exercise 00.1: The centres of boxes
# *Difficulty 1 of 5, 5 minutes. Implement.*
#
# Return the centre of every box. A box is four numbers, `x1, y1, x2, y2`, which are its
# left, upper, right and lower side in pixels. `boxes` holds one box per row, so
# `boxes[:, :2]` is the first two columns, the upper left corners of all boxes.

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
# If you are stuck, open a new cell with the + button and run `course.hint("00.1")`. A
# function has three hints, each of which says more than the one before, and a prediction
# may have fewer or none. After the last, `course.solution("00.1")` shows an answer.
#
# Your progress is kept in `work/.labelkit`, on this machine only. `course.status()`
# prints it, and `labelkit course reset 00.1` in a terminal forgets one exercise. In
# some later chapters you build a whole assigner, and `course.use` puts yours in the
# place of labelkit's.
#
# If something does not start, `labelkit doctor` in a terminal says in words what is
# wrong and how to mend it. Two CPU cores are enough, and no chapter needs a GPU. If a
# sentence or a check is wrong, or you are lost, ask in the place where you got this
# repository, and name the chapter and the heading.
#
# ## Which chapters do you need?
#
# If you came for one chapter, you may not have to read all those before it. This map
# shows which ones you need.

# %%
chapters = {
    1: (0, 0, "boxes, IoU"), 3: (1, 0, "anchors"), 4: (2, 0, "why labels"),
    2: (0, 1, "NMS"), 6: (1, 1, "FCOS"), 5: (2, 1, "RetinaNet"),
    16: (0, 2, "small objects"), 7: (1, 2, "training"), 8: (2, 2, "TopK"),
    17: (0, 3, "metrics"), 10: (1, 3, "HAMBox"), 9: (2.35, 3, "ATSS"),
    18: (0, 4, "RFLA"), 11: (1, 4, "noisy anchors"), 12: (1, 5, "soft labels"),
    13: (2.35, 5, "mixtures"), 14: (1, 6, "alignment"), 15: (0, 6, "without NMS"),
    19: (1.95, 4, "own data"), 20: (0, 5, "all of them"),
}
needed_by = {
    1: (2, 3), 2: (7,), 3: (4,), 4: (5,), 5: (6,), 6: (7,), 7: (8, 16, 19), 8: (9, 17),
    9: (10, 13), 10: (11,), 11: (12,), 12: (14,), 13: (14,), 14: (15,), 15: (20,),
    16: (17,), 17: (18,), 18: (20,),
}
fig, (ax,) = plot.figure(width=5.5, height=4.6)
ax.set(xlim=(-0.5, 2.75), ylim=(6.5, -0.5))
ax.set_axis_off()
look = {"ha": "center", "va": "center", "fontsize": 12, "zorder": 3}
frames = {}
for number, (column, row, name) in chapters.items():
    fill = plot.FAINT if number < 8 else plot.GROUND
    box = {"boxstyle": "square,pad=0.3", "fc": fill, "ec": plot.INK}
    frames[number] = ax.text(column, row, f"{number:02} {name}", bbox=box, **look)
for number, others in needed_by.items():
    for other in others:
        way = {"arrowstyle": "-|>", "color": plot.INK, "lw": 1.4, "shrinkA": 3,
               "shrinkB": 3, "patchA": frames[number].get_bbox_patch(),
               "patchB": frames[other].get_bbox_patch(),
               "ls": "--" if (number, other) == (13, 14) else "-"}
        ax.annotate("", chapters[other][:2], chapters[number][:2], arrowprops=way)
plot.show(fig, alt=(
    "An arrow leads from each chapter to those that build on it; dashed, to one section "
    "only. Grey chapters come first for everybody. Before any other chapter, read those "
    "from which arrows lead to it."))

# %% [markdown]
# Three shorter paths follow these arrows. We counted the hours for reading every word
# and for solving every exercise. If you have less time, solve the predictions, which
# take about four minutes each.
#
# | you want to | read chapters | hours to read | hours to solve |
# |---|---|---|---|
# | understand the classic rules | 1 to 9 | 5 | 7 |
# | find small objects | 1 to 8 and 16 to 18 | 6 | 9 |
# | train a detector on your own data | 1 to 7 and 19, then `labelkit train -h` | 4 | 7 |
# | know everything that is here | 0 to 20 | 12 | 21 |
#
# | chapter | the question it answers |
# |---|---|
# | [01 Boxes and IoU](01_boxes_and_iou.ipynb) | how well do two boxes agree? |
# | [02 Suppression](02_non_maximum_suppression.ipynb) | which of many boxes stays? |
# | [03 Anchors and points](03_anchors_and_points.ipynb) | where does it look at first? |
# | [04 Why assign labels](04_why_assign_labels.ipynb) | what do labels decide? |
# | [05 RetinaNet](05_retinanet.ipynb) | which objects does a threshold forget? |
# | [06 FCOS](06_fcos.ipynb) | what changes when a prior is a point? |
# | [07 Train and measure](07_train_and_measure.ipynb) | what does a rule do to AP? |
# | [08 TopK](08_topk.ipynb) | what if each object chooses its own priors? |
# | [09 ATSS](09_atss.ipynb) | can the threshold come from the data? |
# | [10 HAMBox](10_hambox.ipynb) | can a prior overlap badly and predict well? |
# | [11 Noisy anchors](11_noisy_anchors.ipynb) | what if a label lies between 0 and 1? |
# | [12 Soft labels](12_soft_labels.ipynb) | which score should a positive learn? |
# | [13 Mixtures](13_mixtures_and_transport.ipynb) | how many priors per object? |
# | [14 Task alignment](14_task_alignment.ipynb) | which point should learn an object? |
# | [15 Without NMS](15_without_nms.ipynb) | what if each object has one prediction? |
# | [16 Small objects](16_small_objects.ipynb) | why are small objects lost? |
# | [17 Metrics](17_metrics_for_small_objects.ipynb) | what can replace IoU? |
# | [18 RFLA and DCFL](18_rfla.ipynb) | what if a prior is what the network sees? |
# | [19 Your own data](19_audit_your_own_data.ipynb) | is it the labels' fault? |
# | [20 All of them](20_all_of_them.ipynb) | which one should you take? |
#
# Every rule of the course answers the same four questions, and by its answers we
# compare it with the others:
#
# 1. **Who may match?** Which priors does an object consider at all?
# 2. **How well?** By which number is a pair of prior and object judged?
# 3. **Who is chosen?** From which value on, or how many?
# 4. **Who wins?** Which object gets a prior that several objects want?
#
# ## How can a rule decide what a detector will find?
#
# It decides what the network is told. On our tile the threshold named 21 of 3,294
# priors as places with an object, and the network that learned from such labels found
# 10 of 108. With another rule it found 96, although the network, the pictures and the
# boxes were the same. One training of each cannot tell how large the difference is on
# average, and the sky is not your data. What labels do to training is the question of
# chapter 4, and the later chapters change the rule.
#
# ## Recall
#
# <details><summary>1. Who decides which priors are positive, the person who drew the
# boxes or a rule?</summary>
#
# A rule does, since the person drew the ground truths only. From chapter 10 on the
# network takes part, but a rule still decides.
# </details>
#
# <details><summary>2. What does "ignored" mean, and how does it differ from "negative"?
# </summary>
#
# An ignored prior is left out of the training loss, so whatever it answers is neither
# right nor wrong. A negative prior is punished when it answers that there is an object.
# </details>
#
# <details><summary>3. A detector is finished and runs on a new image. What does its
# assigner do?</summary>
#
# Nothing. It took part in training only, and its decisions are in the weights.
# </details>
