"""What one transformer is: facts of its blocks, read from a family's config file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from residscope.errors import BadCheckpoint, UnsupportedModel
from residscope.transformer.rotary import Rotary

MOST_LAYERS = 4096

Activation = Literal["gelu", "gelu_new", "relu", "silu"]


@dataclass(frozen=True)
class Config:
    """Facts of one model. None of them is a model's name: `family` is only said, never asked.

    Attributes:
      family: The family that read the config, as `model_type` names it.
      n_kv_heads: Key and value heads; query heads share them in groups of `n_heads / n_kv_heads`.
      n_ctx: Most tokens of a prompt.
      norm: "layer" centres and has a bias, "rms" neither.
      rotary: How queries and keys are turned; None where positions are learned and added to the embedding.
      attn_scale: Factor of the scores before the softmax.
      attn_scale_by_layer: Whether the scores are divided by the layer's number, from 1, as well.
      gated: Whether the MLP multiplies its activation by a second projection.
      tied: Whether the unembedding is the embedding.
    Raises:
      ValueError: A fact makes no sense.
    """

    family: str
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    norm: Literal["layer", "rms"]
    norm_eps: float
    rotary: Rotary | None
    attn_scale: float
    activation: Activation
    gated: bool
    qkv_bias: bool
    attn_out_bias: bool
    mlp_bias: bool
    tied: bool
    attn_scale_by_layer: bool = False

    def __post_init__(self) -> None:
        sizes = ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_head", "d_mlp", "d_vocab", "n_ctx")
        for name in sizes:
            size = getattr(self, name)
            if type(size) is not int or not 1 <= size < (MOST_LAYERS if name == "n_layers" else 2**31):
                raise ValueError(f"{name} is {size!r}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"{self.n_heads} heads do not share {self.n_kv_heads} key and value heads evenly")
        for name in ("qkv_bias", "attn_out_bias", "mlp_bias", "tied", "attn_scale_by_layer"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} is {getattr(self, name)!r}")
        if type(self.norm_eps) not in (int, float) or not 0 <= self.norm_eps < 1:
            raise ValueError(f"the norm's epsilon is {self.norm_eps!r}")


# Keys of any config.json that say nothing of what the model computes: training, generation, heads for other tasks.
_HARMLESS = frozenset(
    """
    _attn_implementation_autoset _commit_hash _from_model_config _name_or_path _num_labels architectures
    attn_implementation auto_map bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward
    decoder_start_token_id diversity_penalty do_sample dtype early_stopping encoder_no_repeat_ngram_size eos_token_id
    exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing
    id2label initializer_range is_decoder label2id language length_penalty max_length min_length
    model_type name_or_path no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences
    output_attentions output_hidden_states output_scores pad_token_id prefix pretraining_tp problem_type
    remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id suppress_tokens
    task_specific_params temperature tf_legacy_loss tokenizer_class top_k top_p torch_dtype torchscript
    transformers_version typical_p unk_token_id unsloth_fixed unsloth_version use_bfloat16
    use_cache
    """.split()
)


_ACTIVATION_NAMES: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


class Keys:
    """A config file of which every key is either read, known to be harmless, or refused by name.

    Args:
      raw: The parsed config.json.
      source: Where it lies, for messages.
    """

    def __init__(self, raw: Mapping[str, Any], source: str) -> None:
        self._raw = raw
        self._source = source
        self._read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        if key not in self._raw:
            raise BadCheckpoint(
                f"The config of {self._source} has no {key!r}.", "Compare it with the model's original config.json."
            )
        return self.get(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The key's value; `default` where it is missing or null."""
        self._read.add(key)
        value = self._raw.get(key)
        return default if value is None else value

    def only(self, key: str, value: Any) -> None:
        """Refuse any other value of `key` than the one we compute."""
        if self.get(key, value) != value:
            raise UnsupportedModel(
                f"The config of {self._source} sets {key}={self._raw[key]!r}, and only {value!r} is supported.",
                "Choose a model without it.",
            )

    def activation(self, key: str, default: str) -> Activation:
        """The activation that `key` names, by whichever of its names."""
        name = self.get(key, default)
        if name not in _ACTIVATION_NAMES:
            raise UnsupportedModel(
                f"The config of {self._source} has the activation {name!r}.",
                f"Supported: {', '.join(sorted(_ACTIVATION_NAMES))}.",
            )
        return _ACTIVATION_NAMES[name]

    def ignore(self, *keys: str) -> None:
        """Keys of this family that do not change what the model computes in inference."""
        self._read.update(keys)

    def finish(self) -> None:
        """Refuse the keys that nobody read.

        Raises:
          UnsupportedModel: Names them.
        """
        unknown = sorted(key for key in self._raw.keys() - self._read - _HARMLESS if self._raw[key] is not None)
        if unknown:
            raise UnsupportedModel(
                f"The config of {self._source} has keys that may change what the model computes, and that are not "
                f"known here: {', '.join(f'{key}={self._raw[key]!r}' for key in unknown)}.",
                "Remove from config.json those that do not; a model that needs the others is not supported.",
            )
