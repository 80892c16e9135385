"""The verb that shows what a decoder reads of some rows."""

import json

import orjson
import pytest

from helpers.tiny import save_decoder

USER, ASSISTANT = {"role": "user", "content": "Two plus two?"}, {"role": "assistant", "content": "Four."}
AGAIN, LAST = {"role": "user", "content": "Three?"}, {"role": "assistant", "content": "Three it is."}
ROWS = [
    {"id": "chat", "messages": [USER, ASSISTANT, AGAIN, LAST]},
    {"id": "text", "prompt": "Two plus two is", "completion": " four"},
    {"id": "more", "messages": [USER | {"name": "Ada"}, ASSISTANT | {"weight": 0.5}, AGAIN, LAST]},
    {"id": "bad", "messages": [USER]},
]


@pytest.fixture
def show(call, chat_tokenizer, tmp_path):
    """Runs the verb on some rows: (exit status, stdout, stderr)."""
    decoder, pool = save_decoder(tmp_path / "decoder", chat_tokenizer), tmp_path / "pool.jsonl"

    def on(rows, *words):
        pool.write_bytes(b"\n".join(map(orjson.dumps, rows)))
        return call("show", "--decoder", decoder, "--pool", pool, *words)

    return on


def test_the_loss_is_marked_in_what_the_decoder_reads(show):
    status, out, err = show(ROWS[:3], "--rows", "2")
    assert status == 0, err
    chat, text = out.rstrip().split("\n\n")
    assert chat.startswith("chat: ")
    assert "tokens, " in chat
    assert "<user>Two plus two?<eos>" in chat
    assert chat.endswith("<user>Three?<eos>\n<assistant>⟦Three it is.<eos>\n⟧")
    assert text.endswith("Two plus two is⟦ four<eos>⟧")


def test_how_rows_are_read_is_shown(show):
    _, out, _ = show(ROWS[:1], "--loss", "assistant")
    assert "⟦Four.<eos>\n⟧<user>" in out
    assert "⟦Three it is.<eos>\n⟧" in out
    _, out, _ = show(ROWS[2:3])
    assert "left out by the chat template: name of the user's turn" in out
    assert "⟦Four.<eos>\n⟧×0.5" in out
    _, out, _ = show(ROWS[:1], "--max-length", "12")
    assert "the prompt is cut" in out


def test_json_holds_tokens_and_counts(show):
    status, out, err = show(ROWS[:2], "--json")
    assert status == 0, err
    first, second = json.loads(out)
    assert (first["id"], second["id"]) == ("chat", "text")
    assert "".join(part["text"] for part in second["parts"] if part["loss"]) == " four<eos>"
    assert second["tokens"] == len(second["token_ids"])
    assert 0 < second["tokens_with_loss"] < second["tokens"]
    assert first["left_out"] == first["cut"] == []


def test_a_row_that_cannot_be_read_is_named_or_left_out(show):
    status, out, err = show([ROWS[3], ROWS[0]])
    assert (status, out) == (1, "")
    assert "pool.jsonl:1: the last message is the user's" in err
    status, out, err = show([ROWS[3], ROWS[0]], "--on-error", "skip", "--max-reject-rate", "0.5")
    assert status == 0, err
    assert out.startswith("chat: ")


def test_rows_to_show_are_at_least_one(show):
    assert show(ROWS[:1], "--rows", "0")[::2] == (1, "error: --rows is 0, expected at least 1.\n")
