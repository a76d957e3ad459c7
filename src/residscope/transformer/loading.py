"""From a Hugging Face id, a directory or a model in memory to a `Transformer` and its tokenizer."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from residscope.errors import BadArgument, BadCheckpoint, BadFact, ModelNotFound, UnsupportedModel
from residscope.transformer.chat_template import (
    CHAT_TEMPLATE_FILE,
    ChatTemplate,
    read_chat_template,
    wrap_chat_template,
)
from residscope.transformer.checkpoint import INDEX, Checkpoint, refuse_pickled, refuse_quantised
from residscope.transformer.config import Config, Keys
from residscope.transformer.families import FAMILIES
from residscope.transformer.families.family import Family, Source
from residscope.transformer.placement import DTYPES, Plan, find_devices, free_bytes, read_free, spread
from residscope.transformer.tokens import Tokenizer, read_tokenizer, wrap_tokenizer
from residscope.transformer.transformer import Transformer

GENERATION = "generation_config.json"
BUNDLED = Path(__file__).parents[1] / "demo" / "model"  # which "demo" names
_OWN_NAMES = {"demo": "residscope-demo"}  # as its dictionaries call it
_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_FILES = (
    "config.json",
    GENERATION,
    "model.safetensors",
    "model-*.safetensors",
    INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    CHAT_TEMPLATE_FILE,
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
        """A tensor by name.

        Raises:
          BadCheckpoint: It is no tensor of a plain floating point.
        """
        tensor = self._tensors[name]
        refuse_quantised(tensor, name, "The state_dict")
        return tensor.detach().to(device, dtype)


@dataclass(frozen=True)
class Loaded:
    """What loading gives.

    Attributes:
      name: Short, for people.
      source: The Python that loads it again, as `rs.load(...)` takes it; None for a model in memory.
      chat_template: None where the model is for no chats.
      known_as: What others call it: its id on the hub, or the one that its config names; None where nothing says that.
      revision: The commit of the hub's repository that its files are of; None where they are not the hub's.
    """

    transformer: Transformer
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    name: str
    source: str | None
    known_as: str | None = None
    revision: str | None = None


def load_files(
    path: str | Path, *, dtype: str = "float32", device: str | Plan = "auto", revision: str | None = None
) -> Loaded:
    """Load a local directory or a Hugging Face id. A local directory makes no network call.

    Args:
      path: A directory that holds config.json, safetensors and a tokenizer; "demo", the bundled model; else an id as
        `openai-community/gpt2`.
      dtype: "float32", "bfloat16", "float16" or "float64"; weights are read straight into it.
      device: "auto" takes a GPU where there is one, and spreads what does not fit over all of them and the CPU, in
        which case the plan is logged; a name; or a plan.
      revision: A branch, tag or commit of the hub's repository.
    Raises:
      ModelNotFound, BadCheckpoint, UnsupportedModel, BadTokenizer, BadChatTemplate, TooLarge: Each says what was found
        and what to do.
    Holds:
      Logits and residual streams equal transformers'; peak memory is at most 1.15 times the weights.
    """
    chosen = choose_dtype(dtype)
    directory = _find_directory(path, revision)
    raw = _read_json(directory / "config.json")
    family, config = read_config(raw, str(path))
    placed = choose_plan(str(path), config, dtype, device)
    transformer = build(family, config, Checkpoint(directory), str(path), chosen, placed.device_of)
    generation = directory / GENERATION
    ends = _read_json(generation) if generation.is_file() else {}
    tokenizer = read_tokenizer(directory, _with_ends(raw, ends), config.d_vocab)
    name = directory.resolve().name if directory == Path(path) else str(path)
    arguments = [repr(str(path))]
    arguments += [f"dtype={dtype!r}"] if dtype != "float32" else []
    arguments += [f"revision={revision!r}"] if revision else []
    chat_template = read_chat_template(directory)
    named = raw.get("_name_or_path") if directory == Path(path) else _OWN_NAMES.get(str(path), str(path))
    python = f"rs.load({', '.join(arguments)})"
    commit = directory.name if _COMMIT.fullmatch(directory.name) else None  # as the hub's cache names its folders
    return Loaded(transformer, tokenizer, chat_template, name, python, _read_id(named), commit)


def load_memory(hf_model: nn.Module, tokenizer: Any) -> Loaded:
    """Take over a transformers model, sharing its weights.

    Args:
      hf_model: A causal language model of a supported family; its dtype and device stay.
      tokenizer: Its fast tokenizer.
    Raises:
      UnsupportedModel, BadCheckpoint, BadTokenizer: As for files.
    Holds:
      Every parameter shares its storage with the model's, but queries, keys and values that are fused head by head.
    """
    raw = hf_model.config.to_dict()  # type: ignore[union-attr, operator]  # what transformers models have
    name = raw.get("_name_or_path") or type(hf_model).__name__
    family, config = read_config(raw, name)
    first = next(hf_model.parameters())
    transformer = build(family, config, State(hf_model.state_dict()), name, first.dtype, lambda _: first.device)
    generation: Any = getattr(hf_model, "generation_config", None)
    ends = {} if generation is None else generation.to_dict()
    ours = wrap_tokenizer(tokenizer, _with_ends(raw, ends), config.d_vocab)
    named = _read_id(raw.get("_name_or_path"))
    return Loaded(transformer, ours, wrap_chat_template(tokenizer), name, None, named)


def _read_id(name: Any) -> str | None:
    """A name that may be one of the hub's; a folder's is its owner's own."""
    return name if isinstance(name, str) and _ID.fullmatch(name) and not Path(name).exists() else None


def _with_ends(raw: Mapping[str, Any], generation: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the tokens that end a text as generation_config.json has them: a chat's end of turn is one."""
    ends = generation.get("eos_token_id")
    return {**raw, **({} if ends is None else {"eos_token_id": ends})}


def plan(
    source: str | Path | Config,
    *,
    devices: Sequence[str] | Mapping[str, float] | None = None,
    dtype: str = "float32",
    revision: str | None = None,
) -> Plan:
    """Plan where a model's weights go, from its config alone: nothing is loaded, and of the hub only config.json.

    Args:
      source: A local directory, a Hugging Face id, or a config.
      devices: Names, in the order in which they are filled; or the bytes that are free on each, for a machine that is
        not this one. None: this machine's GPUs, the emptiest first, and then the CPU.
      dtype: Of the weights: "float32", "bfloat16", "float16" or "float64".
      revision: A branch, tag or commit on the hub.
    Returns:
      A value that prints as a table; `rs.load(source, device=plan)` follows it. Weights take three quarters of what is
      free on a device.
    Raises:
      TooLarge: The devices do not hold the model.
      ModelNotFound, BadCheckpoint, UnsupportedModel, BadArgument: As for loading.
    """
    choose_dtype(dtype)
    name, config = "The model", source
    if not isinstance(config, Config):
        name = str(source)
        config = read_config(_read_json(_find_directory(name, revision, config_only=True) / "config.json"), name)[1]
    if devices is None:
        free = find_devices()
    elif isinstance(devices, Mapping):
        free = read_free(devices)
    else:
        free = {device: free_bytes(choose_device(device)) for device in devices}
    return spread(name, config, dtype, free)


def choose_plan(name: str, config: Config, dtype: str, device: str | Plan) -> Plan:
    """The plan that was given, or the one that follows from a device's name."""
    if isinstance(device, Plan):
        return replace(device, name=name, config=config, dtype=dtype)
    if device != "auto" or not torch.cuda.is_available():
        one = str(choose_device(device))
        return Plan(name, config, dtype, one, (one,) * config.n_layers)
    placed = spread(name, config, dtype, find_devices())
    if len(placed.devices) > 1:
        logging.getLogger("residscope").warning("The model is spread over several devices.\n%s", placed)
    return placed


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
        said = error.fact if isinstance(error, BadFact) else error
        raise BadCheckpoint(
            f"The config of {source} has a value that makes no sense ({said}).",
            "Compare it with the model's original config.json.",
        ) from None
    keys.finish()
    return family, config


def build(
    family: Family,
    config: Config,
    tensors: Tensors,
    source: str,
    dtype: torch.dtype,
    device_of: Callable[[str], torch.device],
) -> Transformer:
    """A transformer whose parameters are the tensors' own memory wherever dtype and device allow.

    Args:
      family: Knows the names of the tensors.
      config: The model's.
      tensors: Its weights.
      source: Where they come from, for messages.
      dtype: Of the parameters.
      device_of: Where a parameter goes, by its name.
    Raises:
      BadCheckpoint: Tensors are missing, left over, or of another shape; they are named.
    """
    names = set(tensors)
    prefixes = (family.prefix, *family.other_prefixes)
    prefix = next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in names)), "")
    wanted = {ours: replace(part, name=prefix + part.name) for ours, part in family.sources(config).items()}
    embedding = wanted["embedding.weight"].name
    head = next((head for head in family.heads if head in names), family.heads[0])
    if config.tied and head in names:
        if embedding not in names:  # the one of two shared names that was saved
            wanted["embedding.weight"] = Source(head)
        elif not torch.equal(*(tensors.read(name, dtype, torch.device("cpu")) for name in (embedding, head))):
            config = replace(config, tied=False)  # as transformers reads it: what is stored goes before the flag
    if not config.tied:
        wanted["unembedding.weight"] = Source(head)
    if config.unembed_bias:
        wanted["unembedding.bias"] = Source(head.removesuffix("weight") + "bias")
    buffers = f"({re.escape(prefix)})?({'|'.join(family.buffers)})"
    copies = frozenset(family.heads if config.tied else ())  # of the embedding
    stored = {name for name in names if not re.fullmatch(buffers, name)}
    refuse_strangers(stored - copies, {part.name for part in wanted.values()} - copies, source, family.model_type)
    with torch.device("meta"):
        transformer = Transformer(config)
    of_tensor: dict[str, list[str]] = {}
    for ours, part in wanted.items():
        of_tensor.setdefault(part.name, []).append(ours)
    for theirs, parameters in of_tensor.items():
        # Once, so that parts of a fused tensor share its memory.
        tensor = tensors.read(theirs, dtype, device_of(parameters[0]))
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


def choose_dtype(name: str) -> torch.dtype:
    """The dtype of that name.

    Raises:
      BadArgument: There is none.
    """
    if name not in list(DTYPES):
        raise BadArgument(f"There is no dtype {name!r}.", f"Choose {', '.join(DTYPES)}.")
    dtype: torch.dtype = DTYPES[name]
    return dtype


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


def refuse_strangers(names: Set[str], wanted: Set[str], source: str, kind: str) -> None:
    """Refuse tensors that are missing or left over.

    Raises:
      BadCheckpoint: Names them.
    """
    missing = sorted(wanted - names)
    if missing:
        raise BadCheckpoint(
            f"{source} lacks {len(missing)} of the tensors that its config asks for: {_some(missing)}.",
            "The config and the weights are of different models, or a file is missing.",
        )
    left_over = sorted(names - wanted)
    if left_over:
        raise BadCheckpoint(
            f"{source} has {len(left_over)} tensors that a {kind} model does not: {_some(left_over)}.",
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


def _find_directory(path: str | Path, revision: str | None, *, config_only: bool = False) -> Path:
    if str(path) == "demo":
        return BUNDLED
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
    if not _ID.fullmatch(str(path)) or str(path).startswith("."):
        raise ModelNotFound(
            f"There is no directory {str(path)!r} (looked from {Path.cwd()}).",
            "Name a directory that holds a model, or a Hugging Face id such as openai-community/gpt2.",
        )
    return _download(str(path), revision, config_only)


def _download(repository: str, revision: str | None, config_only: bool) -> Path:
    from huggingface_hub import (  # half a second that local directories do not need
        constants,
        list_repo_files,
        snapshot_download,
    )

    wanted = ["config.json"] if config_only else list(_HUB_FILES)
    try:
        directory = Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
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
    if not config_only and not constants.HF_HUB_OFFLINE and not any(directory.glob("*.safetensors")):
        refuse_pickled(repository, list_repo_files(repository, revision=revision))
    return directory
