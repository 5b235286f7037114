"""The leaderboard's tables: they claim what the seeds show, and the words of docs/board.md hold against them."""

import statistics
from pathlib import Path

import pytest

from labelkit_course import board, entries, rows

DATA = Path(__file__).parents[2] / "data"
BOARD, RESULTS = DATA / "board", DATA / "results"


def entry(variant, seed, ap, **scores):
    return {
        "variant": variant,
        "seed": seed,
        "scores": dict.fromkeys([*board.COLUMNS, *board.AITOD], 0.1) | {"AP": ap} | scores,
        "scores_no_nms": {"AP": 0.05},
        "positives": {"0-8": {"positives": 2.25}},
        "seconds": {"training": 35.0, "processor": 35.0},
    }


def made_up(**methods):
    return {name: {seed: entry(name, seed, ap) for seed, ap in enumerate(aps)} for name, aps in methods.items()}


BASE = [0.30, 0.32, 0.28]


def by_name(markdown):
    return {line.split(" (")[0].strip("| "): line for line in markdown.splitlines()[2:]}


def test_differences_are_paired_by_seed_and_bold_only_above_the_noise():
    boards = made_up(good=[0.33, 0.35, 0.31], level=[0.302, 0.322, 0.282], mixed=[0.40, 0.20, 0.33])
    lines = by_name(board.table(boards | made_up(**{board.BASELINE: BASE})))
    assert "**+3.0 ± 0.0**" in lines["good"] and "33.0 ± 2.0" in lines["good"]
    assert "+0.2 ± 0.0" in lines["level"] and "**" not in lines["level"]  # every seed agrees, but below the noise
    assert "**" not in lines["mixed"]
    assert list(lines)[0] == "good" and "2.2" in lines["good"] and "35 |" in lines["good"]


@pytest.mark.parametrize(
    ("gains", "bold"),
    [
        ([0.026, 0.026, 0.026], True),
        ([0.024, 0.024, 0.024], False),  # all agree, below 2.5 AP
        ([-0.06, -0.02, -0.001], True),  # the mean is what counts, and every sign
        ([0.09, 0.09, -0.001], False),  # 6 AP, but one seed says the opposite
        ([0.09, 0.09, 0.0], False),
        ([0.09, 0.09], False),  # two seeds are too few
    ],
)
def test_bold_follows_the_rule(gains, bold):
    boards = made_up(**{board.BASELINE: BASE, "other": [base + gain for base, gain in zip(BASE, gains, strict=False)]})
    assert ("**" in by_name(board.table(boards))["other"]) == bold
    assert ("**" in board.compare(boards, ("other", board.BASELINE))) == bold
    assert ("**" in board.difference(boards[board.BASELINE], boards["other"])) == bold


def test_entries_of_the_first_board_claim_as_the_texts_beside_them_do():
    boards = made_up(**{board.BASELINE: BASE, "other": [base + 0.02 for base in BASE]})
    assert "**" not in board.table(boards) and "| AP without NMS |" in board.table(boards)
    for row in boards.values():
        for content in row.values():
            del content["scores_no_nms"]
    assert "**+2.0 ± 0.0**" in board.table(boards) and "without NMS" not in board.table(boards)


def test_ap_without_nms_stands_beside_the_other_columns():
    boards = made_up(**{board.BASELINE: BASE})
    for seed, ap in enumerate((0.10, 0.12, 0.14)):
        boards[board.BASELINE][seed]["scores_no_nms"]["AP"] = ap
    head, _, line = (text.strip("| ").split(" | ") for text in board.table(boards).splitlines())
    assert line[head.index("AP without NMS")] == "12.0 ± 2.0"


def test_what_is_not_defined_is_a_dash_and_not_0(tmp_path):
    boards = made_up(good=[0.33, 0.35, 0.31], empty=[None, None, None])
    boards["good"][0]["scores"]["AP50_0-8"] = None
    boards |= made_up(**{board.BASELINE: BASE})
    lines = by_name(board.table(boards))
    assert list(lines)[-1] == "empty" and lines["empty"].split("|")[2].strip() == "-"
    assert lines["good"].split("|")[4].strip() == "10.0 ± 0.0"  # of the two seeds that have one
    boards["good"][0]["scores"]["AP"] = None
    assert board.difference(boards["good"], boards[board.BASELINE]) == "+3.0 ± 0.0"
    board.draw(boards, tmp_path / "board.png")


def test_any_two_rows_can_be_compared():
    boards = made_up(good=[0.33, 0.35, 0.31], level=[0.302, 0.322, 0.282], mixed=[0.40, 0.20, 0.33])
    table = board.compare(boards, ("good", "level"), ("mixed", "good"))
    assert "| good − level | **+2.8 ± 0.0** |" in table and "| mixed − good | -2.0 ± 11.5 |" in table


def test_the_picture_has_a_dot_per_seed_and_ap_without_nms_where_it_is_known(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(board.paired.plot, "png", lambda fig, alt: drawn.append(fig) or b"")
    boards = made_up(good=[0.33, 0.35], level=[0.3, 0.3])
    board.draw(boards, tmp_path / "board.png")
    titles = [ax.get_title() for ax in drawn[0].axes]
    assert titles == ["AP", board.NO_NMS, "AP50 < 8 px", "8-16", "16+"]
    dots = [sorted(line.get_xdata()) for line in drawn[0].axes[0].lines if line.get_marker() == "o"]
    assert dots == [pytest.approx([30, 30]), pytest.approx([33, 35])]  # the best on top
    for row in boards.values():
        for content in row.values():
            del content["scores_no_nms"]
    board.draw(boards, tmp_path / "board.png")
    assert [ax.get_title() for ax in drawn[1].axes] == ["AP", "AP50 < 8 px", "8-16", "16+"]


def test_the_picture_and_a_board_that_is_not_there(tmp_path):
    boards = made_up(good=[0.33, 0.35], level=[0.3, 0.3])
    board.draw(boards, tmp_path / "board.png")
    assert (tmp_path / "board.png").read_bytes()[:4] == b"\x89PNG"
    entries.write_entry(tmp_path / "digits-full-good-seed0.json", entry("good", 0, 0.3))
    assert board.read(tmp_path, "digits", "full") == {"good": {0: entry("good", 0, 0.3)}}
    with pytest.raises(ValueError, match="holds no entry of trees with the full budget"):
        board.read(tmp_path, "trees", "full")


@pytest.fixture(scope="module")
def full():
    """The board of the digits: every row, three seeds."""
    there = board.read(BOARD, "digits", "full")
    assert list(there.values()) and {name: sorted(seeds) for name, seeds in there.items()} == dict.fromkeys(
        sorted(rows.VARIANTS), [0, 1, 2]
    )
    return there


@pytest.fixture(scope="module")
def sky():
    """The board of the sky: every row, three seeds."""
    there = board.read(BOARD, "sky", "full")
    assert {name: sorted(seeds) for name, seeds in there.items()} == dict.fromkeys(sorted(rows.VARIANTS), [0, 1, 2])
    return there


@pytest.mark.parametrize("data", ["digits", "trees", "sky"])
def test_the_page_shows_the_board_as_it_is(data, full, sky):
    page = (DATA.parent / "docs" / "board.md").read_text()
    there = {"digits": full, "sky": sky}.get(data) or board.read(BOARD, data, "full")
    lines = board.table(there).replace(" (3 seeds)", "").splitlines()
    if data == "digits":
        lines += board.by_aitod_size(there).splitlines()
    assert "seeds" not in "".join(lines) and set(there) <= set(rows.VARIANTS)
    assert [line for line in lines if line not in page] == []


def test_what_the_page_says_of_the_board_is_so(full):
    def claim(one, other, key="AP"):
        return board.difference(full[one], full[other], key)

    fixed, nearest, topk, sizes = board.BASELINE, "max_iou, nearest tie", "topk, k=3", list(board.COLUMNS)
    assert max(entry["scores"]["AP50_0-8"] for entry in full["max_iou, no low quality"].values()) < 0.05
    learns = [name for name in full if name not in ("max_iou, no low quality", "fcos, from stride 8")]
    assert min(e["scores"]["AP50_0-8"] for name in learns for e in full[name].values()) > 0.3
    assert [claim("fcos", "fcos, from stride 8", key)[2:7] for key in ("AP50_0-8", "AP")] == ["+37.7", "+21.0"]
    assert [claim(name, fixed)[2:6] for name in ("rka", "atss", topk)] == ["+3.6", "+3.3", "+3.0"]
    assert all(claim(name, fixed).startswith("**") for name in ("rka", "atss", topk))
    assert not any("**" in claim(name, nearest) for name in ("rka", topk, "atss"))
    assert claim(topk, nearest, "AP50_0-8").startswith("**+8.3")
    assert not any("**" in claim(name, topk, key) for name in ("rka", "rka, simd") for key in sizes)
    assert claim("rka, dotd", topk).startswith("-1.9")
    thresholds = [claim(f"max_iou, {name}", fixed) for name in ("nwd", "simd", "gcd")]
    assert [text[2:].split()[0] for text in thresholds] == ["-3.9", "-7.3", "-11.5"]
    assert claim("topk, k=9", topk).startswith("**-5.2") and "**" not in claim(topk, "topk, k=1")
    assert claim("noisy_anchors", "topk, k=9", "AP50_0-8").startswith("**-4.8")
    assert claim("hambox, one count", "hambox").startswith("**+13.8")
    keys = ("AP", "AP50_0-8")
    assert [claim("hambox, one count", "max_iou, no low quality", key)[2:6] for key in keys] == ["+5.0", "+45."]


def test_what_the_page_says_of_the_aerial_images_is_so():
    trees = board.read(BOARD, "trees", "full")
    assert {name: sorted(seeds) for name, seeds in trees.items()} == dict.fromkeys(sorted(rows.SIX_KINDS), [0, 1, 2])

    def claim(one, other, key="AP"):
        return board.difference(trees[one], trees[other], key)

    small, fixed = "AP50_0-8", board.BASELINE
    assert not any("**" in claim(one, other) for one in trees for other in trees)
    alone = trees["max_iou, no low quality"]
    assert max(entry["scores"][small] for entry in alone.values()) == 0.0
    assert board.table(trees).splitlines()[2].startswith("| max_iou, no low quality")
    others = [claim("rfla", name, small) for name in trees if name != "rfla"]
    assert sorted(float(text[2:].split()[0]) for text in others)[:: len(others) - 1] == [3.7, 14.7]
    assert all(text.startswith("**+") for text in others) and claim("rka", fixed, small).startswith("**+4.5")
    assert not any("**+" in claim("rka", fixed, key) for key in board.COLUMNS if key != small)
    assert claim("rfla", "rka", "AP50").startswith("**+4.2")
    costs = {
        name: round(statistics.mean(100 * (e["scores"]["AP"] - e["scores_no_nms"]["AP"]) for e in seeds.values()), 1)
        for name, seeds in trees.items()
    }
    assert min(costs.values()) == costs["rfla"] == 1.7 and max(costs.values()) == costs["fcos"] == 5.9


def test_what_the_page_says_of_soft_and_dynamic_labels_is_so(full):
    def claim(one, other, key="AP"):
        return board.difference(full[one], full[other], key)

    losses = [claim(f"atss, {name}", "atss") for name in ("quality focal", "MAL", "varifocal")]
    assert [text.split()[0] for text in losses] == ["+1.3", "+1.4", "+1.9"]
    own, small = "fcos, own detector", "AP50_0-8"
    assert claim("atss, distributions", own).startswith("**-8.3")
    assert [claim(name, own)[:6] for name in ("paa", "ota", "simota")] == ["**-4.0", "**-6.5", "**-6.8"]
    assert claim("paa", own, small).startswith("**+7.8") and claim("ota", own, small).startswith("**-11.6")
    assert "**" not in claim("tal", "atss") and claim("tal", "tal, k=10").startswith("**+3.8")
    assert not any("**" in claim("tal, floor 8 px", "tal, k=10", key) for key in board.COLUMNS)
    assert [claim(name, "atss")[:6] for name in ("dsl, mmyolo", "dsl")] == ["**-4.4", "**-4.9"]


def test_what_the_page_says_of_leaving_nms_out_is_so(full):
    costs = {
        name: statistics.mean(100 * (e["scores"]["AP"] - e["scores_no_nms"]["AP"]) for e in seeds.values())
        for name, seeds in full.items()
    }
    second = {"topk, k=3, then poto", "tal, then one"}
    one = {"topk, k=1", "rka, dotd, k=1", "poto", "hungarian, inside"}
    many = [cost for name, cost in costs.items() if name not in one | second | {"poto, box alone"}]
    assert min(many) > 6.5 and max(many) < 28
    three = [costs[name] for name in ("rka", "rka, dotd", "rka, simd", "topk, k=3", "rfla")]
    assert min(three) > 9 and max(three) < 13.5 and costs["topk, k=9"] == pytest.approx(27, abs=0.5)
    assert max(costs[name] for name in one) < 2 and round(costs["poto, box alone"], 1) == 7.9

    def without(name):
        """The entries as if AP without NMS were their AP."""
        return {seed: entry | {"scores": entry["scores_no_nms"]} for seed, entry in full[name].items()}

    def mean(name):
        return round(100 * statistics.mean(entry["scores_no_nms"]["AP"] for entry in full[name].values()), 1)

    nearest, dual = "topk, k=1", "topk, k=3, then poto"
    assert [mean(name) for name in (nearest, "poto", "hungarian, inside", dual)] == [41.9, 37.2, 37.8, 41.4]
    assert all("**+" in board.difference(without(nearest), without(name)) for name in ("poto", "hungarian, inside"))
    assert board.difference(without(dual), without("poto")).startswith("**+4.2")
    assert "**" not in board.difference(without(dual), without(nearest))


def test_what_the_page_says_holds_on_both_is_so(full, sky):
    def claims(one, other, key="AP"):
        return [board.difference(there[one], there[other], key) for there in (sky, full)]

    small, fixed, nearest, topk = "AP50_0-8", board.BASELINE, "max_iou, nearest tie", "topk, k=3"
    for there in (sky, full):
        alone = there["max_iou, no low quality"]
        assert all(entry["positives"]["0-8"]["starved"] == 1 for entry in alone.values())
        assert max(entry["scores"][small] for entry in alone.values()) < 0.05
    assert [text[:6] for text in claims("fcos", "fcos, from stride 8")] == ["**+19.", "**+21."]
    assert [text[:6] for text in claims(nearest, fixed)] == ["**+7.1", "**+3.6"]
    here = [board.difference(sky[name], sky[fixed])[:7] for name in ("rfla", topk, "rka")]
    assert here == ["**+17.1", "**+17.5", "**+18.5"]
    assert [board.difference(sky[name], sky[nearest])[:7] for name in (topk, "rka")] == ["**+10.3", "**+11.3"]
    assert not any("**" in text for name in ("rka", "rka, simd") for text in claims(name, topk))
    assert [text[:7] for text in claims("topk, k=9", topk)] == ["**-12.7", "**-5.2 "]
    assert not any("**+" in text for name in ("simd", "gcd") for text in claims(f"max_iou, {name}", fixed))
    assert claims("max_iou, nwd", fixed)[0].startswith("**+12.3") and claims("rka", "max_iou, nwd")[0][:6] == "**+6.2"
    losses = ("quality focal", "varifocal", "MAL")
    assert not any("**" in text for name in losses for text in claims(f"atss, {name}", "atss"))


def test_what_the_page_says_only_of_the_sky_is_so(full, sky):
    def claim(one, other, key="AP"):
        return board.difference(sky[one], sky[other], key)

    def without(name):
        return {seed: entry | {"scores": entry["scores_no_nms"]} for seed, entry in sky[name].items()}

    def starved(there, name):
        return round(100 * there[name][0]["positives"]["0-8"]["starved"])

    small, floor, ten, own = "AP50_0-8", "tal, floor 8 px", "tal, k=10", "fcos, own detector"
    assert [starved(there, ten) for there in (sky, full)] == [15, 3] and starved(sky, floor) == 0
    assert [claim(floor, ten, key)[:6] for key in ("AP", small)] == ["**+3.8", "**+9.3"]
    assert claim(floor, "rka").startswith("**+2.6")
    assert starved(sky, "atss") == 20 and "**" not in board.difference(full["rka"], full["atss"])
    assert [claim("rka", "atss", key)[:6] for key in ("AP", small)] == ["**+3.2", "**+9.3"]
    assert claim("hambox, one count", "hambox").startswith("+0.1")
    assert claim("paa", own).startswith("**+4.1")
    assert not any("**" in claim(name, own) for name in ("ota", "simota"))
    free = {"topk, k=1": 32.4, "poto": 31.1, "hungarian, inside": 32.0, "topk, k=3, then poto": 32.9}
    for one, ap in free.items():
        seeds = [entry["scores_no_nms"]["AP"] for entry in sky[one].values()]
        assert round(100 * statistics.mean(seeds), 1) == ap
        assert not any("**" in board.difference(without(one), without(other)) for other in free)
    assert "**" not in board.difference(without("poto, box alone"), without("poto"))
    assert "**" not in board.difference(without("topk, k=1"), sky["topk, k=1"])


# AP of digits-fast-atss-seed0, trained anew. The published entry (0.208) is of anchors on the corners of the cells;
# once the board is trained again, this test reads it from there.
ANEW = 0.198


def test_an_entry_can_be_had_again(tmp_path):
    """A seed gives equal results on one machine; another may round otherwise, so the seeds' spread is allowed."""
    published = board.read(RESULTS, "digits", "fast")["atss"]
    (cell,) = rows.cells("digits", "fast", [0], only=["atss"])
    again = entries.train_cell(cell, tmp_path, progress=False)[0]["scores"]["AP"]
    spread = statistics.stdev(e["scores"]["AP"] for e in published.values())
    assert again == pytest.approx(ANEW, abs=max(3 * spread, board.NOISE))
