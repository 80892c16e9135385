"""Encoders on disk: the same vectors again, or a named error."""

import shutil

import numpy as np
import orjson
import pytest
import yaml

from helpers.linear_world import FEATURES, distilled, token_table
from influcoder.data.examples import Example
from influcoder.errors import ModelError, StoreCorrupt, StoreMismatch
from influcoder.store.files import read_sealed, sha256, write_sealed
from influcoder.student.encoder import QUERY_PROMPT, InfluenceEncoder
from influcoder.student.encoder_folder import FORMAT, model_card


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return distilled(tokenizer)


@pytest.fixture(scope="module")
def saved(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders") / "encoder"
    encoder.save(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def some_texts():
    texts = [("", "Hello"), ("what is it?", "a fact\nof two lines"), ("Ünïcödé 漢字 ", "emoji 🙂"), ("only", "x")]
    return [Example(f"t{number}", prompt, completion) for number, (prompt, completion) in enumerate(texts)]


def flip(path, place=-3):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def edit(folder, **changes):
    path = folder / "influcoder.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | changes))


def test_round_trip_gives_the_same_vectors(encoder, saved):
    again, texts = InfluenceEncoder.load(saved), some_texts()
    np.testing.assert_array_equal(again.encode_pool(texts), encoder.encode_pool(texts))
    np.testing.assert_array_equal(again.encode_query(texts), encoder.encode_query(texts))
    features = np.random.default_rng(0).standard_normal((4, FEATURES)).astype(np.float32)
    np.testing.assert_array_equal(again.project_query(texts, features), encoder.project_query(texts, features))


def test_round_trip_keeps_what_is_told(encoder, saved):
    again = InfluenceEncoder.load(saved)
    assert again.fingerprint == encoder.fingerprint
    assert (again.tier, again.dim, again.provenance) == ("static", encoder.dim, encoder.provenance)
    assert again.measured == pytest.approx(encoder.measured)


def test_loaded_encoder_saves_the_same_folder(saved, tmp_path):
    InfluenceEncoder.load(saved).save(tmp_path / "again")
    names = sorted(path.relative_to(saved) for path in saved.rglob("*") if path.is_file())
    assert names == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    for name in names:
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_folder_holds_a_card_and_nothing_that_runs(saved):
    files = {path.name for path in saved.rglob("*") if path.is_file()}
    assert {"README.md", "influcoder.json", "head.safetensors", "query_projector.safetensors"} <= files
    assert {path.rsplit(".", 1)[-1] for path in files} <= {"md", "json", "safetensors", "txt"}


def test_card_has_front_matter_numbers_and_origin(encoder, saved):
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: influcoder\ntags:\n- influcoder\n")
    assert f"| per_query_spearman | {encoder.measured['per_query_spearman']:.3f} |" in card
    assert "- student.recipe: `static`" in card


def test_card_of_an_encoder_that_measured_nothing():
    assert "(static tier)" in model_card({"tier": "static", "measured": {}, "made_by": {}})


def test_backbone_loads_without_this_package(saved, tokenizer):
    from sentence_transformers import SentenceTransformer

    backbone = SentenceTransformer(str(saved / "backbone"), device="cpu")
    table = token_table(tokenizer)
    found = backbone.encode(["Hello world"], show_progress_bar=False)[0]
    ids = tokenizer.encode("Hello world", add_special_tokens=False)
    np.testing.assert_allclose(found, table[ids].mean(axis=0), atol=1e-5)


def test_vectors_are_float32_and_depend_on_the_role(encoder):
    texts = some_texts()
    assert encoder.encode_pool(texts).dtype == encoder.encode_query(texts).dtype == np.float32
    assert encoder.encode_pool(texts).shape == encoder.encode_query(texts).shape == (4, encoder.dim)
    assert not np.allclose(encoder.encode_pool(texts), encoder.encode_query(texts))


def test_vectors_do_not_depend_on_their_neighbours(encoder):
    texts = some_texts()
    alone = np.concatenate([encoder.encode_pool([one]) for one in texts])
    np.testing.assert_allclose(encoder.encode_pool(texts), alone, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["head.safetensors", "query_projector.safetensors", "backbone/*.safetensors", "backbone/**/tokenizer.json"]
)
def test_flipped_byte_is_found(copy, name):
    flip(next(copy.glob(name)), place=-40)
    with pytest.raises(StoreCorrupt, match=str(copy)):
        InfluenceEncoder.load(copy)


@pytest.mark.parametrize(
    "name", ["head.safetensors", "backbone/*.safetensors", "backbone/**/tokenizer.json", "query_projector.safetensors"]
)
def test_lost_file_is_found(copy, name):
    next(copy.glob(name)).unlink()
    with pytest.raises((StoreCorrupt, ModelError)):
        InfluenceEncoder.load(copy)


@pytest.mark.parametrize("name", ["head.safetensors", "query_projector.safetensors", "backbone/*.safetensors"])
@pytest.mark.parametrize("kept", [0, 4, 100])
def test_cut_file_is_found(copy, name, kept):
    path = next(copy.glob(name))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreCorrupt, match=str(copy)):
        InfluenceEncoder.load(copy)


def test_folder_without_description_is_no_encoder(copy, tmp_path):
    (copy / "influcoder.json").unlink()
    for folder in (copy, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match=r"no influcoder\.json"):
            InfluenceEncoder.load(folder)


@pytest.mark.parametrize("number", [0, 1, 99])
def test_other_format_is_refused(copy, number):
    edit(copy, format=number)
    with pytest.raises(StoreMismatch, match=f"format {number}, this version reads {FORMAT}"):
        InfluenceEncoder.load(copy)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"null", b'"text"', b'{"format": FORMAT}'])
def test_damaged_description_is_named(copy, data):
    (copy / "influcoder.json").write_bytes(data)
    with pytest.raises(StoreCorrupt, match=str(copy)):
        InfluenceEncoder.load(copy)


def test_changed_settings_are_found(copy):
    description = orjson.loads((copy / "influcoder.json").read_bytes())
    edit(copy, settings=description["settings"] | {"seed": 1})
    with pytest.raises(StoreCorrupt, match="not those that were written"):
        InfluenceEncoder.load(copy)


@pytest.mark.parametrize("width", [0, 1, FEATURES - 1, FEATURES + 1])
def test_query_features_of_another_width(encoder, width):
    with pytest.raises(ModelError, match="another teacher than the encoder's"):
        encoder.project_query(some_texts(), np.zeros((4, width), np.float32))


def test_encoder_without_projector_takes_text_alone(encoder):
    bare = InfluenceEncoder(encoder.backbone, encoder.head, settings=encoder.settings)
    with pytest.raises(ModelError, match="no query projector"):
        bare.project_query(some_texts(), np.zeros((4, FEATURES), np.float32))


def test_fingerprint_follows_the_tokenizer(encoder, copy):
    """Another tokenizer reads other tokens, so it makes other vectors."""
    path = next(copy.glob("backbone/**/tokenizer.json"))
    rules = orjson.loads(path.read_bytes())
    rules["model"]["merges"] = rules["model"]["merges"][:5]
    path.write_bytes(orjson.dumps(rules))
    with pytest.raises(StoreCorrupt):
        InfluenceEncoder.load(copy)


def test_query_prompt_is_the_same_for_ever():
    assert QUERY_PROMPT == "Represent this example to find the training examples that influence it: "


def listing(folder, **files):
    """influcoder.json with other hashes, sealed as it was written."""
    description = {
        name: one for name, one in read_sealed(folder / "influcoder.json", FORMAT).items() if name != "sha256"
    }
    write_sealed(folder / "influcoder.json", description | {"files": description["files"] | files})


@pytest.mark.parametrize("name", ["pytorch_model.bin", "backbone/model.pt", "backbone/code.py", "backbone/data.pkl"])
def test_file_of_a_kind_that_may_run_code_is_not_loaded(copy, name):
    (copy / name).write_bytes(b"import os")
    listing(copy, **{name: sha256(copy / name)})
    with pytest.raises(ModelError, match=r"may run code when it is read; not loaded"):
        InfluenceEncoder.load(copy)


def test_file_that_was_put_there_later_is_found(copy):
    (copy / "backbone" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(StoreCorrupt, match=r"pytorch_model\.bin: was not saved with the encoder"):
        InfluenceEncoder.load(copy)


def test_module_from_elsewhere_is_not_loaded(copy):
    path = copy / "backbone" / "modules.json"
    path.write_bytes(path.read_bytes().replace(b"sentence_transformers.", b"somewhere_else."))
    listing(copy, **{"backbone/modules.json": sha256(path)})
    with pytest.raises(ModelError, match=r"somewhere_else\..* is code from outside Sentence Transformers"):
        InfluenceEncoder.load(copy)


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_card_names_the_base_model_where_it_is_known(encoder, tmp_path):
    assert "base_model" not in front_matter(model_card({"tier": "static", "measured": {}, "made_by": {}}))
    encoder.base_model = "owner/decoder"
    try:
        encoder.save_pretrained(tmp_path / "e")
    finally:
        encoder.base_model = None
    again = InfluenceEncoder.from_pretrained(tmp_path / "e")
    assert again.base_model == "owner/decoder"
    card = (tmp_path / "e" / "README.md").read_text(encoding="utf-8")
    found = front_matter(card)
    assert (found["library_name"], found["base_model"]) == ("influcoder", "owner/decoder")
    assert {"influcoder", "training-data-attribution"} <= set(found["tags"])
    assert again.fingerprint == encoder.fingerprint


@pytest.mark.parametrize(
    ("tier", "told"),
    [
        ("static", 'from_pretrained("owner/name")\n'),
        ("short", 'from_pretrained("owner/name", decoder=decoder)\n'),
        ("transformer", QUERY_PROMPT),
    ],
)
def test_card_says_how_its_tier_is_loaded(tier, told):
    made_by = {"teacher": {"name": "layer-cosine"}, "decoder": {"decoder": "f" * 64}}
    card = model_card({"tier": tier, "measured": {"rho": 0.5}, "made_by": made_by}, "owner/name")
    assert told in card
    assert 'SentenceTransformer(huggingface_hub.snapshot_download("owner/name") + "/backbone")' in card
    assert "`layer-cosine`" in card
    assert "| rho | 0.500 |" in card
    assert f"- decoder.decoder: `{'f' * 64}`" in card
