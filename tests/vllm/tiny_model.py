"""A model of random weights, for tests that ask what becomes of a request and not of a text: it
starts and steps in no time. Two kinds of layers, those with a sliding window and those of full
attention. The weights are large enough that a token depends on all before it."""

import random

LAYERS, HEADS, HEAD_DIM, VOCABULARY = 4, 2, 64, 1024
TOKEN_BYTES = LAYERS * HEADS * HEAD_DIM * 2 * 4


def save(folder):
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(1)
    Gemma3ForCausalLM(Gemma3TextConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=HEADS, head_dim=HEAD_DIM, vocab_size=VOCABULARY, sliding_window=64,
        max_position_embeddings=2048, query_pre_attn_scalar=HEAD_DIM, initializer_range=0.3,
        tie_word_embeddings=False,
        layer_types=["sliding_attention", "full_attention"] * (LAYERS // 2),
    )).save_pretrained(folder)


def prompt(tokens, seed):
    return random.Random(seed).choices(range(3, VOCABULARY), k=tokens)
