"""A tiny random model of any causal language model that transformers knows."""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 512


def _all(words: str, value: Any) -> dict[str, Any]:
    return dict.fromkeys(words.split(), value)


SIZES: dict[str, Any] = {
    **_all("vocab_size encoder_hash_byte_group_vocab vocab_size_per_layer_input ngram_vocab_size", VOCABULARY),
    **_all("hidden_size d_model n_embd emb_dim embedding_dim embedding_size input_embedding_size", 32),
    **_all("output_embedding_size attention_hidden_size lru_width", 32),
    **_all("ffn_dim intermediate_size ffn_hidden_size d_inner n_inner dim_ff dff block_ff_dim", 48),
    **_all("encoder_ffn_dim decoder_ffn_dim moe_intermediate_size shared_expert_intermediate_size", 48),
    **_all("moe_shared_expert_intermediate_size shared_intermediate_size expert_ffn_hidden_size", 48),
    **_all("dense_intermediate_size mlp_hidden_size encoder_ffn_dim", 48),
    **_all("head_dim v_head_dim attention_head_size global_head_dim swa_head_dim", 8),
    **_all("qk_nope_head_dim qk_rope_head_dim linear_key_head_dim linear_value_head_dim swa_v_head_dim", 8),
    **_all("q_lora_rank kv_lora_rank o_lora_rank gate_lora_rank mamba_dt_rank time_step_rank adapter_rank", 8),
    **_all("num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_decoder_layers", 2),
    **_all("num_blocks num_encoder_layers", 2),
    **_all("num_attention_heads n_head n_heads num_heads attention_heads num_decoder_attention_heads", 4),
    **_all("encoder_attention_heads decoder_attention_heads num_encoder_attention_heads", 4),
    **_all("linear_num_value_heads swa_num_attention_heads n_linear_heads linear_num_heads", 4),
    **_all("num_key_value_heads num_kv_heads linear_num_key_heads swa_num_key_value_heads", 2),
    **_all("num_global_key_value_heads", 2),
    **_all("num_experts num_local_experts n_routed_experts moe_num_experts", 4),
    **_all("num_experts_per_tok num_experts_per_token moe_topk moe_k top_k_experts moe_top_k", 2),
    **_all("n_group topk_group num_expert_group n_shared_experts moe_num_shared_experts num_shared_experts", 1),
    **_all("first_k_dense_replace num_dense_layers moe_layer_start_index", 1),
    **_all("max_position_embeddings n_positions n_ctx context_length max_target_positions max_seq_len", 128),
    **_all("index_n_heads index_head_dim index_topk", 16),
    **_all("ssm_state_size state_size mamba_d_state ssm_d_state", 8),
    **_all("chunk_size mamba_chunk_size chunk_length block_size", 16),
    **_all("sliding_window window_size attention_window_size", 8),
    **_all("hidden_size_per_layer_input", 8),
    **_all("num_nextn_predict_layers", 0),
    **_all("initializer_range init_std embed_init_std", 0.1),
    **_all("is_decoder", True),
    **_all("patch_size", 4),
    **_all("image_size", 16),
}
"""small values by the names that configs have for the same things"""

MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_expand": 2}
KV_SHARED = {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
INDEXER = {"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 16}
INDEXER |= {"indexer_compress_ratio": 2, "hc_lowrank": 8, "ple_embed_dim": 16, "ngram_vocab_size_base": 64}
HYBRID = {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2}
DRAFTER = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0, "num_kv_shared_layers": 2}
EXPERTS = {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2}

OWN: dict[str, dict[str, Any]] = {
    "bamba": MAMBA,
    "codegen": {"rotary_dim": 4},
    "blt": {
        "encoder_config": {"hidden_size_global": 64},
        "decoder_config": {"hidden_size_global": 64},
        "global_config": {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 8},
    },
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    "cpmant": {"dim_head": 8},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0}},
    "deepseek_v2": EXPERTS,
    "dots1": EXPERTS,
    "dots3_note": {"text_config": {"per_layer_config": {}}},
    "gemma4_assistant": {"text_config": DRAFTER},
    "gemma4_unified_assistant": {"text_config": DRAFTER},
    "gemma3n_text": KV_SHARED | {"num_kv_shared_layers": 2, "intermediate_size": 48, "laurel_rank": 4},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": MAMBA,
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"], "num_hidden_layers": 3},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 2},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp": {"text_config": INDEXER},
    "qwen4_exp_text": INDEXER,
    "reformer": {"is_decoder": True, "axial_pos_shape": [8, 16], "axial_pos_embds_dim": [16, 16]},
    "xlm": {"causal": True},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_head_dim": 16, "attention_hidden_size": 64} | HYBRID,
    "zamba2": {"attention_head_dim": 16, "attention_hidden_size": 64, "n_mamba_heads": 4, "mamba_headdim": 16} | HYBRID,
    "zaya": {"num_experts_per_tok": 1},
}
"""what a type wants besides"""

LEFT_OUT = {"transformers_version", "architectures", "dtype", "id2label", "label2id", "_name_or_path", "model_type"}


def names() -> list[str]:
    """Every model type that AutoModelForCausalLM knows."""
    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(name: str) -> PreTrainedConfig:
    """A small config of a type, with every kind of layer that its default has."""
    kind, own = CONFIG_MAPPING[name], OWN.get(name, {})
    try:
        default = kind().to_dict()
    except Exception:  # a default that its own class refuses
        default = {"text_config": CONFIG_MAPPING["gemma4_text"]().to_dict()}
    try:
        return kind(**_merged(shrunk(default), own))
    except Exception:  # a list that the config makes by itself
        return kind(**_merged(shrunk(default, layers=False), own))


def shrunk(config: dict[str, Any], layers: bool = True) -> dict[str, Any]:
    """The sizes in a config, small, and those of the configs within it."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key in SIZES and isinstance(value, type(SIZES[key])):
            found[key] = SIZES[key] if value is False or value != 0 else value
        elif key.endswith("_token_id") and isinstance(value, int):
            found[key] = min(value, 3)
        elif isinstance(value, dict) and "model_type" in value:
            found[key] = shrunk(value, layers)
    heads = [key for key in ("num_attention_heads", "num_key_value_heads") if key in found]
    if len(heads) == 2 and config[heads[0]] == config[heads[1]]:
        found[heads[1]] = found[heads[0]]  # some attention knows no groups
    depth = next((key for key in ("num_hidden_layers", "n_layer", "num_layers") if key in found), None)
    lists = {key: value for key, value in config.items() if depth and _one_a_layer(value, config[depth])}
    if lists and layers:
        kinds = list(zip(*lists.values(), strict=True))
        chosen = [number for number, kind in enumerate(kinds) if kind not in kinds[:number]][:4]
        chosen = chosen if len(chosen) > 1 else [0, 1]
        found |= {key: [value[number] for number in chosen] for key, value in lists.items()} | {depth: len(chosen)}
    return found


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(one[key], value) for key, value in other.items() if isinstance(one.get(key), dict)}
    return one | other | both


def _one_a_layer(value: Any, depth: int) -> bool:
    return isinstance(value, list) and len(value) == depth > 2 and isinstance(value[0], str | int)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One that knows a few words and every byte."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<unk>", "<eos>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(["What is the capital of France? Paris is the capital of France."], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>")


def tiny_model(name: str, seed: int = 0) -> PreTrainedModel:
    """A random model of a type."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(name)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that none is all zeros or ones
            parameter += 0.02 * torch.randn_like(parameter)
    return model
