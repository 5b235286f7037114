# %% [markdown]
# # 10 · Ask the network which anchors regress well: HAMBox
#
# Every rule so far looks at the anchors before the network moves them. HAMBox looks after. It lets anchors that overlap
# badly, but regress well, make up for the ones that an object lacks. And it waits until there is something to see.

# %%
import tempfile
from dataclasses import replace

import lightning as L
import torch
from IPython.display import Markdown
from torchvision import ops

import labelkit_course as course
from labelkit import IGNORED, NEGATIVE, Predictions, datasets, plot
from labelkit.assigners import ATSS, HAMBox, MaxIoU
from labelkit.boxes import decode_deltas, encode_deltas
from labelkit.datasets import collate
from labelkit.evaluation import size_index
from labelkit.losses import focal_loss
from labelkit.similarity import iou
from labelkit.training import load_detector, train
from labelkit.training.recipe import Recipe
from labelkit_course import board as leaderboard

# %%
SIZES = ("under 8 px", "8 to 16 px", "16 px and more")
train_set, test_set = datasets.digits("train", n=400), datasets.digits("test", n=50)
truths = [target["boxes"].as_subclass(torch.Tensor) for target in test_set.targets]
sizes = torch.cat([size_index(boxes) for boxes in truths])

def short_run(recipe, *callbacks):
    """A detector trained on 400 images, and its scores on 50."""
    options = {"progress": False, "accelerator": "cpu", "callbacks": list(callbacks)}
    with tempfile.TemporaryDirectory() as folder:
        scores = train(recipe, f"{folder}/run", data=(train_set, test_set), **options)["scores"]
        return load_detector(f"{folder}/run")[0], scores

by_atss, atss_scores = short_run(Recipe(assigner="atss", steps=60))

# %%
def read(detector, image):
    """What the network makes of every anchor of one image: its box [P, 4] and its score [P, 1]."""
    with torch.no_grad():
        maps = detector.backbone(detector.transform([image])[0].tensors)
        answer = detector.head(list(maps.values()))
        boxes = detector.decode(answer["bbox_regression"], anchors.boxes)[0]
    return boxes, answer["cls_logits"][0].sigmoid()

by_atss([test_set[0][0]])
anchors = by_atss.anchor_generator.priors
ends = [iou(read(by_atss, image)[0][:, None], boxes) for (image, _), boxes in zip(test_set, truths, strict=True)]
labels = ATSS()(anchors, test_set.targets)

# %%
contrasts = []
for picture, after in enumerate(ends):
    before = iou(anchors.boxes[:, None], truths[picture])
    for g in range(after.shape[1]):
        own, others = labels[picture].gt == g, labels[picture].negative & (before[:, g] < 0.4)
        if own.any():
            worst, best = after[:, g].masked_fill(~own, 2).argmin(), after[:, g].masked_fill(~others, -1).argmax()
            clear = torch.minimum(0.5 - after[worst, g], after[best, g] - 0.5).item()
            contrasts.append((clear, picture, g, worst.item(), best.item()))
_, picture, g, worst, best = max(contrasts)

# %%
moved, box = read(by_atss, test_set[picture][0])[0], truths[picture][g]
x, y = ((box[:2] + box[2:]) / 2).tolist()
light = 0.5 + test_set[picture][0].mean(dim=0) / 2  # grey and pale, so that the boxes stand out
fig, axes = plot.figure(2, height=4.4)
for ax, name, prior in zip(axes, ("positive", "negative"), (worst, best), strict=True):
    before, after = iou(anchors.boxes[prior], box), iou(moved[prior], box)
    plot.scene(ax, light, box[None], title=f"{name} under ATSS:\nIoU {before:.2f} becomes {after:.2f}")
    plot.boxes(ax, anchors.boxes[prior], "prior")
    plot.boxes(ax, moved[prior], "prediction")
    ax.set(xlim=(x - 28, x + 28), ylim=(y + 28, y - 28))
plot.legend(axes[0], "gt", prior="anchor", prediction="what the network makes of it")
plot.show(fig, alt=(
    "One digit and two anchors of a network trained with ATSS. Left, a positive anchor whose regressed box misses the "
    "digit. Right, an anchor that ATSS calls negative, whose regressed box lies close around it."))
assert sum(clear > 0 for clear, *_ in contrasts) > 20  # digits with such a pair; measured: 68 to 110

# %% [markdown]
# The same network, the same digit. ATSS calls the left anchor an object and the right one background.
#
# **You will be able to**
# - trace each detection back to its anchor, and measure how many came from anchors that overlap badly;
# - build HAMBox: match, compensate, ignore;
# - write its loss with two sums and two counts, and say what happens when one count is small;
# - watch an assignment change while a network trains, and say why it starts with nothing.
#
# **You need** chapters 7 (training), 8 (faults of a threshold) and 9 (ATSS). About 65 minutes to read and solve, and a
# minute of CPU for four short training runs.
#
# ## The question
#
# This is one digit of hundreds, and we chose it. How common is the fault? Two counts over the test images, with the
# network that was trained with ATSS itself.
#
# - Of the positives, how many does the network move to an IoU *below* 0.5?
# - Of all anchors that end at 0.5 *or more*, how many does ATSS call background?

# %%
positives, ends_well = [], []
for picture, after in enumerate(ends):
    answer = labels[picture]
    positives.append(after[answer.positive, answer.gt[answer.positive]])
    ends_well.append(answer.positive[(after >= 0.5).any(dim=1)])
fails, missed = (torch.cat(positives) < 0.5).float().mean(), 1 - torch.cat(ends_well).float().mean()
print(f"positives that end below 0.5: {fails:.0%}; anchors that end at 0.5 or more and are negative: {missed:.0%}")
# measured: 45 to 46 % and 25 to 36 % over 3 seeds
assert 0.1 < fails < 0.6 and 0.15 < missed < 0.8

# %% [markdown]
# Here is the same as a picture. Each dot is an anchor and the object it overlaps most, by the IoU before and after.
# (Every second anchor is drawn, and of the negatives only those above IoU 0.1.) The solid line is the 0.5 of the two
# counts. The dotted line at 0.35 is a threshold of the next section.

# %%
fig, axes = plot.figure(2, width=3.9, height=3.8)
dots = {"positive": [], "negative": []}
for picture, after in enumerate(ends):
    value, owner = iou(anchors.boxes[:, None], truths[picture]).max(dim=1)
    pairs = torch.stack([value, after.gather(1, owner[:, None])[:, 0]], dim=1)
    dots["positive"].append(pairs[labels[picture].positive])
    dots["negative"].append(pairs[labels[picture].negative & (value > 0.1)])
for ax, (name, parts) in zip(axes, dots.items(), strict=True):
    plot.points(ax, torch.cat(parts)[::2], name)
    ax.axhline(0.5, color=plot.INK, lw=1)
    ax.axvline(0.35, color=plot.INK, lw=1, ls=":")
    ax.set(title=f"{name} under ATSS", xlabel="IoU of the anchor", ylabel="IoU of its box", xlim=(0, 1), ylim=(0, 1))
plot.show(fig, alt=(
    "IoU after the regression against IoU before it, for ATSS's positives and for its negatives. The two clouds "
    "overlap: many positives end below the line at 0.5, and many negatives end above it, some from below 0.35."))
assert (torch.cat(dots["negative"])[:, 1] >= 0.5).any() and (torch.cat(dots["positive"])[:, 1] < 0.5).any()

# %% [markdown]
# Both faults are common. A rule that looks at anchors before the regression can't know. So why not ask the network?
#
# ## Where do good detections come from?
#
# The authors of HAMBox began with a measurement (Liu 2020, abstract and section 1): more than 80 % of the correct
# boxes of a face detector were regressed from anchors that training had *not* matched to a face. For a matching
# threshold of 0.35, the figure that is quoted is 89 %. Does the detector of chapter 7 do the same?
#
# For that we have to know which anchor each detection came from. torchvision's post-processing forgets it. So here is
# the post-processing once more, with indices.

# %%
def detections(detector, image):
    """The boxes [D, 4] that the detector shows, and which anchors they came from [D]."""
    boxes, scores = read(detector, image)
    boxes = ops.clip_boxes_to_image(boxes, (128, 128))
    sure = (scores[:, 0] > detector.score_thresh).nonzero()[:, 0]
    kept = sure[ops.nms(boxes[sure], scores[sure, 0], detector.nms_thresh)][: detector.detections_per_img]
    return boxes[kept], kept

with torch.no_grad():
    shown = by_atss([test_set[0][0]])[0]["boxes"]
torch.testing.assert_close(detections(by_atss, test_set[0][0])[0], shown)

# %% [markdown]
# ### Exercise 10.1: where did it come from?
# *Difficulty 2 of 5, 8 minutes.*
#
# Count for one image. A detection is good if its IoU with the object it fits best is at least 0.5. How many are good,
# and how many of these came from an anchor whose IoU with *that object* is under 0.35? (An anchor may overlap one
# object and be moved to its neighbour.)

# %%
def my_origin(detections, anchors, gt_boxes):
    """Two whole numbers: good detections, and those of them from anchors under 0.35. Boxes [D, 4], [D, 4], [G, 4]."""
    # BEGIN SOLUTION 10.1
    if len(gt_boxes) == 0:
        return 0, 0
    value, owner = iou(detections[:, None], gt_boxes).max(dim=1)
    good = value >= 0.5
    before = iou(anchors, gt_boxes[owner])
    return int(good.sum()), int((good & (before < 0.35)).sum())
    # END SOLUTION

# %%
course.check("10.1", my_origin)

# %% [markdown]
# Now the detector of chapter 7: thresholds 0.5 and 0.4, low-quality rule with all ties, 100 steps. For each good
# detection we note its size, the IoU of its anchor, and whether the detector's own rule calls that anchor positive.

# %%
of_chapter_7, _ = short_run(Recipe(assigner="max_iou", steps=100))

# %%
def origins(detector, rule):
    """For every good detection: size of its object, IoU of its anchor, was the anchor matched to it? [n] each."""
    rows = []
    for picture, (image, target) in enumerate(test_set):
        boxes, prior = detections(detector, image)
        value, owner = iou(boxes[:, None], truths[picture]).max(dim=1)
        prior, owner = prior[value >= 0.5], owner[value >= 0.5]
        before = iou(anchors.boxes[prior], truths[picture][owner])
        matched = rule(anchors, target).gt[prior] == owner
        rows.append(torch.stack([size_index(truths[picture])[owner].float(), before, matched.float()]))
    size, before, matched = torch.cat(rows, dim=1)
    return size, before, matched.bool()

size, before, matched = origins(of_chapter_7, MaxIoU(low_quality_owner="argmax"))

# %%
fig, axes = plot.figure(3, width=3.3, height=3.2)
for s, ax in enumerate(axes):
    here = before[size == s]
    ax.hist(here.numpy(), bins=[0.05 * i for i in range(21)], color=plot.BLUE)
    ax.axvline(0.35, color=plot.VERMILLION, lw=1.5, ls="--")
    ax.set(title=f"{SIZES[s]}:\n{(here < 0.35).float().mean():.0%} under 0.35", xlabel="IoU of the anchor")
axes[0].set_ylabel("good detections")
plot.show(fig, alt=(
    "Histograms of the IoU that the anchors of good detections had before regression, by object size, with a line at "
    "0.35. Under 8 px all lie below the line, from 8 to 16 px a minority, from 16 px on few."))

# %%
low = {name: (before[size == s] < 0.35).float().mean().item() for s, name in enumerate(SIZES)}
everything, unmatched = (before < 0.35).float().mean().item(), (~matched).float().mean().item()
print(f"{len(size)} good detections: {everything:.0%} from anchors under 0.35, {unmatched:.0%} from unmatched ones")
# measured: 20 to 24 % and 31 to 33 % over 3 seeds
assert low["under 8 px"] == 1 and 0.15 < everything < 0.35
assert low["16 px and more"] < low["8 to 16 px"] < low["under 8 px"]

# %% [markdown]
# **The 89 % does not reproduce here.** On our digits a fifth to a quarter of the good detections come from
# anchors under 0.35. Faces are not digits, and 100 steps are few. But look at the sizes: the share depends on
# them above all.
#
# Under 8 px it is all of them, and it has to be. An object under 8 px has an area under 64 px², the smallest anchor
# has 256 px², so their IoU is under 0.25. A share of 89 % says as much about the sizes of objects and anchors as about
# the network. That is our reading; the paper's anchors and faces are not here to check it.
#
# The second number is nearer to the paper's words. It asks what the rule says of the anchor, not a threshold.

# %%
for s, name in enumerate(SIZES):
    here = size == s
    print(f"{name:15} {here.sum():4} good detections, {(~matched[here]).float().mean():4.0%} from anchors not matched")
# measured: all sizes 31 to 33 %, under 8 px 4 to 8 %, over 3 seeds
assert 0.15 < unmatched < 0.5 and (~matched[size == 0]).float().mean() < 0.2

# %% [markdown]
# About a third of the good detections come from anchors that were taught something else: "background", nothing,
# or another object. (Under 8 px they are few, because there the low-quality rule with all ties had matched whatever was
# possible.)
# So the observation **reproduces in kind**. The network regresses well from where nobody asked it to. HAMBox makes use
# of that.
#
# ## Step one: match, and force nothing
#
# An anchor with IoU ≥ 0.35 goes to the object that it overlaps most. That is the rule of chapter 5 with one threshold
# and **no low-quality rule**. An object may get nothing.

# %% tags=["nbval-check-output"]
step_one = MaxIoU(fg_thresh=0.35, bg_thresh=0.35, allow_low_quality_matches=False)
got = torch.cat(step_one(anchors, test_set.targets).positives_per_gt([len(boxes) for boxes in truths]))
print("IoU 0.35 or more     matched an object    with none")
for s, name in enumerate(SIZES):
    here = got[sizes == s].float()
    print(f"{name:15} {here.mean():20.1f} {(here == 0).float().mean():14.0%}")
assert (got[sizes == 0] == 0).all() and got[sizes == 2].float().mean() > 10

# %% [markdown]
# The gap is wide: none for the smallest, more than ten for the largest. The paper calls objects with few matches
# *outer* faces (section 3.2). Step two is for them.
#
# ## Step two: compensate
#
# Let $b_a$ be the box that the network makes of anchor $a$, now, in this training step. The quality of the anchor for
# an object $g$ is
#
# $$F_{a,g} = \text{IoU}(b_a, g)$$
#
# An object with $M_g$ matches, fewer than $k$, may take up to $k - M_g$ **unmatched** anchors with $F_{a,g} \ge T$,
# the best first. ($k$ and $T$ are set by the user.) They are positives like the others, and their targets are encoded
# from the anchor where it stands.
#
# To see it without training, we need a network whose state we can choose. Chapter 8 moved an anchor a share of the
# way. Here every anchor that overlaps an object with IoU 0.1 or more goes a share of the way to the one it overlaps
# most. In the picture it is half of the way.

# %%
def half_learned(boxes, share):
    """The boxes of a network that makes this share of every right move: 0 is untrained, 1 perfect."""
    overlap, nearest = iou(anchors.boxes[:, None], boxes).max(dim=1)
    moves = encode_deltas(boxes[nearest], anchors.boxes) * (overlap >= 0.1)[:, None]
    return decode_deltas(share * moves, anchors.boxes)

crowd = plot.SCENES["crowd"]
moved = half_learned(crowd.boxes, 0.5)
before, after = iou(anchors.boxes[:, None], crowd.boxes), iou(moved[:, None], crowd.boxes)
free = before.amax(dim=1) < 0.35
candidates = (free[:, None] & (after >= 0.5)).sum(dim=0)
matches = step_one(anchors, crowd.target).positives_per_gt(15)
assert (matches == 0).sum() == 3 and (candidates[matches == 0] > 0).all()

# %%
fig, axes = plot.figure(2, width=4.4, height=4.0)
for ax, title, numbers in zip(axes, ("matches M", "unmatched with F ≥ 0.5"), (matches, candidates), strict=True):
    plot.scene(ax, crowd, labels=[str(n) for n in numbers.tolist()], title=title)
    ax.set(xlim=(28, 100), ylim=(90, 36))
plot.points(axes[0], anchors.centers[~free], "positive")
plot.points(axes[1], anchors.centers[free & (after >= 0.5).any(dim=1)], "prediction")
plot.legend(axes[0], positive="matched anchor")
plot.legend(axes[1], prediction="regresses well, unmatched")
plot.show(fig, alt=(
    "Fifteen small objects. Left, the number of matches of each, from none to eight, and the matched anchors. Right, "
    "for each the number of unmatched anchors whose half-moved box reaches IoU 0.5; nobody without matches has zero."))

# %% [markdown]
# Three of the fifteen objects have no match. Each of the three has unmatched anchors that regress well enough.
#
# ### Exercise 10.2: who makes up for it?
# *Difficulty 2 of 5, 10 minutes.*
#
# For one object `g`: which anchors compensate it, the best first? `decoded_iou` holds $F_{a,g}$ for every anchor.
# `step_one` says whom step one matched it to (an object's index, or `NEGATIVE`). Equal values: the lower index first.

# %%
def my_extra(decoded_iou, step_one, g, k, decoded_thresh):
    """Indices int64 of the anchors that compensate object g, at most k minus its matches; from float [P], int64 [P]."""
    # BEGIN SOLUTION 10.2
    missing = max(k - int((step_one == g).sum()), 0)
    order = decoded_iou.argsort(descending=True, stable=True)
    candidate = (step_one == NEGATIVE) & (decoded_iou >= decoded_thresh)
    return order[candidate[order]][:missing]
    # END SOLUTION

# %%
course.check("10.2", my_extra)

# %% [markdown]
# That was one object. In an image an anchor may be good enough for two objects. Which of them gets it? The paper does
# not say, as far as we know it. labelkit takes all pairs of the image by $F$, the best first. An anchor compensates
# once.
#
# ## Step three: ignore what was not needed
#
# Some unmatched anchors regress well and are still left over: their object has its k. To call them background would
# teach the network that a good box is a bad one. So an unmatched anchor with $F \ge 0.5$ for any object, that
# compensates nobody, is **ignored**: no classification loss, no box loss (section 3.3).

# %%
def outcome(share):
    """HAMBox's answer in the crowd for a half-learned network, and which of its positives compensate."""
    predictions = Predictions(half_learned(crowd.boxes, share), torch.ones(len(anchors), 1))
    answer = HAMBox(k=5, decoded_thresh=0.5)(anchors, crowd.target, predictions)
    return answer, answer.positive & free

fig, axes = plot.figure(3, width=3.4, height=3.9)
for ax, share in zip(axes, (0.0, 0.5, 0.8), strict=True):
    answer, extra = outcome(share)
    plot.scene(ax, crowd, title=f"{share:.0%} learned: {extra.sum()} compensate,\n{answer.ignored.sum()} ignored")
    plot.points(ax, anchors.centers[answer.ignored], "ignored")
    plot.points(ax, anchors.centers[answer.positive & ~extra], "positive")
    plot.points(ax, anchors.centers[extra], "prediction")
    ax.set(xlim=(20, 108), ylim=(108, 20))
plot.legend(axes[1], positive="matched", prediction="compensates", ignored="ignored")
plot.show(fig, alt=(
    "The crowd with a network that has learned nothing, half of each move, and 80 percent of it. At first there are "
    "only matched anchors. Then some compensate, a few are ignored. At last ignored ones surround the crowd."))

# %% [markdown]
# ### Exercise 10.3: HAMBox
# *Difficulty 4 of 5, 20 minutes.*
#
# All three steps for one image. Matching at 0.35, ignoring from 0.5 on. Step two takes the pairs of the *whole image*
# by their decoded IoU, the best first; equal ones: the lower object, then the lower anchor.

# %%
def my_hambox(priors, gt_boxes, decoded, k, decoded_thresh):
    """For every prior the index of its object, NEGATIVE or IGNORED; int64 [P]. decoded: float [P, 4]."""
    # BEGIN SOLUTION 10.3
    gt = torch.full((len(priors),), NEGATIVE)
    if len(gt_boxes) == 0:
        return gt
    best, owner = iou(priors.boxes[:, None], gt_boxes).max(dim=1)
    gt[best >= 0.35] = owner[best >= 0.35]
    after = iou(decoded[:, None], gt_boxes)
    room = k - torch.bincount(gt[gt >= 0], minlength=len(gt_boxes))
    own, prior = ((gt == NEGATIVE)[:, None] & (after >= decoded_thresh)).T.nonzero(as_tuple=True)
    for i in after[prior, own].argsort(descending=True, stable=True).tolist():
        if gt[prior[i]] == NEGATIVE and room[own[i]] > 0:
            gt[prior[i]] = own[i]
            room[own[i]] -= 1
    gt[(gt == NEGATIVE) & (after.amax(dim=1) >= 0.5)] = IGNORED
    return gt
    # END SOLUTION

# %%
course.check("10.3", my_hambox)

# %% [markdown]
# ## The library's version
#
# `labelkit.assigners.HAMBox` does that for a batch, image by image in blocks, without a table of all anchors and all
# objects. It must agree with a slow definition on four test images, with the boxes that the two networks above make.

# %%
def slow_hambox(boxes, decoded, k, thresh):
    before, after = (iou(each[:, None], boxes).tolist() for each in (anchors.boxes, decoded))
    owner = [max(range(len(boxes)), key=row.__getitem__) for row in before]
    gt = [g if before[p][g] >= torch.tensor(0.35).item() else NEGATIVE for p, g in enumerate(owner)]
    room = [k - gt.count(g) for g in range(len(boxes))]
    pairs = [(-after[p][g], g, p) for p in range(len(gt)) for g in range(len(boxes))
             if gt[p] == NEGATIVE and after[p][g] >= thresh]
    for _, g, p in sorted(pairs):
        if gt[p] == NEGATIVE and room[g] > 0:
            gt[p], room[g] = g, room[g] - 1
    return [IGNORED if g == NEGATIVE and max(after[p]) >= 0.5 else g for p, g in enumerate(gt)]

for network in (by_atss, of_chapter_7):
    for picture in range(0, 12, 3):
        image, target = test_set[picture]
        boxes, scores = read(network, image)
        answer = HAMBox(k=5, decoded_thresh=0.5)(anchors, target, Predictions(boxes, scores))
        assert answer.gt.tolist() == slow_hambox(truths[picture], boxes, 5, 0.5)

# %% [markdown]
# ### What is not known
#
# The authors' code was announced and we have not found it. So be careful with any number that is called HAMBox's.
#
# - **k and T.** We do not know the paper's values from a source that we could check. labelkit has no default for
#   them. The course takes k = 5 and T = 0.5, as a re-implementation by others does.
# - **That re-implementation differs in more.** In step one an object's best anchor goes to that object, even if it
#   overlaps another one more. In step two it takes the best k of *all* anchors and then drops the matched ones. So an
#   object may get fewer than it lacks, or more. (A test of exercise 10.2 catches that.)
# - **The count below the second sum** of the loss can be read in two ways. We come to it.
#
# ## A start from nothing
#
# Where does the first compensation come from? An untrained network moves its anchors little. If it moved them not at
# all, $b_a = a$, an unmatched anchor would have $F < 0.35$, which is below $T$: no candidates. **HAMBox begins as its
# own step one, and nobody has to switch step two on.** In the table the knob is how much has been learned.

# %% tags=["nbval-check-output"]
shares = [0.1 * i for i in range(10)]
table = {"matched": [], "compensate": [], "ignored": []}
print("learned   matched   compensate   ignored   objects without a positive")
for share in shares:
    answer, extra = outcome(share)
    row = [int((answer.positive & ~extra).sum()), int(extra.sum()), int(answer.ignored.sum())]
    nothing = int((answer.positives_per_gt(15) == 0).sum())
    print(f"{share:7.0%} {row[0]:9} {row[1]:12} {row[2]:9} {nothing:14}")
    for name, number in zip(table, row, strict=True):
        table[name].append(number)
assert table["compensate"][0] == table["ignored"][0] == 0 < table["compensate"][5]
assert table["ignored"][-1] > 5 * table["compensate"][-1] and table["compensate"][-1] == table["compensate"][-2]

# %%
fig, (ax,) = plot.figure(width=6.2, height=3.4)
plot.curves(ax, shares, table, xlabel="share of the move that the network makes", ylabel="anchors of 1344")
plot.show(fig, alt=(
    "Matched, compensating and ignored anchors of the crowd against what the network has learned. Matched ones are "
    "constant. Compensating ones rise from zero and level off at 22. Ignored ones rise to 179, above all others."))
assert max(table["compensate"]) == 22 and max(table["ignored"]) == 179 > 2 * table["matched"][0]

# %% [markdown]
# The surprise is the last column but one. Compensation levels off at 22: every object soon has its k. The **ignored**
# go on to 179, more than twice the matched ones. The better the network, the more anchors regress well, and the fewer
# are left to teach it what background looks like near an object. (No real network moves so many anchors so well.)
#
# ## The loss: two sums, two counts
#
# A compensated anchor is a bet: it is as good as its box. So its classification loss is weighted by $F$, and it gets a
# sum of its own (Liu 2020, section 3.3, equation 3). With $\ell_a$ the focal loss of anchor $a$, $\psi$ the compensated
# anchors, and $\Omega$ the matched and the negative ones:
#
# $$L_{cls} = \frac{1}{N_{com}} \sum_{a \in \psi} F_a \, \ell_a + \frac{1}{N_{norm}} \sum_{a \in \Omega} \ell_a$$
#
# $N_{com}$ is the number of compensated anchors. $N_{norm}$ could be read as the number of anchors in $\Omega$. Then
# one positive among a thousand negatives would count next to nothing. labelkit takes the number of *matched* anchors,
# as RetinaNet does. A count of 0 is replaced by 1. The box loss has the same two counts, without
# $F$ and without the negatives.
#
# $F_a$ is a constant here. If the gradient went through it, the network could lower the loss by regressing worse.
#
# ### Exercise 10.4: two sums, two counts
# *Difficulty 3 of 5, 10 minutes.*
#
# Write this loss for one image. Ignored anchors are in neither sum.

# %%
def my_loss(losses, gt, compensated, decoded_iou):
    """The loss, a tensor []. losses: float [P], gt: int64 [P], compensated: bool [P], decoded_iou: float [P]."""
    # BEGIN SOLUTION 10.4
    matched = (gt >= 0) & ~compensated
    rest = ~compensated & (gt != IGNORED)
    extra = (decoded_iou * losses)[compensated].sum() / compensated.sum().clamp(min=1)
    return extra + losses[rest].sum() / matched.sum().clamp(min=1)
    # END SOLUTION

# %%
course.check("10.4", my_loss)

# %% [markdown]
# Does labelkit's detector compute that? We take HAMBox with the network of chapter 7, the training image with the most
# digits, and the formula.

# %%
fullest = max(range(len(train_set)), key=lambda index: len(train_set.targets[index]["boxes"]))
images, targets = collate([train_set[fullest]])
of_chapter_7.use_assigner(HAMBox(k=5, decoded_thresh=0.5), None)
of_chapter_7.train()
reported = of_chapter_7(images, targets)["classification"].detach()
of_chapter_7.eval()
answer, scores = of_chapter_7.last_assignment[0], read(of_chapter_7, images[0])[1][:, 0]
focal = focal_loss(scores.logit(), answer.positive.float())
extra = answer.positive & (answer.weight < 1)
first = (answer.weight * focal)[extra].sum() / extra.sum().clamp(min=1)
second = focal[~extra & ~answer.ignored].sum() / (answer.positive & ~extra).sum().clamp(min=1)
torch.testing.assert_close(first + second, reported, rtol=1e-3, atol=1e-4)
print(f"{(answer.positive & ~extra).sum()} matched, {extra.sum()} compensate, {answer.ignored.sum()} ignored")
assert extra.any()  # measured: 8 to 11

# %% [markdown]
# ## Watch it while training goes on
#
# Lightning calls a callback after each step. Ours asks the detector for its last assignment and counts, by size.

# %%
class Watch(L.Callback):
    """After every step: by size the objects, matched and compensating anchors [3, 3]; and the ignored ones."""

    def __init__(self):
        self.counts, self.ignored = [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, step):
        answer, counts = module.detector.last_assignment, torch.zeros(3, 3)
        extra = answer.positive & (answer.weight < 1)
        for image, target in enumerate(batch[1]):
            size, gt = size_index(target["boxes"].as_subclass(torch.Tensor)), answer.gt[image]
            matched = answer.positive[image] & ~extra[image]
            for column, whose in enumerate((size, size[gt[matched]], size[gt[extra[image]]])):
                counts[:, column] += torch.bincount(whose, minlength=3)
        self.counts.append(counts)
        self.ignored.append(int(answer.ignored.sum()) / len(batch[1]))

recipe = Recipe(assigner="hambox", assigner_args={"k": 5, "decoded_thresh": 0.5}, steps=60)
watch = Watch()
by_hambox, hambox_scores = short_run(recipe, watch)

# %%
def an_object(watch, column, window=10):
    """Anchors an object by size, in blocks of ten steps: [blocks, 3]."""
    blocks = torch.stack(watch.counts).reshape(-1, window, 3, 3).sum(dim=1)
    return blocks[:, :, column] / blocks[:, :, 0]

steps = range(10, 61, 10)
fig, axes = plot.figure(3, width=3.6, height=3.3)
for ax, column, title, top in zip(axes, (1, 2), ("matched", "compensating"), (18, None), strict=False):
    lines = dict(zip(SIZES, an_object(watch, column).T, strict=True))
    plot.curves(ax, steps, lines, xlabel="step", ylabel="anchors an object")
    ax.set(title=title, ylim=(-0.01, top))
ignored = torch.tensor(watch.ignored).reshape(-1, 10).mean(dim=1)
plot.curves(axes[2], steps, {"ignored": ignored}, xlabel="step", ylabel="anchors an image")
axes[2].set_title("ignored")
plot.show(fig, alt=(
    "Over 60 steps. Matched anchors an object stay as they are: none under 8 px, some for 8 to 16 px, many above. "
    "Compensating ones begin near zero and rise, for objects under 16 px only. Ignored anchors rise too."))

# %%
early, late = an_object(watch, 2, window=30)
print("compensating anchors an object   first 30 steps   last 30 steps")
for s, name in enumerate(SIZES):
    print(f"{name:15} {early[s]:32.2f} {late[s]:15.2f}")
# measured over 3 seeds from 8 to 16 px: 0.00 to 0.05, then 0.40 to 0.61; from 16 px on: 0
assert early.max() < 0.24 and late[1] > early[1] + 0.1 and late[2] < 0.05
assert ignored[-1] / (ignored[0] + ignored[-1]) > 0.6

# %% [markdown]
# It is as the scenes predicted. In the first half next to nobody compensates. Then anchors begin to regress, and
# objects that step one left out get their first positives. Most of them have 8 to 16 px. Under 8 px compensation is
# rarer, and how rare differs with the seed and with the processor. The large ones need none.
#
# ### What k and T do
#
# Both can be asked of a trained network, without training it again. We take that of chapter 7, which has good
# detections of every size, and turn the two knobs.

# %%
read_all = [read(of_chapter_7, image) for image, _ in test_set]
said = Predictions(*(torch.stack(parts) for parts in zip(*read_all, strict=True)))

def compensating(k, thresh):
    """Compensating anchors an object, by size."""
    answer, counts = HAMBox(k=k, decoded_thresh=thresh)(anchors, test_set.targets, said), torch.zeros(3)
    extra = answer.positive & (answer.weight < 1)
    for image, boxes in enumerate(truths):
        counts += torch.bincount(size_index(boxes)[answer.gt[image][extra[image]]], minlength=3)
    return counts / sizes.bincount(minlength=3)

knobs = (0.5, 0.6, 0.7, 0.8)
by_k = {k: torch.stack([compensating(k, thresh) for thresh in knobs]) for k in (3, 5, 9)}

# %%
fig, axes = plot.figure(2, width=4.3, height=3.3)
for s, ax in enumerate(axes):
    plot.curves(ax, knobs, {f"k = {k}": rows[:, s] for k, rows in by_k.items()}, xlabel="T", ylabel="anchors an object")
    ax.set(title=f"compensating, {SIZES[s]}", ylim=(0, None))
plot.show(fig, alt=(
    "Compensating anchors an object against T, for k of 3, 5 and 9. Under 8 px 9 gives little more than 5, and all "
    "fall to nearly nothing at T = 0.8. From 8 to 16 px a larger k gives more at T = 0.5, and no more at T = 0.8."))
small, middle = by_k[9][:, 0], by_k[9][:, 1]
assert abs(iou(torch.tensor([0.0, 0, 6, 6]), torch.tensor([1.0, 1, 7, 7])) - 0.53) < 0.005
assert small[-1] < 0.25 * small[0] and by_k[5][0, 0] > 0.8 * small[0] and middle[0] > 1.5 * by_k[3][0, 1]

# %% [markdown]
# For the smallest objects it makes little difference whether k is 5 or 9. Few of them have so many candidates. So
# **T decides**, and at T = 0.8 hardly any anchor is good enough. A box of 6 px that is off by one pixel both ways
# has IoU 0.53 (chapter 1). So T is a threshold for all objects after all, the very thing that chapter 8 complained of.
# It only comes later.
#
# And does an anchor help the right object? In a crowd it may be moved to the neighbour of the one it lies on.

# %%
answer, wrong, total = HAMBox(k=5, decoded_thresh=0.5)(anchors, test_set.targets, said), 0, 0
for image, boxes in enumerate(truths):
    extra = answer[image].positive & (answer[image].weight < 1)
    overlap = iou(anchors.boxes[extra][:, None], boxes)
    wrong += int((overlap.argmax(dim=1) != answer[image].gt[extra]).sum())
    total += len(overlap)
print(f"{wrong} of {total} compensating anchors overlap another object more than the one they serve")
# measured: 0 to 2 of 324 to 450 over 3 seeds
assert total > 50 and wrong < 0.2 * total

# %% [markdown]
# On the digits, whose boxes hardly overlap, that is rare.
#
# ## The experiment: what does it bring?
#
# The same detector, steps and images, trained with ATSS at the top of this chapter. And HAMBox's labels once more, with
# **one count for both sums** (`plain_loss`): all positives are divided by their common number.

# %%
watch_one = Watch()
by_one_count, one_count_scores = short_run(replace(recipe, plain_loss=True), watch_one)

# %%
runs = {"ATSS": atss_scores, "HAMBox, two counts": hambox_scores, "HAMBox, one count": one_count_scores}
keys = dict(zip(SIZES, ("AP50_0-8", "AP50_8-16", "AP50_16+"), strict=True))
bars = {name: {size: 100 * run[key] for size, key in keys.items()} for name, run in runs.items()}
fig, axes = plot.figure(2, width=5.2, height=3.5)
plot.bars_by_size(axes[0], bars, ylabel="AP50 after 60 steps")
axes[0].set_ylim(0, 1.4 * max(bars["ATSS"].values()))
lines = {"two counts": an_object(watch, 2)[:, 0], "one count": an_object(watch_one, 2)[:, 0]}
plot.curves(axes[1], steps, lines, xlabel="step", ylabel="anchors an object")
axes[1].set_title("compensating, under 8 px")
plot.show(fig, alt=(
    "Left, AP50 by size after 60 steps for ATSS, HAMBox with two counts and HAMBox with one count. From 8 px on two "
    "counts are the lowest bar. Right, compensating anchors an object under 8 px over the steps: none with one "
    "count, some with two."))
for name, run in runs.items():
    print(f"{name:20} AP50 {100 * run['AP50']:4.1f}, under 8 px {100 * run['AP50_0-8']:4.1f}")
# measured over 3 seeds: AP50 12 to 14, 4 to 6, 9 to 13; under 8 px 1 to 3, 2 to 3, 0
assert (one_count_scores["AP50"] + atss_scores["AP50"]) / 2 > hambox_scores["AP50"]
late_one = an_object(watch_one, 2, window=30)[1]
print(f"compensating, 8 to 16 px, last 30 steps: {late[1]:.2f} with two counts, {late_one[1]:.2f} with one")
assert lines["one count"].max() < 0.02 and late[1] > 3 * late_one[1]  # measured: 0; 0.40 to 0.61, 0.02 to 0.03

# %% [markdown]
# That is not what one would expect after the paper. **With its own loss, HAMBox stays behind the other two
# here**, which the leaderboard below confirms for longer runs. With one count it is better. But then, in so few
# steps, nobody compensates the smallest objects: the network is never told to regress to them, so no anchor
# does, so none is chosen. A start from nothing can stay there. The two counts break that circle, and they cost
# AP50 from 8 px on.
#
# ### Why two counts cost so much
#
# In the box loss a compensating anchor weighs $1 / N_{com}$, and a matched one $1 / N_{norm}$. How many matched ones
# are there for each compensating one?

# %%
counts = torch.stack(watch.counts)[-20:].sum(dim=(0, 1))
ratio = (counts[1] / counts[2]).item()
print(f"last 20 steps: {ratio:.0f} matched anchors for each compensating one")
# measured: 11 to 17 over 3 seeds
assert counts[1] > 4 * counts[2]

# %% [markdown]
# So a compensating anchor weighs about that many times more. The few of them have as much weight in the box loss as all
# matched ones together. The size of their pull matters too. The paper uses smooth L1 on the four numbers. Our recipe
# uses GIoU. What do they ask of an anchor whose box is nearly right?

# %%
target, anchor = torch.tensor([[59.0, 57.0, 69.0, 67.0]]), torch.tensor([[56.0, 56.0, 72.0, 72.0]])
right, share = encode_deltas(target, anchor), torch.linspace(0.3, 0.98, 30)
moves = (share[:, None] * right).requires_grad_()
made = decode_deltas(moves, anchor.expand(30, 4))
losses = {
    "GIoU": ops.generalized_box_iou_loss(made, target.expand(30, 4), reduction="sum"),
    "smooth L1": torch.nn.functional.smooth_l1_loss(moves, right.expand(30, 4), reduction="sum"),
}
pull = {name: torch.autograd.grad(loss, moves, retain_graph=True)[0].norm(dim=1) for name, loss in losses.items()}
fig, (ax,) = plot.figure(width=5.6, height=3.3)
plot.curves(ax, iou(made.detach(), target), pull, xlabel="F, the IoU of the box", ylabel="length of the gradient")
ax.set_ylim(0, None)
plot.show(fig, alt=(
    "Length of the box loss's gradient against the IoU of the box. Under GIoU it grows up to IoU 1. Under smooth L1 it "
    "falls to zero."))
assert pull["GIoU"][-1] > pull["GIoU"][0] and pull["smooth L1"][-1] < 0.1 * pull["smooth L1"][0]

# %% [markdown]
# Under smooth L1 an anchor pulls less and less as its box gets better, and who compensates has a good box already.
# Under GIoU it pulls more and more, to the end. So perhaps our box loss turns a gentle rule into a violent one?
#
# When we wrote this chapter, 120 steps with one seed said so: under smooth L1 two counts cost nothing. That is a
# comfortable explanation, since it leaves the paper in the right. It deserves a harder test.
#
# ### Beside the leaderboard
#
# `labelkit course board` trains for longer and with three seeds. It has HAMBox as published, with one count, and with
# two counts under smooth L1, and for that last one ATSS under smooth L1 to compare with. Its rows were trained with
# anchors on the corners of the cells, and are being trained again with anchors in mid-cell (chapter 3).

# %%
board = leaderboard.read(datasets.data_dir() / "results", "digits", "full")
shown = ["max_iou, no low quality", "atss", "atss, smooth L1", "hambox", "hambox, smooth L1", "hambox, one count"]
Markdown(leaderboard.table({name: board[name] for name in (*shown, leaderboard.BASELINE)}))

# %% [markdown]
# A difference in bold has the same sign in every seed and exceeds 1.5.

# %%
pairs = [("hambox", "atss"), ("hambox, smooth L1", "atss, smooth L1"), ("hambox, one count", "hambox"),
         ("hambox, one count", "atss"), ("hambox, one count", "max_iou, no low quality")]
gains = [leaderboard.difference(board[one], board[other]) for one, other in pairs]
assert [gain[2:].split()[0] for gain in gains] == ["-20.1", "-13.3", "+13.5", "-6.7", "+5.8"]
smallest = leaderboard.difference(board["hambox, one count"], board["max_iou, no low quality"], "AP50_0-8")
largest = [leaderboard.difference(board[one], board[other], "AP50_16+") for one, other in pairs[:2]]
assert smallest.startswith("**+47.8") and [text[2:5] for text in largest] == ["-25", "-14"]
Markdown(leaderboard.compare(board, *pairs))

# %% [markdown]
# **The comfortable explanation fails.** Under smooth L1 HAMBox is still 13.3 AP behind ATSS. The box loss explains a
# part, on the large objects: there the distance shrinks from 26 to 15 AP50. One seed and 120 steps had told us more
# than they knew.
#
# **It is the two counts.** With one count the same labels are worth 13.5 AP more. Our images hold few compensating
# anchors. With more objects in an image, and more anchors an object, as on the faces of the paper, $N_{com}$ would not
# be small, and the same formula might be harmless. We have not measured that.
#
# **And the labels work.** HAMBox with one count against the fixed rule that, like it, forces no match: 5.8 AP more, and
# under 8 px 48 AP50 out of nothing. Compensation is the only source of positives there. ATSS stays 6.7 AP ahead: it
# gives the smallest their anchors from the first step on. The label rule and its loss were published together. They
# are two things.
#
# ## The card
#
# | | HAMBox |
# |---|---|
# | who may match? | step one: all anchors; step two: the unmatched ones |
# | how well? | step one: IoU of the anchor; step two: IoU of the box that the network makes of it, now |
# | who is chosen? | IoU ≥ 0.35; then the best with F ≥ T, up to k an object; others with F ≥ 0.5: ignored |
# | who wins? | the object of the highest IoU; in step two the best pair of the image |
# | cost | an IoU table of decoded boxes each step; cannot be prepared with the data |
# | breaks | starts with nothing, and may stay there; T is one threshold for all; few compensating ones weigh too much |
# | name it | k, T, whether a match is forced, both counts, the box loss |
#
# **Next.** HAMBox lets the network add positives. It still calls all of them 1, a matched anchor that regresses badly
# as well. Chapter 11 asks the network about the positives themselves: how clean is each one? That is soft labels.
#
# ## Recap
#
# - IoU before the regression is a poor guess: many of ATSS's positives end badly, and many anchors that end well are
#   its negatives.
# - A fifth to a quarter of our good detections come from anchors under 0.35, not 89 %. Under 8 px it is all of them.
# - Match at 0.35 without force; compensate up to k by decoded IoU; ignore what regresses well and is not needed.
# - Next to nothing compensates at the start. It grows with the regression, and the ignored ones grow with it.
# - Two sums with two counts give the few compensating anchors as much weight in the box loss as all matched ones. Here,
#   where they are rare, two counts cost 13.5 AP.
#
# ## Recall
#
# <details><summary>1. k = 5, T = 0.5. An object has 3 matches. Six unmatched anchors have F from 0.5 to 0.9 with it,
# and 0 with all others. What becomes of them?</summary>
#
# The best two compensate. The other four are ignored: they regress well, and are not needed.
# </details>
#
# <details><summary>2. Why is no schedule needed that switches the compensation on?</summary>
#
# An untrained network leaves each anchor about where it is. Unmatched anchors have an IoU under 0.35 there, which is
# below T.
# </details>
#
# <details><summary>3. A matched anchor's box lies on the neighbour. What does HAMBox do?</summary>
#
# Nothing. Step one has decided, and only unmatched anchors are asked again. Its target stays the first object.
# </details>
#
# ## References
#
# - Y. Liu and others, *HAMBox: Delving into Online High-quality Anchors Mining for Detecting Outer Faces*, arXiv
#   1912.09231 (CVPR 2020 as *HAMBox: Delving into Mining High-Quality Anchors on Face Detection*): section 3.2
#   (matching and compensation), section 3.3 and equations 3 and 4 (the loss).
# - S. Zhang and others, *Bridging the Gap Between Anchor-based and Anchor-free Detection*, CVPR 2020, arXiv 1912.02424.
# - T.-Y. Lin and others, *Focal Loss for Dense Object Detection*, ICCV 2017, arXiv 1708.02002, section 3.
# - chyueG, *HAMBox-high-anchors-mining*, `ham_loss.py`: the re-implementation by others that is named above.
# - The digits and photographs: `data/README.md`.
