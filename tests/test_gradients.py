import pytest
import torch
from oracles import fresh_lora, lora_b, lora_gradients, loss
from tiny import FAMILIES, VOCABULARY, some_examples, tiny_decoder, tiny_model
from torch import nn
from transformers import GraniteConfig, GraniteForCausalLM

from influcoder.decoder import Decoder, Tokens
from influcoder.errors import ModelError
from influcoder.examples import Example
from influcoder.gradients import LoraGradients, linear_layers, make_batches, outputs


def all_gradients(gradients, tokens, budget=10_000):
    """((examples, numbers) gradients, (examples,) losses)."""
    parts = [torch.zeros(len(tokens), length) for length in gradients.lengths]
    losses = torch.zeros(len(tokens))
    for batch in make_batches(tokens, budget, torch.device("cpu")):

        def receive(layer, part, places=batch.places):
            parts[layer][places] += part

        losses[batch.places] = gradients.run(batch, receive)
    return torch.cat(parts, dim=1), losses


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


def oracle(gradients, tokens, dtype=torch.float32):
    return torch.stack([torch.cat(lora_gradients(gradients, one, dtype)) for one in tokens])


@pytest.fixture(params=FAMILIES)
def family_decoder(request, tokenizer):
    return tiny_decoder(request.param, tokenizer)


def test_equals_the_gradient_of_peft_layers(family_decoder):
    gradients = LoraGradients(family_decoder, rank=4, seed=3)
    tokens = family_decoder.tokenise(some_examples())
    found, _ = all_gradients(gradients, tokens)
    expected = oracle(gradients, tokens)
    for name, length, one, other in zip(
        gradients.modules,
        gradients.lengths,
        found.split(gradients.lengths, dim=1),
        expected.split(gradients.lengths, dim=1),
        strict=True,
    ):
        assert one.shape[1] == length
        assert other.norm() > 0, name
        for example, (row, reference) in enumerate(zip(one, other, strict=True)):
            assert relative_error(row, reference) <= 1e-5, (name, example)


def test_logits_that_are_scaled_after_the_head(tokenizer):
    torch.manual_seed(0)
    config = GraniteConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.1,
        logits_scaling=0.25,
        bos_token_id=0,
        eos_token_id=0,
    )
    decoder = Decoder(GraniteForCausalLM(config), tokenizer, name="granite", max_length=96)
    gradients = LoraGradients(decoder, rank=4, seed=0)
    tokens = decoder.tokenise(some_examples())
    found, losses = all_gradients(gradients, tokens)
    assert relative_error(found, oracle(gradients, tokens)) <= 1e-5
    torch.testing.assert_close(losses, torch.stack([loss(decoder.model, one) for one in tokens]))


def test_losses_are_the_models_own(family_decoder):
    gradients = LoraGradients(family_decoder, rank=2, seed=0)
    tokens = family_decoder.tokenise(some_examples())
    _, losses = all_gradients(gradients, tokens)
    for one, found in zip(tokens, losses, strict=True):
        ids = torch.from_numpy(one.ids)[None]
        labels = ids.clone()
        labels[:, : max(one.start, 1)] = -100
        own = family_decoder.model(input_ids=ids, labels=labels).loss
        torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-6)


def test_losses_of_very_unlikely_texts(decoder):
    decoder.model.lm_head.weight.data *= 400
    tokens = decoder.tokenise(some_examples())
    _, losses = all_gradients(LoraGradients(decoder, rank=2, seed=0), tokens)
    expected = torch.stack([loss(decoder.model, one) for one in tokens])
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("budget", [1, 30, 60, 10_000])
def test_batch_composition_and_padding_change_nothing(family_decoder, budget):
    gradients = LoraGradients(family_decoder, rank=3, seed=1)
    tokens = family_decoder.tokenise(some_examples())
    alone = torch.cat([all_gradients(gradients, [one])[0] for one in tokens])
    together, _ = all_gradients(gradients, tokens, budget)
    for one, other in zip(together, alone, strict=True):
        assert relative_error(one, other) <= 1e-4


def test_order_changes_nothing(family_decoder):
    gradients = LoraGradients(family_decoder, rank=3, seed=1)
    tokens = family_decoder.tokenise(some_examples())
    forwards, losses = all_gradients(gradients, tokens, 60)
    backwards, losses_backwards = all_gradients(gradients, tokens[::-1], 60)
    torch.testing.assert_close(backwards.flip(0), forwards, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses_backwards.flip(0), losses)


@pytest.mark.parametrize("start", [0, 1, 4, 9])
def test_only_completion_tokens_carry_loss(decoder, start):
    gradients = LoraGradients(decoder, rank=4, seed=0)
    ids = decoder.tokenise([Example("a", "", "The capital of France is Paris, and more")])[0].ids
    found, losses = all_gradients(gradients, [Tokens(ids, start)])
    assert relative_error(found, oracle(gradients, [Tokens(ids, start)])) <= 1e-5
    logits = decoder.model(input_ids=torch.from_numpy(ids)[None]).logits[0]
    each = [-torch.log_softmax(logits[place - 1], 0)[ids[place]] for place in range(max(start, 1), len(ids))]
    torch.testing.assert_close(losses[0], torch.stack(each).mean(), rtol=1e-5, atol=1e-6)


def test_another_prompt_length_gives_another_gradient(decoder):
    gradients = LoraGradients(decoder, rank=4, seed=0)
    ids = decoder.tokenise([Example("a", "", "The capital of France is Paris")])[0].ids
    found, _ = all_gradients(gradients, [Tokens(ids, 2), Tokens(ids, len(ids) - 1)])
    assert relative_error(found[0], found[1]) > 0.1


def test_example_without_loss_is_in_no_batch(decoder):
    tokens = decoder.tokenise(some_examples())
    silent = Tokens(tokens[0].ids, len(tokens[0].ids))
    batches = list(make_batches([silent, *tokens[1:]], 60, torch.device("cpu")))
    assert sorted(place for batch in batches for place in batch.places) == list(range(1, len(tokens)))


def test_batches_keep_to_the_token_budget(decoder):
    tokens = decoder.tokenise(some_examples())
    for batch in make_batches(tokens, 80, torch.device("cpu")):
        assert batch.ids.numel() <= 80 or len(batch.places) == 1


def share_mlp(model):
    model.model.layers[1].mlp = model.model.layers[0].mlp
    return model


def test_layer_used_twice_gives_the_sum(tokenizer):
    decoder = Decoder(share_mlp(tiny_model("llama")), tokenizer, name="shared")
    gradients = LoraGradients(decoder, rank=4, seed=0)
    assert sum("mlp" in name for name in gradients.modules) == 3
    tokens = decoder.tokenise(some_examples())
    found, _ = all_gradients(gradients, tokens)
    assert relative_error(found, oracle(gradients, tokens)) <= 1e-5


def test_layer_used_twice_is_received_twice(tokenizer):
    decoder = Decoder(share_mlp(tiny_model("llama")), tokenizer, name="shared")
    gradients = LoraGradients(decoder, rank=4, seed=0)
    (batch,) = make_batches(decoder.tokenise(some_examples()[:2]), 1000, torch.device("cpu"))
    received = []
    gradients.run(batch, lambda layer, part: received.append(layer))
    names = list(gradients.modules)
    assert {names[layer]: received.count(layer) for layer in set(received)} == {
        name: 2 if "mlp" in name else 1 for name in names
    }


class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(2, 2))


class NearlyLinear(nn.Linear):
    pass


@pytest.mark.parametrize("module", [Strange(), NearlyLinear(2, 2), nn.Conv1d(1, 1, 1)])
def test_unknown_module_is_refused_by_name(tokenizer, module):
    decoder = tiny_decoder("llama", tokenizer)
    decoder.model.model.layers[1].odd = module
    with pytest.raises(ModelError, match=rf"model\.layers\.1\.odd is a {type(module).__name__}"):
        LoraGradients(decoder, rank=2, seed=0)


def test_model_without_linear_layers_is_refused(tokenizer):
    decoder = tiny_decoder("llama", tokenizer)
    decoder.model.model.layers = nn.ModuleList()
    with pytest.raises(ModelError, match="no linear layer"):
        linear_layers(decoder.model)


def test_head_and_embeddings_are_left_out(family_decoder):
    layers = linear_layers(family_decoder.model)
    left_out = {family_decoder.model.get_output_embeddings(), family_decoder.model.get_input_embeddings()}
    assert not left_out & set(layers.values())
    rank = 3
    assert LoraGradients(family_decoder, rank=rank, seed=0).lengths == [rank * outputs(m) for m in layers.values()]


def test_hooks_are_removed_also_after_a_failure(decoder):
    gradients = LoraGradients(decoder, rank=2, seed=0)
    (batch,) = make_batches(decoder.tokenise(some_examples()[:1]), 100, torch.device("cpu"))

    def fail(layer, part):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        gradients.run(batch, fail)
    assert not any(module._forward_hooks for module in gradients.modules.values())


def test_alpha_scales_the_gradient(decoder):
    tokens = decoder.tokenise(some_examples())
    usual, _ = all_gradients(LoraGradients(decoder, rank=4, seed=0), tokens)
    halved, _ = all_gradients(LoraGradients(decoder, rank=4, seed=0, alpha=4), tokens)
    torch.testing.assert_close(halved * 2, usual)


def test_bf16_is_near_fp32(decoder):
    tokens = decoder.tokenise(some_examples())
    exact, _ = all_gradients(LoraGradients(decoder, rank=4, seed=0), tokens)
    rough, _ = all_gradients(LoraGradients(decoder, rank=4, seed=0, bf16=True), tokens)
    assert bool((torch.cosine_similarity(exact, rough) > 0.99).all())


def test_a_has_the_variance_of_peft(tokenizer):
    gradients = LoraGradients(tiny_decoder("llama", tokenizer), rank=256, seed=0)
    for a in gradients._a:
        assert float(a.var() * a.shape[1] * 3) == pytest.approx(1, rel=0.1)


def test_a_has_orthogonal_rows(decoder):
    for a in LoraGradients(decoder, rank=8, seed=0)._a:
        torch.testing.assert_close(a @ a.T, torch.eye(8) / 3, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 32, 40, 100])
def test_a_of_any_rank_has_orthogonal_blocks(decoder, rank):
    gradients = LoraGradients(decoder, rank=rank, seed=0)
    for a in gradients._a:
        assert len(a) == rank
        for block in a.split(a.shape[1]):
            torch.testing.assert_close(block @ block.T, torch.eye(len(block)) / 3, rtol=1e-4, atol=1e-5)


def test_a_favours_no_direction(decoder):
    first = torch.stack([LoraGradients(decoder, rank=2, seed=seed)._a[0][0] for seed in range(200)])
    assert float((first.mean(dim=0) / first.std(dim=0)).abs().max()) < 4 / 200**0.5


def moved(model, gradients, direction, step):
    """The model with every lora_B at `step` times `direction`, given transposed and flat."""
    with torch.no_grad():
        for parameter, part in zip(lora_b(model, gradients), direction.split(gradients.lengths), strict=True):
            parameter.copy_(step * part.view(gradients.rank, -1).T)
    return model


@pytest.mark.parametrize("number", [0, 1, 4])
def test_finite_differences_give_the_squared_norm(family_decoder, number):
    gradients = LoraGradients(family_decoder, rank=4, seed=0)
    tokens = family_decoder.tokenise(some_examples())[number]
    found, _ = all_gradients(gradients, [tokens])
    model = fresh_lora(gradients, torch.float64)
    eps = 1e-5 / float(found.norm())
    with torch.no_grad():
        up = loss(moved(model, gradients, found[0].double(), eps), tokens)
        down = loss(moved(model, gradients, found[0].double(), -eps), tokens)
    assert float(up - down) / (2 * eps) == pytest.approx(float(found[0].double().square().sum()), rel=1e-4)


def test_a_step_on_one_example_changes_anothers_loss_by_their_inner_product(family_decoder):
    gradients = LoraGradients(family_decoder, rank=4, seed=0)
    query, pool = family_decoder.tokenise(some_examples())[:2]
    found = all_gradients(gradients, [query, pool])[0].double()
    model = fresh_lora(gradients, torch.float64)
    eta = 1e-6 / float(found[1].norm())
    with torch.no_grad():
        before = loss(moved(model, gradients, found[1], 0.0), query)
        after = loss(moved(model, gradients, found[1], -eta), query)
    scale = float(found[0].norm() * found[1].norm())
    assert float(after - before) / eta == pytest.approx(-float(found[0] @ found[1]), abs=1e-4 * scale)
