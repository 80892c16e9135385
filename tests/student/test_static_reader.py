"""What the static student reads, against plain loops over tokens."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.maths.arrays import unit_rows
from influcoder.student.static_reader import CHANNELS, StaticReader, inverse_document_frequency
from influcoder.student.token_bags import Ragged

VOCABULARY = 20
token_rows = st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=9), min_size=1, max_size=12)
WORDS = [
    "Paris",
    "Rome",
    "Madrid",
    "capital",
    "France",
    "Italy",
    "two",
    "four",
    "seven",
    "hello",
    "world",
    "tiny",
    "is",
    "the",
]

# The columns of the surface features, in order.
SURFACE = (
    "completion_tokens",
    "prompt_tokens",
    "newlines",
    "digits",
    "capitals",
    "punctuation",
    "word_length",
    "repeats",
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sentence(rng, low=0, high=9):
    return " ".join(rng.choice(WORDS, rng.integers(low, high)))


def examples(count, seed=0):
    rng = np.random.default_rng(seed)
    found = [Example(f"e{n}", sentence(rng), sentence(rng, 1)) for n in range(count)]
    found[0] = Example("no-prompt", "", "Hello")
    return found


@pytest.fixture(scope="module")
def reader(tokenizer):
    return make_reader(tokenizer)


def make_reader(tokenizer, **settings):
    table = 3 + 2 * normal(len(tokenizer), 6)
    return StaticReader(tokenizer.backend_tokenizer, table, **{"product_width": 16, "channel_width": 24} | settings)


def some_idf(reader):
    return np.abs(normal(len(reader.table), seed=4))


@given(rows=token_rows)
def test_ragged_keeps_texts_apart(rows):
    ragged = Ragged.of(rows)
    bounds = itertools.pairwise(ragged.offsets)
    assert [ragged.ids[start:stop].tolist() for start, stop in bounds] == rows
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert ragged.owner().tolist() == [number for number, row in enumerate(rows) for _ in row]


@given(rows=token_rows)
def test_ragged_mean_is_a_loops(rows):
    values = normal(VOCABULARY, 3)
    ragged = Ragged.of(rows)
    expected = [np.mean([values[one] for one in row], axis=0) if row else np.zeros(3) for row in rows]
    np.testing.assert_allclose(ragged.mean(values[ragged.ids]), expected, atol=1e-5)


@given(rows=token_rows)
def test_ragged_bag_tells_what_a_text_holds(rows):
    expected = [[float(one in row) for one in range(VOCABULARY)] for row in rows]
    assert Ragged.of(rows).bag(VOCABULARY).toarray().tolist() == expected


@given(rows=token_rows, count=st.integers(1, 4))
def test_ragged_first_cuts_each_text(rows, count):
    first = Ragged.of(rows).first(count)
    expected = Ragged.of([row[:count] for row in rows])
    assert first.ids.tolist() == expected.ids.tolist()
    assert first.offsets.tolist() == expected.offsets.tolist()


def test_only_empty_texts():
    ragged = Ragged.of([[], []])
    assert ragged.mean(np.zeros((0, 3), np.float32)).tolist() == [[0] * 3] * 2
    assert ragged.bag(4).toarray().sum() == 0
    assert ragged.first(2).ids.size == 0


def test_table_is_centred_and_of_unit_length(reader):
    np.testing.assert_allclose(reader.table.mean(axis=0), 0, atol=1e-5)
    assert np.linalg.norm(reader.table, axis=1).mean() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("group", "ids"),
    [
        ("completion", lambda prompt, completion: completion),
        ("prompt", lambda prompt, completion: prompt),
        ("opening", lambda prompt, completion: completion[:2]),
    ],
)
def test_means_are_over_their_tokens(reader, group, ids):
    read = examples(9)
    found, _ = reader.read(read)
    for row, example in zip(found[group], read, strict=True):
        tokens = ids(*(reader.tokenizer.encode(text).ids for text in (example.prompt, example.completion)))
        expected = reader.table[tokens].mean(axis=0) if tokens else np.zeros(6)
        if group != "opening" and tokens:
            expected = expected / np.linalg.norm(expected)
        np.testing.assert_allclose(row, expected, atol=1e-5)


def expecting(tokenizer, **settings):
    """A reader that knows what a decoder expects."""
    size = len(tokenizer)
    return make_reader(tokenizer, predicted=normal(size, 6, seed=8), head=normal(size, 6, seed=9), **settings)


def errors_and_inputs(reader, example):
    """(error, embedding of the token before) of each completion token that has one before it, one by one."""
    prompt, completion = (reader.tokenizer.encode(text).ids for text in (example.prompt, example.completion))
    whole = [*prompt, *completion]
    centre = reader.head.mean(axis=0)
    size = np.linalg.norm(reader.head - centre, axis=1).mean()
    for place in range(max(len(prompt), 1), len(whole)):
        said, before = whole[place], whole[place - 1]
        expected = centre if reader.predicted is None else reader.predicted[before]
        yield (expected - reader.head[said]) / size, reader.table[before]


@pytest.mark.parametrize("make", [make_reader, expecting])
def test_products_are_a_loops(tokenizer, make):
    reader = make(tokenizer)
    expected, said, seen = reader._product_tables
    read = examples(20)
    for row, example in zip(reader.read(read)[0]["products"], read, strict=True):
        ids = [reader.tokenizer.encode(text).ids for text in (example.prompt, example.completion)]
        whole = [*ids[0], *ids[1]]
        total = np.zeros(16)
        for place in range(max(len(ids[0]), 1), len(whole)):
            before = whole[place - 1]
            total += (expected[before].astype(float) - said[whole[place]]) * seen[before]
        norm = np.linalg.norm(total)
        np.testing.assert_allclose(row, total / norm if norm else total, atol=1e-5)


@pytest.mark.parametrize("make", [make_reader, expecting])
def test_products_sketch_the_gradient_at_one_token_of_context(tokenizer, make):
    reader = make(tokenizer, product_width=16384)
    read = [Example("", "tiny", "the capital of France"), Example("", "two", "hello world, the capital of Spain")]
    outer = [sum(np.outer(*pair) for pair in errors_and_inputs(reader, example)).ravel() for example in read]
    one, other = reader.read(read)[0]["products"]
    expected = outer[0] @ outer[1] / np.prod([np.linalg.norm(each) for each in outer])
    assert one @ other == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("group", ["error", "prompt_error"])
def test_errors_are_a_loops(tokenizer, group):
    reader = expecting(tokenizer)
    read = [*examples(20), Example("", "", "Paris"), Example("", "Rome", "Paris")]
    for row, example in zip(reader.read(read)[0][group], read, strict=True):
        prompt, completion = (reader.tokenizer.encode(text).ids for text in (example.prompt, example.completion))
        whole = [*prompt, *completion] if group == "error" else prompt
        first = max(len(prompt), 1) if group == "error" else 1
        total = sum((reader.predicted[whole[n - 1]] - reader.head[whole[n]] for n in range(first, len(whole))), 0.0)
        total = total * np.ones(6)
        norm = np.linalg.norm(total)
        np.testing.assert_allclose(row, total / norm if norm else total, atol=1e-5)


def test_a_single_token_has_no_product(reader):
    assert not reader.read([Example("e", "", "a"), Example("f", "", "")])[0]["products"].any()


def test_errors_are_not_read_without_expectations(reader):
    assert "error" not in reader.groups
    with pytest.raises(ConfigError, match="no table of what the decoder expects"):
        reader.read(examples(2), ["prompt_error"])


def test_channels_are_unit_rows(reader):
    _, channels = reader.read(examples(30), idf=some_idf(reader))
    assert tuple(channels) == CHANNELS
    for rows in channels.values():
        norms = np.linalg.norm(rows, axis=1)
        assert np.all(np.isclose(norms, 1, atol=1e-5) | (norms == 0))


def test_channels_of_words_without_weight_are_zero(reader):
    _, channels = reader.read(examples(5), idf=np.zeros(len(reader.table), np.float32))
    for rows in channels.values():
        assert not rows.any()


def test_single_tokens_have_no_subject(reader):
    _, channels = reader.read([Example("", "", "a")])
    assert not channels["subject"].any()
    assert channels["answer"].any()


def bags(reader, example, idf):
    prompt, completion = (set(reader.tokenizer.encode(text).ids) for text in (example.prompt, example.completion))
    answer, everything = np.zeros(len(idf)), np.zeros(len(idf))
    answer[list(completion)] = idf[list(completion)]
    everything[list(prompt | completion)] = idf[list(prompt | completion)]
    return answer, everything


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_channel_products_are_bag_similarities(tokenizer):
    reader = make_reader(tokenizer, channel_width=4096)
    idf, read = some_idf(reader), examples(10)
    _, channels = reader.read(read, idf=idf)
    parts = [bags(reader, example, idf) for example in read]
    for i in range(10):
        for j in range(10):
            answers, everything = (cosine(parts[i][side], parts[j][side]) for side in (0, 1))
            assert channels["answer"][i] @ channels["answer"][j] == pytest.approx(answers, abs=0.1)
            assert channels["fact"][i] @ channels["fact"][j] == pytest.approx(answers * everything, abs=0.15)


def naive_neighbours(reader, example, idf):
    total = np.zeros(reader._signs.shape[2])
    for text in (example.prompt, example.completion):
        ids = reader.tokenizer.encode(text).ids
        for before, after in itertools.pairwise(ids):
            total += float(idf[before] * idf[after]) * reader._signs[1][before] * reader._signs[2][after]
    return total


def test_subject_is_a_loop_over_neighbours(reader):
    idf, read = some_idf(reader), examples(20)
    expected = unit_rows(np.stack([naive_neighbours(reader, example, idf) for example in read]))
    np.testing.assert_allclose(reader.read(read, idf=idf)[1]["subject"], expected, atol=1e-4)


def everything_read(reader, read, idf):
    features, channels = reader.read(read, idf=idf)
    return np.concatenate([*features.values(), *channels.values()], axis=1)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 130])
def test_reading_together_equals_reading_one_by_one(reader, count):
    idf, read = some_idf(reader), examples(count)
    alone = np.concatenate([everything_read(reader, [example], idf) for example in read])
    np.testing.assert_allclose(everything_read(reader, read, idf), alone, atol=1e-5)


def test_order_follows_the_input(reader):
    idf, read = some_idf(reader), examples(70)
    backwards = everything_read(reader, read[::-1], idf)[::-1]
    np.testing.assert_allclose(everything_read(reader, read, idf), backwards, atol=1e-5)


def test_seed_draws_the_tables(tokenizer):
    read = examples(4)
    one, same, other = (everything_read(make_reader(tokenizer, seed=seed), read, None) for seed in (0, 0, 1))
    assert one.tobytes() == same.tobytes()
    assert not np.allclose(one, other)


def test_weights_of_one_are_the_default(reader):
    read = examples(5)
    ones = everything_read(reader, read, np.ones(len(reader.table), np.float32))
    np.testing.assert_array_equal(everything_read(reader, read, None), ones)


@given(rows=token_rows)
def test_idf_is_its_formula(rows):
    found = inverse_document_frequency([Ragged.of(rows)], VOCABULARY)
    expected = [math.log((1 + len(rows)) / (1 + sum(one in row for row in rows))) for one in range(VOCABULARY)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_idf_counts_prompts_and_completions():
    prompts, completions = Ragged.of([[0], [1], [1]]), Ragged.of([[2], [2, 0], [2]])
    found = inverse_document_frequency([prompts, completions], 4)
    np.testing.assert_allclose(found, np.log([4 / 3, 4 / 3, 4 / 4, 4 / 1]), atol=1e-6)


def surface(reader, completion, prompt=""):
    found = reader.read([Example("", prompt, completion)], ("surface",), ())[0]["surface"]
    return dict(zip(SURFACE, found[0].tolist(), strict=True))


def test_surface_is_a_loop_over_the_texts_of_tokens(reader):
    completion, prompt = "Paris hello Rome", "Hello world"
    ids = reader.tokenizer.encode(completion).ids
    texts = [reader.tokenizer.decode([one], skip_special_tokens=False) for one in ids]
    characters, words = sum(map(len, texts)), 1 + sum(text[:1].isspace() and not text.isspace() for text in texts)
    assert surface(reader, completion, prompt) == {
        "completion_tokens": pytest.approx(math.log1p(len(ids))),
        "prompt_tokens": pytest.approx(math.log1p(len(reader.tokenizer.encode(prompt).ids))),
        "newlines": pytest.approx(math.log1p("".join(texts).count("\n"))),
        "digits": pytest.approx(sum(map(str.isdigit, "".join(texts))) / characters),
        "capitals": pytest.approx(sum(map(str.isupper, "".join(texts))) / characters),
        "punctuation": pytest.approx(
            sum(not one.isalnum() and not one.isspace() for one in "".join(texts)) / characters
        ),
        "word_length": pytest.approx(min(characters / words, 12) / 12),
        "repeats": pytest.approx(len(set(ids)) / len(ids)),
    }


def test_groups_do_not_depend_on_what_else_is_read(tokenizer):
    reader, read = expecting(tokenizer), examples(12)
    whole, channels = reader.read(read)
    assert tuple(whole) == reader.groups
    for name in reader.groups:
        np.testing.assert_array_equal(expecting(tokenizer).read(read, (name,), ())[0][name], whole[name])
    for name in CHANNELS:
        np.testing.assert_array_equal(expecting(tokenizer).read(read, (), (name,))[1][name], channels[name])


def test_surface_of_nothing(reader):
    assert set(surface(reader, "").values()) == {0.0}


@given(seed=st.integers(0, 99))
def test_unit_rows(seed):
    rows = normal(5, 4, seed=seed)
    rows[2] = 0
    found = unit_rows(rows)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 0, 1, 1], atol=1e-6)
    np.testing.assert_allclose(found * np.linalg.norm(rows, axis=1, keepdims=True), rows, atol=1e-5)
