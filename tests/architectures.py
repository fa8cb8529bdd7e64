"""Text classifiers of many architectures with four layers and tiny random weights, from configurations alone."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from tests import tiny

DEPTH, WIDTH, POSITIONS = 4, 16, 130
COMMON = {
    "vocab_size": len(tiny.tokenizer()),
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": POSITIONS,
    "num_labels": 3,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
DECODER = {"num_key_value_heads": 2, "head_dim": 8}
WINDOW = {"sliding_window": 4, "use_sliding_window": True}
FULL, LOCAL = "full_attention", "sliding_attention"
KINDS = {"layer_types": [FULL, LOCAL, FULL, LOCAL]}
SEQUENCES = {"d_model": WIDTH, "encoder_layers": DEPTH, "decoder_layers": DEPTH, "encoder_attention_heads": 2,
             "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}  # fmt: skip
T5 = {"d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": DEPTH, "num_heads": 2, "num_decoder_layers": DEPTH,
      "decoder_start_token_id": 0}  # fmt: skip
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("bert", {}),
    "RoBERTa": ("roberta", {"type_vocab_size": 2}),
    "XLM-RoBERTa": ("xlm-roberta", {"type_vocab_size": 2}),
    "DistilBERT": ("distilbert", {"hidden_dim": 32}),
    "ELECTRA": ("electra", {"embedding_size": 8}),
    "ALBERT": ("albert", {"embedding_size": 8}),
    "ALBERT, a group a layer": ("albert", {"embedding_size": 8, "num_hidden_groups": DEPTH}),
    "DeBERTa": ("deberta", {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "DeBERTa-v2": ("deberta-v2", {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "DeBERTa-v2 with convolution": ("deberta-v2", {"relative_attention": True, "conv_kernel_size": 3}),
    "MPNet": ("mpnet", {}),
    "XLNet": ("xlnet", {"d_inner": 32, "d_head": 8, "max_position_embeddings": None}),
    "Funnel": ("funnel", {"block_sizes": [2, 2], "d_head": 8, "d_inner": 32, "num_hidden_layers": None}),
    "ConvBERT": ("convbert", {"embedding_size": WIDTH}),
    "MobileBERT": ("mobilebert", {"embedding_size": 8, "intra_bottleneck_size": WIDTH, "true_hidden_size": WIDTH}),
    "ModernBERT": ("modernbert", {"local_attention": 8, "global_attn_every_n_layers": 2}),
    "XLM": ("xlm", {"emb_dim": WIDTH}),
    "CTRL": ("ctrl", {"dff": 32}),
    "GPT-2": ("gpt2", {}),
    "GPT-2, scaled by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    "GPT-Neo": ("gpt_neo", {"attention_types": [[["global", "local"], 2]], "window_size": 4}),
    "GPT-NeoX": ("gpt_neox", {}),
    "GPT-J": ("gptj", {"rotary_dim": 4}),
    "BLOOM": ("bloom", {}),
    "Falcon": ("falcon", {"new_decoder_architecture": False}),
    "OPT": ("opt", {"ffn_dim": 32, "word_embed_proj_dim": WIDTH}),
    "MPT": ("mpt", {"d_model": WIDTH, "n_heads": 2, "n_layers": DEPTH, "max_seq_len": POSITIONS}),
    "Llama": ("llama", DECODER),
    "Mistral": ("mistral", {**DECODER, "sliding_window": 4}),
    "Qwen2": ("qwen2", {**DECODER, **WINDOW, **KINDS}),
    "Qwen3": ("qwen3", {**DECODER, **WINDOW, "max_window_layers": 2}),
    "SmolLM3": ("smollm3", {**DECODER, **WINDOW, "no_rope_layer_interval": 2}),
    "Phi": ("phi", {}),
    "Gemma": ("gemma", DECODER),
    "Gemma 2": ("gemma2", {**DECODER, "sliding_window": 4}),
    "Gemma 3": ("gemma3_text", {**DECODER, "sliding_window": 4, "sliding_window_pattern": 2}),
    "StableLM": ("stablelm", {"num_key_value_heads": 2}),
    "Mixtral": ("mixtral", {**DECODER, "num_local_experts": 2}),
    "Jamba": ("jamba", {**DECODER, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "mamba_d_state": 4,
                        "use_mamba_kernels": False}),
    "DiffLlama": ("diffllama", DECODER),
    "T5": ("t5", T5),
    "T5, deeper encoder": ("t5", {**T5, "num_decoder_layers": 2}),
    "BART": ("bart", SEQUENCES),
    "BART, deeper encoder": ("bart", {**SEQUENCES, "decoder_layers": 2}),
}  # fmt: skip
"""name -> (model type, settings beside the common ones; None removes one)."""


def built(name: str, seed: int = 0) -> PreTrainedModel:
    """Build a classifier of three labels; no weight of it equals that of another layer."""
    kind, own = SHAPES[name]
    config = AutoConfig.for_model(kind, **{key: value for key, value in {**COMMON, **own}.items() if value is not None})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
        with torch.no_grad():  # norms and biases start alike in all layers
            for weight in model.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    return model
