"""Every layout of rows becomes the token ids and the loss that TRL makes of it, on three chat templates."""

import pytest
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from helpers.chat_templates import KINDS, chat_tokenizer_of
from influcoder.data.examples import examples_from_row
from influcoder.data.parts import Columns
from influcoder.model.tokenise import Tokeniser

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "What is the capital of France? "}
ANSWER = {"role": "assistant", "content": "Paris is the capital.\n"}
AGAIN = {"role": "user", "content": "And of Italy?"}
ROME = {"role": "assistant", "content": " Rome."}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "capital_of", "parameters": {"type": "object", "properties": {"of": {"type": "string"}}}},
    }
]


def called(arguments, **more):
    call = {"type": "function", "function": {"name": "capital_of", "arguments": arguments}}
    return {"role": "assistant", "tool_calls": [call], **more}


CALL, RESULT = called({"of": "France"}), {"role": "tool", "name": "capital_of", "content": '{"is": "Paris"}'}
THOUGHT = ANSWER | {"reasoning_content": "France is a country."}
EVERYWHERE, WITH_TOOLS, NOT_GEMMA = tuple(KINDS), ("qwen", "llama"), ("qwen", "llama")
HANDED_TO_TRL = "the same"

# name: (kinds, our row, how we read it, TRL's row, TRL's settings)
SFT = {
    "text": (EVERYWHERE, {"text": "Hello world, this is a text."}, {}, HANDED_TO_TRL, {}),
    "prompt and completion": (EVERYWHERE, {"prompt": "Two plus two is ", "completion": "four."}, {}, HANDED_TO_TRL, {}),
    "a boundary within a token": (EVERYWHERE, {"prompt": "the capi", "completion": "tal of"}, {}, HANDED_TO_TRL, {}),
    "prompt and completion, loss on both": (
        EVERYWHERE,
        {"prompt": "Two plus two is ", "completion": "four."},
        {"loss": "all"},
        HANDED_TO_TRL,
        {"completion_only_loss": False},
    ),
    "prompt and completion in messages": (
        EVERYWHERE,
        {"prompt": [USER], "completion": [ANSWER]},
        {},
        HANDED_TO_TRL,
        {},
    ),
    "long prompt in messages": (
        EVERYWHERE,
        {"prompt": [USER, ANSWER, AGAIN], "completion": [ROME]},
        {},
        HANDED_TO_TRL,
        {},
    ),
    "system turn": (NOT_GEMMA, {"prompt": [SYSTEM, USER], "completion": [ANSWER]}, {}, HANDED_TO_TRL, {}),
    "completion of several turns": (
        WITH_TOOLS,
        {"prompt": [USER], "completion": [CALL, RESULT, ANSWER], "tools": TOOLS},
        {},
        HANDED_TO_TRL,
        {},
    ),
    "prompt in text, completion in messages": (
        EVERYWHERE,
        {"prompt": USER["content"], "completion": [ANSWER]},
        {},
        {"prompt": [USER], "completion": [ANSWER]},
        {},
    ),
    "messages": (
        EVERYWHERE,
        {"messages": [USER, ANSWER, AGAIN, ROME]},
        {},
        {"prompt": [USER, ANSWER, AGAIN], "completion": [ROME]},
        {},
    ),
    "messages, loss on all": (
        EVERYWHERE,
        {"messages": [USER, ANSWER, AGAIN, ROME]},
        {"loss": "all"},
        HANDED_TO_TRL,
        {},
    ),
    "messages, loss on the assistant": (
        EVERYWHERE,
        {"messages": [USER, ANSWER, AGAIN, ROME]},
        {"loss": "assistant"},
        HANDED_TO_TRL,
        {"assistant_only_loss": True},
    ),
    "one call, loss on the assistant": (
        WITH_TOOLS,
        {"messages": [USER, CALL, RESULT, ANSWER, AGAIN, ROME], "tools": TOOLS},
        {"loss": "assistant"},
        HANDED_TO_TRL,
        {"assistant_only_loss": True},
    ),
    "prompt and completion, loss on the assistant": (
        WITH_TOOLS,
        {"prompt": [USER], "completion": [CALL, RESULT, ANSWER], "tools": TOOLS},
        {"loss": "assistant"},
        HANDED_TO_TRL,
        {"assistant_only_loss": True},
    ),
    "tools": (WITH_TOOLS, {"prompt": [USER], "completion": [CALL], "tools": TOOLS}, {}, HANDED_TO_TRL, {}),
    "tools in JSON": (
        WITH_TOOLS,
        {"prompt": [USER], "completion": [CALL], "tools": '[{"type": "function", "function": {"name": "capital_of"}}]'},
        {},
        HANDED_TO_TRL,
        {},
    ),
    "arguments in JSON": (
        WITH_TOOLS,
        {"prompt": [USER], "completion": [called('{"of":"France"}')], "tools": TOOLS},
        {},
        HANDED_TO_TRL,
        {},
    ),
    "a call without content": (
        WITH_TOOLS,
        {"prompt": [USER], "completion": [called({"of": "France"}, content=None)], "tools": TOOLS},
        {},
        HANDED_TO_TRL,
        {},
    ),
    "thoughts": (("qwen",), {"prompt": [USER], "completion": [THOUGHT]}, {}, HANDED_TO_TRL, {}),
    "thoughts of an earlier turn": (
        ("qwen",),
        {"prompt": [USER, THOUGHT, AGAIN], "completion": [ROME]},
        {},
        HANDED_TO_TRL,
        {},
    ),
    "variables of the template": (
        ("qwen",),
        {"prompt": [USER], "completion": [ANSWER], "chat_template_kwargs": {"enable_thinking": False}},
        {},
        HANDED_TO_TRL,
        {},
    ),
    "a date that the row gives": (
        ("llama",),
        {"prompt": [USER], "completion": [ANSWER], "chat_template_kwargs": {"date_string": "1 Jan 2020"}},
        {},
        HANDED_TO_TRL,
        {},
    ),
    "conversations": (
        EVERYWHERE,
        {"conversations": [{"from": "user", "value": "q?"}, {"from": "assistant", "value": "a."}]},
        {"loss": "all"},
        HANDED_TO_TRL,
        {},
    ),
    "ShareGPT": (
        EVERYWHERE,
        {"conversations": [{"from": "human", "value": USER["content"]}, {"from": "gpt", "value": ANSWER["content"]}]},
        {},
        {"prompt": [USER], "completion": [ANSWER]},
        {},
    ),
    "ShareGPT with a system column": (
        NOT_GEMMA,
        {
            "system": SYSTEM["content"],
            "conversations": [{"from": "human", "value": USER["content"]}, {"from": "gpt", "value": ANSWER["content"]}],
        },
        {},
        {"prompt": [SYSTEM, USER], "completion": [ANSWER]},
        {},
    ),
    "Alpaca": (
        EVERYWHERE,
        {"instruction": "Name a capital.", "input": "France", "output": "Paris"},
        {},
        {
            "prompt": [{"role": "user", "content": "Name a capital.\n\nFrance"}],
            "completion": [{"role": "assistant", "content": "Paris"}],
        },
        {},
    ),
    "question and answer": (
        EVERYWHERE,
        {"question": USER["content"], "answer": ANSWER["content"]},
        {},
        {"prompt": [USER], "completion": [ANSWER]},
        {},
    ),
    "token ids": (EVERYWHERE, {"input_ids": [5, 6, 7, 8]}, {}, HANDED_TO_TRL, {}),
    "token ids and labels": (
        EVERYWHERE,
        {"input_ids": [5, 6, 7, 8, 9], "labels": [-100, -100, 7, -100, 9]},
        {},
        HANDED_TO_TRL,
        {},
    ),
}
OTHER, BETTER = {"role": "assistant", "content": "Lyon."}, {"role": "assistant", "content": "Paris, of course."}
PAIRS = {
    "prompt in text": ({"prompt": "Two plus two is\n", "chosen": "four.", "rejected": "seven."}, HANDED_TO_TRL),
    "prompt in messages": ({"prompt": [USER], "chosen": [BETTER], "rejected": [OTHER]}, HANDED_TO_TRL),
    "no prompt, text": (
        {"chosen": "Human: two?\n\nAssistant: four.", "rejected": "Human: two?\n\nAssistant: seven."},
        HANDED_TO_TRL,
    ),
    "no prompt, messages": ({"chosen": [USER, BETTER], "rejected": [USER, OTHER]}, HANDED_TO_TRL),
    "no prompt, sides that part early": (
        {"chosen": [USER, BETTER, AGAIN, ROME], "rejected": [USER, OTHER, AGAIN, ROME]},
        HANDED_TO_TRL,
    ),
    "prompt in messages and in the sides": (
        {"prompt": [USER], "chosen": [USER, BETTER], "rejected": [USER, OTHER]},
        {"prompt": [USER], "chosen": [BETTER], "rejected": [OTHER]},
    ),
    "prompt in text and in the sides": (
        {"prompt": USER["content"].strip(), "chosen": [USER, BETTER], "rejected": [USER, OTHER]},
        {"prompt": [USER], "chosen": [BETTER], "rejected": [OTHER]},
    ),
    "ShareGPT with one message a side": (
        {
            "conversations": [{"from": "human", "value": USER["content"]}],
            "chosen": {"from": "gpt", "value": BETTER["content"]},
            "rejected": {"from": "gpt", "value": OTHER["content"]},
        },
        {"prompt": [USER], "chosen": [BETTER], "rejected": [OTHER]},
    ),
}


def tiny():
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=400, **sizes))


def settings(folder, **more):
    return {"output_dir": str(folder), "report_to": "none", "use_cpu": True, "bf16": False, "max_length": None} | more


def sft(kind, rows, folder, *, marked=False, **more):
    """(ids, places with loss) of each row, as TRL's SFT trainer hands them to the model."""
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=tiny(),
        args=SFTConfig(**settings(folder, **more)),
        train_dataset=Dataset.from_list(rows),
        processing_class=chat_tokenizer_of(kind, marked=marked, clock=False),
    )
    found = []
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        found.append((batch["input_ids"][0].tolist(), with_loss((batch["labels"][0] != -100).tolist())))
    return found


def dpo(kind, row, folder):
    """The same of the chosen and the rejected side of a pair, as TRL's DPO trainer hands them to the model."""
    from trl import DPOConfig, DPOTrainer

    trainer = DPOTrainer(
        model=tiny(),
        ref_model=tiny(),
        args=DPOConfig(**settings(folder)),
        train_dataset=Dataset.from_list([row]),
        processing_class=chat_tokenizer_of(kind, clock=False),
    )
    batch = trainer.data_collator([trainer.train_dataset[0]])
    kept = [mask.bool() for mask in batch["attention_mask"]]
    return [
        (ids[seen].tolist(), with_loss(mask[seen].tolist()))
        for ids, mask, seen in zip(batch["input_ids"], batch["completion_mask"], kept, strict=True)
    ]


def with_loss(mask):
    """Places that count; the first token is never predicted."""
    return [place for place, counts in enumerate(mask) if counts and place]


def ours(kind, row, *, marked=False, **columns):
    tokeniser = Tokeniser(chat_tokenizer_of(kind, marked=marked), name="tiny", rows=400, max_length=4096)
    tokens = tokeniser.tokens(examples_from_row(row, Columns(**columns)))
    return [(one.ids.tolist(), one.places.tolist()) for one in tokens]


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for name, case in SFT.items() for kind in case[0]], ids=lambda part: part
)
def test_sft(kind, name, tmp_path):
    _, row, columns, same, more = SFT[name]
    marked = "assistant_only_loss" in more
    expected = sft(kind, [row if same == HANDED_TO_TRL else same], tmp_path, marked=marked, **more)
    assert ours(kind, row, marked=marked, **columns) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PAIRS)
def test_pairs(kind, name, tmp_path):
    row, same = PAIRS[name]
    expected = dpo(kind, row if same == HANDED_TO_TRL else same, tmp_path)
    assert ours(kind, row, pairs="both") == expected
    assert ours(kind, row, pairs="chosen") == expected[:1]
    assert ours(kind, row, pairs="rejected") == expected[1:]


TEXTS = [
    "x",
    " x ",
    "\n",
    "a\n\nb",
    "Ünïcode 日本 🙂",
    "tab\tand\r\nline",
    "e\u0301",
    "<think>",
    "{{ x }}",
    "a <b> & 'c'",
]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_all_sorts(kind, tmp_path):
    pairs = [(asked, said) for asked in TEXTS for said in TEXTS if said.strip()]
    raw = [{"prompt": asked, "completion": said} for asked, said in pairs]
    chats = [
        {"prompt": [{"role": "user", "content": a}], "completion": [{"role": "assistant", "content": b}]}
        for a, b in pairs
        if a.strip()
    ]
    for number, rows in enumerate((raw, chats)):
        expected = sft(kind, rows, tmp_path / str(number))
        assert [one for row in rows for one in ours(kind, row)] == expected
