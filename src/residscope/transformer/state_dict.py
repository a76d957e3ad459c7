"""One's own checkpoint: named tensors and a `Config`, or a checkpoint of TransformerLens and its config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from residscope.errors import BadArgument, BadCheckpoint, ModelNotFound
from residscope.transformer.chat_template import wrap_chat_template
from residscope.transformer.checkpoint import PICKLED, Checkpoint
from residscope.transformer.config import Config
from residscope.transformer.families.family import Family, Source
from residscope.transformer.loading import Loaded, State, Tensors, build, choose_device, choose_dtype, choose_plan
from residscope.transformer.placement import Plan
from residscope.transformer.tokens import Untokenized, wrap_tokenizer
from residscope.transformer.transformer import Transformer
from residscope.transformer.transformer_lens import convert


def load_state_dict(
    source: Mapping[str, Tensor] | str | Path,
    config: Any,
    tokenizer: Any = None,
    *,
    dtype: str = "float32",
    device: str | Plan = "auto",
) -> Loaded:
    """Load named tensors.

    Args:
      source: A state_dict, a safetensors file, or a directory with one.
      config: A `Config`, for tensors named as in `Transformer(config).state_dict()`; or TransformerLens's config, an
        object or a dictionary of its fields, for tensors named as there.
      tokenizer: A fast tokenizer of transformers or of tokenizers; None where token ids are all that will run.
      dtype: As for files; a tensor that already is so is shared.
      device: As for files.
    Raises:
      BadCheckpoint, UnsupportedModel, BadTokenizer, BadArgument: As for files.
    """
    chosen = choose_dtype(dtype)
    name = "The state_dict" if isinstance(source, Mapping) else str(source)
    tensors = _open(source)
    if not isinstance(config, Config):
        fields = config if isinstance(config, Mapping) else getattr(config, "__dict__", {})
        if not fields:
            raise BadArgument(
                f"config={config!r} was given.", "Give an rs.Config, or the config of a TransformerLens model."
            )
        where = choose_device("cpu" if isinstance(device, Plan) else device)
        config, tensors = convert(fields, tensors, name, chosen, where)
    placed = choose_plan(name, config, dtype, device)
    transformer = build(_family(config), config, tensors, name, chosen, placed.device_of)
    short = config.family if isinstance(source, Mapping) else Path(source).stem
    ids = {f"{which}_token_id": getattr(tokenizer, f"{which}_token_id", None) for which in ("bos", "eos")}
    ours = Untokenized(config.d_vocab) if tokenizer is None else wrap_tokenizer(tokenizer, ids, config.d_vocab)
    return Loaded(transformer, ours, wrap_chat_template(tokenizer), short, None)


def _open(source: Mapping[str, Tensor] | str | Path) -> Tensors:
    if isinstance(source, Mapping):
        given: Mapping[str, Any] = source
        wrong = [name for name, tensor in given.items() if not isinstance(tensor, Tensor)]
        if wrong:
            raise BadCheckpoint(
                f"The state_dict has {wrong[0]!r}, which is no tensor.", "Give what model.state_dict() gives."
            )
        return State(source)
    path = Path(source).expanduser()
    if path.suffix in PICKLED:
        raise BadCheckpoint(
            f"{path} is pickled, and is never opened.", "If you trust it, open it with torch, and give its state_dict."
        )
    if not path.exists():
        raise ModelNotFound(f"There is no file {str(path)!r} (looked from {Path.cwd()}).", "Name a safetensors file.")
    return Checkpoint(path)


def _family(config: Config) -> Family:
    return Family(
        model_type="Residscope",
        prefix="",
        read_config=lambda keys, source: config,
        modules={},
        example={},
        parts=_list_parameters,
        heads=("unembedding.weight",),
    )


def _list_parameters(config: Config) -> dict[str, Source]:
    with torch.device("meta"):
        names = Transformer(config).state_dict()
    return {name: Source(name) for name in names if name != "unembedding.weight"}
