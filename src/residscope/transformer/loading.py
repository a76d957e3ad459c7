"""From a Hugging Face id, a directory or a model in memory to a `Transformer` and its tokenizer."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from residscope.errors import BadArgument, BadCheckpoint, ModelNotFound, UnsupportedModel
from residscope.transformer.checkpoint import INDEX, Checkpoint, refuse_pickled
from residscope.transformer.config import Config, Keys
from residscope.transformer.families import FAMILIES
from residscope.transformer.families.family import Family, Source
from residscope.transformer.tokens import Tokenizer, read_tokenizer, wrap_tokenizer
from residscope.transformer.transformer import Transformer

DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}

_HUB_FILES = (
    "config.json",
    "model.safetensors",
    "model-*.safetensors",
    INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)


@runtime_checkable
class Tensors(Protocol):
    """Named tensors: a `Checkpoint` on disk, or a `State` in memory."""

    def __iter__(self) -> Iterator[str]: ...
    def read(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor: ...


class State:
    """The tensors of a model in memory, shared wherever dtype and device allow."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def read(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A tensor by name."""
        return self._tensors[name].detach().to(device, dtype)


@dataclass(frozen=True)
class Loaded:
    """What loading gives.

    Attributes:
      name: Short, for people.
      source: The Python that loads it again, as `rs.load(...)` takes it; None for a model in memory.
    """

    transformer: Transformer
    tokenizer: Tokenizer
    name: str
    source: str | None


def load_files(
    path: str | Path, *, dtype: str = "float32", device: str = "auto", revision: str | None = None
) -> Loaded:
    """Load a local directory or a Hugging Face id. A local directory makes no network call.

    Args:
      path: A directory that holds config.json, safetensors and a tokenizer; else an id as `openai-community/gpt2`.
      dtype: "float32", "bfloat16", "float16" or "float64"; weights are read straight into it.
      device: "auto" takes a GPU where there is one.
      revision: A branch, tag or commit of the hub's repository.
    Raises:
      ModelNotFound, BadCheckpoint, UnsupportedModel, BadTokenizer: Each says what was found and what to do.
    Holds:
      Logits and residual streams equal transformers'; peak memory is at most 1.15 times the weights.
    """
    if dtype not in list(DTYPES):
        raise BadArgument(f"There is no dtype {dtype!r}.", f"Choose {', '.join(DTYPES)}.")
    directory = _find_directory(path, revision)
    raw = _read_json(directory / "config.json")
    family, config = read_config(raw, str(path))
    transformer = build(family, config, Checkpoint(directory), str(path), DTYPES[dtype], choose_device(device))
    tokenizer = read_tokenizer(directory, raw, config.d_vocab)
    name = directory.resolve().name if directory == Path(path) else str(path)
    arguments = [repr(str(path))]
    arguments += [f"dtype={dtype!r}"] if dtype != "float32" else []
    arguments += [f"revision={revision!r}"] if revision else []
    return Loaded(transformer, tokenizer, name, f"rs.load({', '.join(arguments)})")


def load_memory(hf_model: nn.Module, tokenizer: Any) -> Loaded:
    """Take over a transformers model, sharing its weights.

    Args:
      hf_model: A causal language model of a supported family; its dtype and device stay.
      tokenizer: Its fast tokenizer.
    Raises:
      UnsupportedModel, BadCheckpoint, BadTokenizer: As for files.
    Holds:
      Every parameter shares its storage with the model's.
    """
    raw = hf_model.config.to_dict()  # type: ignore[union-attr, operator]  # what transformers models have
    name = raw.get("_name_or_path") or type(hf_model).__name__
    family, config = read_config(raw, name)
    first = next(hf_model.parameters())
    transformer = build(family, config, State(hf_model.state_dict()), name, first.dtype, first.device)
    return Loaded(transformer, wrap_tokenizer(tokenizer, raw, config.d_vocab), name, None)


def read_config(raw: Mapping[str, Any], source: str) -> tuple[Family, Config]:
    """The family of a parsed config.json and what it says of the model.

    Raises:
      UnsupportedModel: No family has this `model_type`, or a key is unknown; both are named.
    """
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise UnsupportedModel(
            f"{source} is a model of the family {model_type!r}.", f"Supported families: {', '.join(FAMILIES)}."
        )
    family = FAMILIES[model_type]
    keys = Keys(raw, source)
    keys.only("is_encoder_decoder", False)
    keys.only("pruned_heads", {})
    try:
        config = family.read_config(keys, source)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise BadCheckpoint(
            f"The config of {source} has a value that makes no sense ({error}).",
            "Compare it with the model's original config.json.",
        ) from None
    keys.finish()
    return family, config


def build(
    family: Family, config: Config, tensors: Tensors, source: str, dtype: torch.dtype, device: torch.device
) -> Transformer:
    """A transformer whose parameters are the tensors' own memory wherever dtype and device allow.

    Raises:
      BadCheckpoint: Tensors are missing, left over, or of another shape; they are named.
    """
    names = set(tensors)
    prefix = family.prefix if any(name.startswith(family.prefix) for name in names) else ""
    wanted = {ours: replace(part, name=prefix + part.name) for ours, part in family.sources(config).items()}
    embedding, head = wanted["embedding.weight"].name, "lm_head.weight"
    if config.tied and head in names:
        if embedding not in names:  # the one of two shared names that was saved
            wanted["embedding.weight"] = Source(head)
        elif not torch.equal(tensors.read(embedding, dtype, device), tensors.read(head, dtype, device)):
            config = replace(config, tied=False)  # as transformers reads it: what is stored goes before the flag
    if not config.tied:
        wanted["unembedding.weight"] = Source(head)
    _refuse_strangers(family, prefix, names, {part.name for part in wanted.values()}, config, source)
    with torch.device("meta"):
        transformer = Transformer(config)
    of_tensor: dict[str, list[str]] = {}
    for ours, part in wanted.items():
        of_tensor.setdefault(part.name, []).append(ours)
    for theirs, parameters in of_tensor.items():
        tensor = tensors.read(theirs, dtype, device)  # once, so that parts of a fused tensor share its memory
        for ours in parameters:
            module_name, _, attribute = ours.rpartition(".")
            module = transformer.get_submodule(module_name)
            expected = getattr(module, attribute)
            try:
                found = wanted[ours].view(tensor)
            except (RuntimeError, IndexError):  # no such part in a tensor of this shape
                found = tensor
            if found.shape != expected.shape:
                raise BadCheckpoint(
                    f"{source} has {theirs} of shape {list(tensor.shape)}, which gives {ours} {list(found.shape)}; "
                    f"the config asks for {list(expected.shape)}.",
                    "The config and the weights are of different models.",
                )
            setattr(module, attribute, nn.Parameter(found, requires_grad=False))
    if config.tied:
        transformer.unembedding.weight = transformer.embedding.weight
    return transformer.eval()


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU where there is one.

    Raises:
      BadArgument: This machine has none of that name.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise BadArgument(
            f"There is no device {name!r} here ({str(error).splitlines()[0]}).", "Choose 'cpu' or 'auto'."
        ) from None
    return device


def _refuse_strangers(
    family: Family, prefix: str, names: set[str], wanted: set[str], config: Config, source: str
) -> None:
    missing = sorted(wanted - names)
    if missing:
        raise BadCheckpoint(
            f"{source} lacks {len(missing)} of the tensors that its config asks for: {_some(missing)}.",
            "The config and the weights are of different models, or a file is missing.",
        )
    known = "|".join(re.escape(prefix) + pattern for pattern in family.buffers)
    left_over = sorted(name for name in names - wanted if not re.fullmatch(known, name))
    if config.tied and "lm_head.weight" in left_over:
        left_over.remove("lm_head.weight")  # a copy of the embedding
    if left_over:
        raise BadCheckpoint(
            f"{source} has {len(left_over)} tensors that a {family.model_type} model does not: {_some(left_over)}.",
            "A changed architecture is not supported; an adapter has to be merged first.",
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise BadCheckpoint(f"{path} cannot be read ({error}).", "Download or copy it again.") from None
    if not isinstance(parsed, dict):
        raise BadCheckpoint(f"{path} is no JSON object.", "Download or copy it again.")
    return parsed


def _find_directory(path: str | Path, revision: str | None) -> Path:
    directory = Path(path).expanduser()
    try:
        if (directory / "config.json").is_file():
            return directory
        exists = directory.exists()
    except OSError as error:
        raise ModelNotFound(
            f"{str(path)[:100]!r} cannot be looked at ({error.strerror}).", "Name a directory that may be read."
        ) from None
    if exists:
        inside = ", ".join(sorted(child.name for child in directory.iterdir())[:5]) if directory.is_dir() else "a file"
        raise ModelNotFound(
            f"{path} is no model: it has no config.json ({inside or 'it is empty'}).",
            "Name a directory with config.json, safetensors and a tokenizer.",
        )
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(path)) or str(path).startswith("."):
        raise ModelNotFound(
            f"There is no directory {str(path)!r} (looked from {Path.cwd()}).",
            "Name a directory that holds a model, or a Hugging Face id such as openai-community/gpt2.",
        )
    return _download(str(path), revision)


def _download(repository: str, revision: str | None) -> Path:
    from huggingface_hub import (  # half a second that local directories do not need
        constants,
        list_repo_files,
        snapshot_download,
    )

    try:
        directory = Path(snapshot_download(repository, revision=revision, allow_patterns=list(_HUB_FILES)))
    except Exception as error:  # huggingface_hub's own, its HTTP client's, the disk's: all mean that there is no model
        why = "offline" if constants.HF_HUB_OFFLINE else (str(error) or type(error).__name__).splitlines()[0]
        raise ModelNotFound(
            f"There is no model {repository!r}: no directory of that name in {Path.cwd()}, none downloaded in "
            f"{constants.HF_HUB_CACHE}, and the hub gave none ({why}).",
            "Check the name, or download it on a machine with a network and name its directory.",
        ) from None
    if not (directory / "config.json").is_file():
        raise ModelNotFound(
            f"The repository {repository!r} has no config.json.", "Name a model in Hugging Face's format."
        )
    if not constants.HF_HUB_OFFLINE and not any(directory.glob("*.safetensors")):
        refuse_pickled(repository, list_repo_files(repository, revision=revision))
    return directory
