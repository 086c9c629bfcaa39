"""A Llama of two layers with random weights and a byte-level tokenizer: small enough to be made by every test run."""

from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(template=TEMPLATE):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["he", "re", "in", "an"]
    vocabulary = {token: index for index, token in enumerate([*alphabet, *words])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(word) for word in words]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        extra_special_tokens=["</s>"],
    )
    tokenizer.add_tokens(["<think>"])
    tokenizer.chat_template = template
    return tokenizer


def build_model(tokens: int, window: int = 256, spread: float = 0.6, seed: int = 7, **ends):
    """`spread` is that of the weights: with 0.02, as models begin, replies hang on the last token alone."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokens,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=window,
        initializer_range=spread,
        **ends,
    )
    return LlamaForCausalLM(config)


def build_architecture(name: str, tokens: int, layers: int, spread: float = 0.6, **more):
    """A model of another architecture, with four heads over two KV heads; `name` is that of transformers' classes."""
    import torch
    import transformers

    configuration = getattr(transformers, f"{name}TextConfig" if name == "Gemma3" else f"{name}Config")
    config = configuration(
        vocab_size=tokens,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=400,
        initializer_range=spread,
        pad_token_id=0,
        **more,
    )
    torch.manual_seed(3)
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


def write_model(folder: Path, tokenizer=None, **settings) -> Path:
    """Model and tokenizer as `longleaf models get` leaves them; returns the folder."""
    tokenizer = tokenizer or build_tokenizer()
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    build_model(len(tokenizer), **settings, **ends).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
