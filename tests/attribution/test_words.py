"""Words that tell texts apart, and phrases that two texts share."""

from influcoder.attribution.words import Rarity, shared_phrases, telling_words


def test_one_long_text_does_not_name_a_group():
    groups = [["spam " * 500 + "apple", "apple pie", "apple tree"], ["train station", "train line"]]
    assert telling_words(groups, 1) == [["apple"], ["train"]]


def test_numbers_and_short_words_name_nothing():
    assert telling_words([["12 ab 2024"]]) == [[]]


def test_shared_words_are_the_rare_ones_first():
    texts = ["the king of France", "the queen of Spain", "the duke of Genoa", "a king", *["the fox"] * 6]
    assert Rarity.of(texts).shared("The king in Genoa", "THE KING of genoa") == ["genoa", "king"]
    assert Rarity.of([]).shared("one two", "one two") == ["one", "two"]


def test_phrases_that_touch_are_one():
    text = "x one two three y; two THREE, z"
    assert [text[slice(*one)] for one in shared_phrases("one two three", text)] == ["one two three", "two THREE"]
    assert shared_phrases("single", "single") == []
