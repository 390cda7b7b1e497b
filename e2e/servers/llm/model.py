"""A Llama of random weights as a GGUF file: the same bytes for the same seed, and the work of a real model of its size.

A token is one printable ASCII character, a space or a line break, so that a prompt of n characters has n tokens, and
every output token is complete text.
"""

# The package is in the image alone.
# mypy: disable-error-code="import-untyped,import-not-found"

from pathlib import Path
from typing import Final

import numpy as np
from gguf import GGUFWriter, TokenType

EMBEDDING: Final = 384
LAYERS: Final = 6
FEED_FORWARD: Final = 1024
HEADS: Final = 6
CONTEXT: Final = 8192
SEED: Final = 7
CHARACTERS: Final = (*(chr(code) for code in range(33, 127)), "Ġ", "Ċ")
"""The tokenizer's letters; its last two stand for the space and the line break."""
TEMPLATE: Final = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def write(path: Path) -> None:
    """Write the file: 10.7 million weights of 32 bits."""
    draws = np.random.default_rng(SEED)
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    end = len(CHARACTERS)
    writer.add_vocab_size(end + 1)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*CHARACTERS, "<end>"])
    writer.add_token_types([TokenType.NORMAL] * end + [TokenType.CONTROL])
    writer.add_token_merges(["Ġ Ċ"])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    def matrix(name: str, rows: int, columns: int) -> None:
        weights = draws.standard_normal((rows, columns), dtype=np.float32) / np.float32(np.sqrt(columns))
        writer.add_tensor(f"{name}.weight", weights)

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(EMBEDDING, np.float32))

    matrix("token_embd", end + 1, EMBEDDING)
    matrix("output", end + 1, EMBEDDING)
    norm("output_norm")
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm")
        norm(f"{block}.ffn_norm")
        for part in ("q", "k", "v", "output"):
            matrix(f"{block}.attn_{part}", EMBEDDING, EMBEDDING)
        matrix(f"{block}.ffn_gate", FEED_FORWARD, EMBEDDING)
        matrix(f"{block}.ffn_up", FEED_FORWARD, EMBEDDING)
        matrix(f"{block}.ffn_down", EMBEDDING, FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
