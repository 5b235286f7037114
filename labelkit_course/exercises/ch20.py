"""The exercises of chapter 20: what chance does to equal rules, six comparisons, a method that weighs everybody."""

import random
import statistics
from functools import cache

from labelkit import datasets
from labelkit_course import Exercise, Wrong, board, expect

# --- 20.1 -----------------------------------------------------------------------------------------------------------

SCATTER, NAMES, SEEDS = 1.3, 21, 3


@cache
def _equals():
    """(how many of 20 agree in all three seeds, the best's lead over the middle), the mean of many boards."""
    draw = random.Random(1)
    agreeing, leads = [], []
    for _ in range(3000):
        rows = [[draw.gauss(0, SCATTER) for _ in range(SEEDS)] for _ in range(NAMES)]
        signs = [{one > other for one, other in zip(rows[0], row, strict=True)} for row in rows[1:]]
        agreeing.append(sum(len(sign) == 1 for sign in signs))
        means = sorted(statistics.mean(row) for row in rows)
        leads.append(means[-1] - statistics.median(means))
    return {"all three": statistics.mean(agreeing), "lead": statistics.mean(leads)}


def twenty_one_equals(guess):
    clues = [
        ({"all three": lambda n: n < 4}, "Three seeds can agree by luck in two ways: think of three coins."),
        ({"all three": lambda n: n >= 9}, "One seed decides a coin. Three have to fall on the same side."),
        ({"all three": lambda n: n < 9 and n > 6}, "Three coins fall on the same side less often than that."),
        ({"lead": lambda lead: lead < 0.9}, "The best of 21 is not a typical one: it has been chosen for its luck."),
        ({"lead": lambda lead: lead > 1.9}, "A mean of three seeds scatters less than one seed does."),
    ]
    expect(guess, _equals(), within={"all three": 1, "lead": 0.4}, clues=clues)


# --- 20.2 -----------------------------------------------------------------------------------------------------------

PAIRS = {
    "RKA over all ties": ("rka", "max_iou, all ties"),
    "k = 3 over k = 9": ("topk, k=3", "topk, k=9"),
    "ATSS over all ties": ("atss", "max_iou, all ties"),
    "RKA over ATSS": ("rka", "atss"),
    "RFLA over all ties": ("rfla", "max_iou, all ties"),
    "varifocal over focal": ("atss, varifocal", "atss"),
}


@cache
def _verdicts():
    """What the board's own rule says of each pair: a bold gain is "yes"."""
    there = board.read(datasets.data_dir() / "board", "digits", "full")
    told = {name: board.difference(there[one], there[other]) for name, (one, other) in PAIRS.items()}
    return {name: "yes" if text.startswith("**+") else "open" for name, text in told.items()}


def six_sentences(answer):
    clues = [
        ({"RKA over all ties": "open"}, "RKA over all ties: look at the three signs, and work out their mean."),
        ({"k = 3 over k = 9": "open"}, "k = 3 over k = 9: all seeds say the same, and the mean is not small."),
        (
            {"ATSS over all ties": "open"},
            "ATSS over all ties: the three differ much, and that is not asked. Are both conditions met?",
        ),
        ({"RKA over ATSS": "yes"}, "RKA over ATSS: seed 0 is one of three. What do the other two say?"),
        ({"RFLA over all ties": "yes"}, "RFLA over all ties: small and always. How often does luck do that, by 20.1?"),
        (
            {"varifocal over focal": "yes"},
            "varifocal over focal: it is the highest row of the board. Work out the mean.",
        ),
    ]  # fmt: skip
    expect(answer, _verdicts(), among=("yes", "open"), clues=clues)


SIX = dict.fromkeys(list(PAIRS)[:3], "yes") | dict.fromkeys(list(PAIRS)[3:], "open")


# --- 20.3 -----------------------------------------------------------------------------------------------------------

DW = {
    "who": "points inside",
    "how": "score and overlap",
    "chosen": "everybody, by weight",
    "wins": "nobody: it serves several",
}
PHRASES = {
    "who": ("points inside", "the nearest of each level", "every point"),
    "how": ("overlap of the prior", "overlap of the prediction", "score and overlap"),
    "chosen": ("the k best", "those above a threshold", "everybody, by weight"),
    "wins": ("the highest score", "the smallest object", "nobody: it serves several"),
}


def dw_in_words(answer):
    if isinstance(answer, dict):
        for key, phrases in PHRASES.items():
            if answer.get(key) in {phrase for other in PHRASES.values() for phrase in other} - set(phrases):
                raise Wrong(f"{answer[key]!r} stands in another line of the list than {key!r}.")
    clues = [
        ({"who": "every point"}, "Sentence 2 leaves some points out."),
        ({"who": "the nearest of each level"}, "Sentence 2 names a region, and no distance."),
        ({"how": "overlap of the prior"}, "Sentence 3 asks what the point predicts, and a point has no size."),
        ({"how": "overlap of the prediction"}, "Sentence 3 multiplies two things: only one is about the box."),
        ({"chosen": "the k best"}, "No sentence counts to k. Whose weight is 0, by sentence 4?"),
        ({"chosen": "those above a threshold"}, "Where would the threshold be? By sentence 4 no weight is 0."),
        ({"wins": "the highest score"}, "Sentence 6: a point may lie in two boxes, and what does it do then?"),
        ({"wins": "the smallest object"}, "That is FCOS. In sentence 6 a point in two boxes need not decide."),
    ]
    among = tuple(phrase for phrases in PHRASES.values() for phrase in phrases)
    expect(answer, DW, among=among, clues=clues)


EXERCISES = (
    Exercise(
        id="20.1",
        kind="P",
        title="Twenty-one equals",
        difficulty=2,
        minutes=5,
        hints=(),
        tests=(twenty_one_equals,),
        mutants={
            "nobody by luck": ({"all three": 0, "lead": 1.4}, "three coins"),
            "one in eight": ({"all three": 2.5, "lead": 1.4}, "two ways"),
            "half of them": ({"all three": 10, "lead": 1.4}, "same side"),
            "a third": ({"all three": 7, "lead": 1.4}, "less often"),
            "no lead": ({"all three": 5, "lead": 0}, "chosen for its luck"),
            "of one seed": ({"all three": 5, "lead": 2.5}, "scatters less"),
        },
    ),
    Exercise(
        id="20.2",
        kind="M",
        title="Six sentences",
        difficulty=3,
        minutes=8,
        hints=(
            "Two conditions, for each pair by itself: one sign in all seeds, and a mean of 2.5 AP or more.",
            "The size of the scatter is not one of the conditions, and neither is the row's place on the board.",
        ),
        tests=(six_sentences,),
        mutants={
            "RKA is open": (SIX | {"RKA over all ties": "open"}, "RKA over all ties"),
            "k is open": (SIX | {"k = 3 over k = 9": "open"}, "not small"),
            "wide is open": (SIX | {"ATSS over all ties": "open"}, "that is not asked"),
            "by seed 0": (SIX | {"RKA over ATSS": "yes"}, "one of three"),
            "small and always": (SIX | {"RFLA over all ties": "yes"}, "small and always"),
            "the first of the board": (SIX | {"varifocal over focal": "yes"}, "highest row"),
        },
    ),
    Exercise(
        id="20.3",
        kind="L",
        title="Everybody, by weight",
        difficulty=2,
        minutes=6,
        hints=("Sentence 2 answers one question, sentence 3 the next, sentences 4 and 6 the others.",),
        tests=(dw_in_words,),
        mutants={
            "every point": (DW | {"who": "every point"}, "leaves some points out"),
            "the nearest": (DW | {"who": "the nearest of each level"}, "no distance"),
            "the prior": (DW | {"how": "overlap of the prior"}, "no size"),
            "the box alone": (DW | {"how": "overlap of the prediction"}, "only one is about the box"),
            "the k best": (DW | {"chosen": "the k best"}, "counts to k"),
            "a threshold": (DW | {"chosen": "those above a threshold"}, "no weight is 0"),
            "the highest": (DW | {"wins": "the highest score"}, "two boxes"),
            "as FCOS": (DW | {"wins": "the smallest object"}, "That is FCOS"),
            "another line": (DW | {"wins": "the k best"}, "another line"),
        },
    ),
)
