"""The model as a user holds it: tokens in, runs out."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from residscope.errors import BadArgument, PromptTooLong, UnknownToken, UnsupportedModel
from residscope.running.arguments import read_choice, read_memory_bytes, read_seed, read_whole
from residscope.running.edits import Edit, as_edits
from residscope.running.first_order import estimate
from residscope.running.generation import write_on
from residscope.running.metrics import Metric
from residscope.running.run import Run, check_metric
from residscope.running.sweep import EditSet, Sweep, sweep
from residscope.running.texts import Corpus, Texts, read_corpus, tokenize
from residscope.sites import KINDS, Site, find_site, list_sites
from residscope.transformer.chat_template import Messages
from residscope.transformer.config import Config, is_finite
from residscope.transformer.loading import Loaded, choose_dtype, load_files, load_memory
from residscope.transformer.placement import Plan, keep_freed_memory, make_shapes
from residscope.transformer.state_dict import load_state_dict
from residscope.transformer.tokens import Tokens
from residscope.transformer.weights import Weights

_HASHED = 64  # numbers of each weight


def load(
    source: str | Path | nn.Module | Mapping[str, Tensor],
    *,
    config: Any = None,
    dtype: str = "float32",
    device: str | Plan = "auto",
    revision: str | None = None,
    tokenizer: Any = None,
    memory_bytes: int | None = None,
) -> "Model":
    """Load a model.

    Args:
      source: "demo" for the bundled model; a local directory (config.json, safetensors, a tokenizer), a Hugging Face
        id, or a transformers model in memory, whose weights are then shared and whose dtype and device stay. With a
        config, named tensors: a state_dict, a safetensors file, or a directory with one.
      config: For named tensors: a `Config`, for names as in the guide; or TransformerLens's own, for its names.
      dtype: "float32", "bfloat16", "float16" or "float64"; of a model in memory nothing else than its own.
      device: "auto" takes a GPU where there is one, and spreads what does not fit over all of them and the CPU (the
        plan is logged then); a name, as "cuda:1"; or what `rs.plan` gives.
      revision: A branch, tag or commit on the hub.
      tokenizer: For a model in memory: its fast tokenizer. For named tensors it may be left out, and token ids run. A
        directory or the hub has its own.
      memory_bytes: What its sweeps may take for activations where they are not told otherwise; None is a quarter of
        what is free.
    Raises:
      ModelNotFound, BadCheckpoint, UnsupportedModel, BadTokenizer, BadChatTemplate, BadArgument, TooLarge: Each says
        what to do.
    Holds:
      Logits and every residual stream equal transformers' within 1e-5 of the position's largest entry, in float32.
    """
    if memory_bytes is not None:
        memory_bytes = read_memory_bytes(memory_bytes)
    if not isinstance(source, (str, Path, nn.Module, Mapping)):
        raise BadArgument(
            f"{source!r} was given as a model.",
            "Give a directory, a Hugging Face id, a transformers model, or named tensors.",
        )
    keep_freed_memory()
    if isinstance(source, nn.Module):
        if config is not None:
            raise BadArgument("A model in memory has its own config.", "Leave config out, or give its state_dict.")
        _check_memory(source, dtype)
        return Model(load_memory(source, tokenizer), memory_bytes)
    if config is not None:
        return Model(load_state_dict(source, config, tokenizer, dtype=dtype, device=device), memory_bytes)
    if isinstance(source, Mapping):
        raise BadArgument("A state_dict was given, and no config.", "Load it with config=rs.Config(...).")
    if tokenizer is not None:
        raise BadArgument(f"A tokenizer was given for {str(source)!r}, which has its own.", "Leave it out.")
    return Model(load_files(source, dtype=dtype, device=device, revision=revision), memory_bytes)


def _check_memory(source: nn.Module, dtype: str) -> None:
    """Refuse a module that says nothing of itself, and another dtype than its own."""
    if not callable(getattr(getattr(source, "config", None), "to_dict", None)):
        raise UnsupportedModel(
            f"A {type(source).__name__} was given, which has no config as transformers models have.",
            "Give a causal language model of transformers, or name any module's sites with rs.wrap.",
        )
    own = next(source.parameters()).dtype
    if choose_dtype(dtype) != own and dtype != "float32":  # which nobody needs to have asked for
        raise BadArgument(
            f"dtype={dtype!r} was asked for of a model in memory, which is {str(own).removeprefix('torch.')}.",
            f"Leave it out, or give model.to(torch.{dtype}).",
        )


class Model:
    """A language model, its sites, and what runs on it.

    Attributes:
      name: Short, for people.
      source: The Python that loads it again; None for a model that was handed over in memory.
      revision: The commit of the hub's repository that it is of, if it is of one.
      memory_bytes: What sweeps may take; None is a quarter of what is free.
    """

    def __init__(self, loaded: Loaded, memory_bytes: int | None = None) -> None:
        self.transformer = loaded.transformer
        self.tokenizer = loaded.tokenizer
        self.chat_template = loaded.chat_template
        self.name = loaded.name
        self.source = loaded.source
        self.known_as = loaded.known_as
        self.revision = loaded.revision
        self.memory_bytes = memory_bytes

    @property
    def config(self) -> Config:
        """Facts of the model."""
        return self.transformer.config

    @property
    def python(self) -> tuple[str, ...]:
        """The lines of Python that load it again, with which those of every result of it begin."""
        return (
            "import residscope as rs",
            "",
            f"model = {self.source or 'rs.load(...)  # a model that was handed over in memory'}",
        )

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Every site, in the order in which they are computed."""
        return list_sites(self.config.n_layers, self.config.absent)

    @cached_property
    def last_site(self) -> Site:
        """What the unembedding reads."""
        return Site("ln_final") if self.config.norm else Site("resid_post", self.config.n_layers - 1)

    @cached_property
    def weights(self) -> Weights:
        """Weights by the field's names, with named axes."""
        return Weights(self.transformer)

    @cached_property
    def _depths(self) -> dict[Site, int]:
        return {site: depth for depth, site in enumerate(self.sites)}

    @cached_property
    def _found(self) -> dict[str | Site, Site]:
        return {}

    def find(self, name: str | Site) -> Site:
        """The site of that name; TransformerLens's names are read too.

        Raises:
          UnknownSite: Lists those there are.
        """
        if name not in self._found:
            self._found[name] = find_site(name, self.sites)
        return self._found[name]

    def place(self, site: Site) -> Site:
        """Where a site's value is computed and kept: the stream after a layer is the stream before the next."""
        if site.kind == "resid_post" and site.layer is not None and site.layer + 1 < self.config.n_layers:
            return Site("resid_pre", site.layer + 1)
        same = KINDS[site.kind].same_as
        return Site(same, site.layer) if same else site

    def depth(self, place: Site) -> int:
        """How many sites are computed before a place."""
        return self._depths[place]

    def anchor(self, place: Site) -> Site:
        """Where a token has to come in for a norm's scale to be changed: what the norm reads is computed from there."""
        if not place.kind.endswith("_scale"):
            return place
        stream = Site("resid_pre" if self.config.parallel else "resid_mid", place.layer)
        anchors = {
            "ln1_scale": Site("resid_pre", place.layer),
            "q_norm_scale": Site("resid_pre", place.layer),
            "k_norm_scale": Site("resid_pre", place.layer),
            "attn_norm_post_scale": Site("attn_raw", place.layer),
            "ln2_scale": stream,
            "mlp_norm_post_scale": Site("mlp_raw", place.layer),
            "ln_final_scale": Site("resid_post", self.config.n_layers - 1),
        }
        return anchors.get(place.kind, place)

    def last_attention(self, place: Site) -> int:
        """The last layer whose attention a place depends on; -1 for none."""
        if place.layer is None:
            return -1 if place.kind.endswith("embed") else self.config.n_layers - 1
        order = list(KINDS)
        return place.layer if order.index(place.kind) > order.index("q_rot") else place.layer - 1

    def axis_size(self, axis: str, n_positions: int) -> int:
        """How long a site's axis is, for texts of so many positions."""
        config = self.config
        sizes = {"head": config.n_heads, "kv_head": config.n_kv_heads, "d_head": config.d_head, "d_mlp": config.d_mlp}
        sizes |= {"d_model": config.d_model, "d_vocab": config.d_vocab, "key": n_positions}
        return sizes[axis]

    def layer_after(self, stream: Site) -> int:
        """The first layer that reads this place of the stream."""
        return self.config.n_layers if stream.kind == "resid_post" else stream.layer or 0

    @property
    def whole(self) -> "Model":
        """All of it; of a module that is read by hooks there is none."""
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return self.transformer.embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where tokens come in and logits are made; of a model that is spread, its blocks may be elsewhere."""
        return self.transformer.device_of(None)

    def device_of(self, place: Site) -> torch.device:
        """Where a site's value is: with the layer that computes it; the stream with the layer that reads it."""
        return self.transformer.device_of(None if place.kind == "resid_post" else place.layer)

    @cached_property
    def devices(self) -> tuple[torch.device, ...]:
        """Where any of it is, `device` first."""
        return tuple(dict.fromkeys(self.transformer.device_of(i) for i in (None, *range(self.config.n_layers))))

    @cached_property
    def shapes(self) -> "Model":
        """The same on torch's meta device: tensors have shapes and no numbers, so that work can be measured before."""
        return Model(Loaded(make_shapes(self.config, self.dtype), self.tokenizer, None, self.name, None))

    @cached_property
    def n_parameters(self) -> int:
        """Weights, tied ones once."""
        return sum(parameter.numel() for parameter in self.transformer.parameters())

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the config, of every byte of the weights, and of how texts become tokens."""
        found = hashlib.blake2b(f"{self.config} {self.tokenizer.fingerprint}".encode(), digest_size=16)
        for name, parameter in self.transformer.named_parameters():
            found.update(name.encode())
            found.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return found.hexdigest()

    @cached_property
    def weights_hash(self) -> str | None:
        """A hash of the first numbers of every weight's first row in bfloat16: the same of one checkpoint in float32,
        float64 and bfloat16, and so quick that every direction has it. None in float16, which rounds otherwise.
        """
        if self.dtype == torch.float16:
            return None
        found = hashlib.blake2b(digest_size=8)
        for name, parameter in self.transformer.named_parameters():
            first = parameter.detach()[(0,) * (parameter.ndim - 1)][:_HASHED].cpu().to(torch.bfloat16).contiguous()
            found.update(f"{name} {tuple(parameter.shape)}".encode())
            found.update(first.view(torch.uint8).numpy().data)
        return found.hexdigest()

    @property
    def provenance(self) -> dict[str, Any]:
        """What files say of the model: `model`, its name, `source`, `revision` and `weights`, their hash."""
        facts = {"source": self.source, "revision": self.revision, "weights": self.weights_hash}
        return {"model": self.name, **facts}

    def tokenize(self, texts: Texts, bos: bool | None = None) -> Tokens:
        """Texts as one padded batch of tokens.

        Args:
          texts: One text, a list, a Path to a file of texts, or token ids: [batch pos], or a list for each text.
          bos: Whether to put the beginning-of-sequence token in front; None does as the model's tokenizer does.
        Raises:
          EmptyPrompt, PromptTooLong, BadTexts: As the text is.
        """
        return tokenize(texts, self.tokenizer, n_ctx=self.config.n_ctx, bos=bos)

    def chat(self, messages: Messages, *, reply: bool = True, **variables: Any) -> Tokens:
        """A chat as the model's own template writes it.

        Args:
          messages: One list of `{"role": "user", "content": "..."}`, or a list of such lists.
          reply: Whether the beginning of the assistant's answer is written too, so that the model gives it.
          **variables: What else the template reads, as `enable_thinking=False`.
        Returns:
          Tokens with `roles` and `in_template`. A token that holds any of a message's text is the message's. Markup
          belongs to the message it is written around, the beginning of the answer to "assistant", and what is written
          whoever speaks (the beginning-of-sequence token, a system prompt of the template's own) to None.
        Raises:
          BadChatTemplate: The model has none, or it fails.
          BadMessages: They are no chat, or the template refuses them and says why.
          EmptyPrompt, PromptTooLong, BadTexts: As the text is.
        Holds:
          The ids are those of transformers' `apply_chat_template`: a special token that a message spells out, as
          `<|im_end|>`, is that special token, found by `tokens.special & ~tokens.in_template`. A message's own
          tokens together read as its text, or as the part that the template left of it; where the template
          rewrites a text, all of it is markup.
        """
        from residscope.transformer.chat import encode_chats  # Jinja's tenth of a second, which texts do not need

        return encode_chats(
            messages,
            self.chat_template,
            self.tokenizer,
            n_ctx=self.config.n_ctx,
            reply=reply,
            variables=variables,
        )

    def corpus(self, texts: Texts) -> Corpus:
        """Much text in batches, each text cut at the context."""
        return read_corpus(texts, self.tokenizer, self.config.n_ctx)

    def single_token(self, text: str) -> int:
        """The id of the one token that `text` is.

        Raises:
          UnknownToken: It is none or several; the message shows the pieces.
        """
        if not isinstance(text, str):
            raise UnknownToken(f"{text!r} is no text.", "Give a string, as ' the'.")
        return self.tokenizer.single_token(text)

    def run(
        self,
        texts: Texts,
        keep: str | Site | Iterable[str | Site] = (),
        *,
        edits: Edit | Sequence[Edit] = (),
        strict: bool = False,
    ) -> Run:
        """Run texts through the model, as far as what is kept needs.

        Args:
          texts: One text, a list, a Path to a file of texts, token ids [batch pos], or `Tokens`.
          keep: Sites to keep from this pass; a kind means all its layers, "all" all sites but `head_out`.
          edits: What to change on the way: in the model's order, at one site in the list's.
          strict: Refuse to compute later what was not kept.
        Raises:
          UnknownSite: The model has none of that name.
          BadEdit: An edit does not fit the site, the texts or the model; nothing has run then.
          EmptyPrompt, PromptTooLong, BadTexts: As the text is.
        Holds:
          Every text's numbers equal those of running it alone.
        """
        return Run(self, texts, keep, edits=as_edits(edits), strict=strict)

    def sweep(
        self,
        base: Run,
        edits: Sequence[EditSet],
        metric: Metric,
        *,
        memory_bytes: int | None = None,
        method: Literal["exact", "attribution"] = "exact",
        integrated_gradients: int = 0,
        qk_fix: bool = False,
        n_sample: int = 40,
        seed: int = 0,
    ) -> Sweep:
        """Run many sets of edits of one run, and read a metric off each; only what changes is computed again.

        Args:
          base: The run that is edited. It keeps what the sweep needs of it, for the next one. It may be edited itself:
            its own edits come first.
          edits: Each item one edit, or several made together: in the model's order, at one site in the list's.
          metric: What is read.
          memory_bytes: At most so much for activations at a time, beside what the base run keeps; None is the
            model's own limit, else a quarter of what is free.
          method: "attribution" estimates to first order: what an edit changes, times the gradient there.
          integrated_gradients: For that: the mean of the gradient at so many points on the way; 0 is at the base run.
          qk_fix: For that: edits of queries and keys are carried through the softmax exactly, whose saturation hides
            effects from gradients.
          n_sample: For that: how many sets are computed exactly too, half at random, half the largest estimates.
          seed: For that: of the random half.
        Returns:
          A `Sweep`; of estimates an `Estimate`, with its error on the sample.
        Raises:
          BadEdit, UnknownSite, UnknownPosition, BadMetric: Something does not fit; found before anything runs.
          TooLarge: A single set needs more memory than that.
          Cancelled: Somebody cancelled; the model is as it was.
        Holds:
          Equal to `metric(model.run(texts, edits=[*base.edits, *set]))` of every set, to 1e-10 in float64; an estimate
          is, where the metric is linear in the site.
        Source: Attribution patching: Nanda 2023; with `qk_fix`, AtP*: Kramár et al. 2024.
        """
        if not isinstance(base, Run):
            raise BadArgument(f"A {type(base).__name__} was given as the base run.", "Give what model.run gives.")
        if base.model is not self:
            raise BadArgument("The base run is of another model.", "Run the texts through this one.")
        check_metric(metric)
        if read_choice("method", method, ("exact", "attribution")) == "exact":
            return sweep(base, edits, metric, memory_bytes=memory_bytes)
        return estimate(
            base,
            edits,
            metric,
            memory_bytes=memory_bytes,
            integrated_gradients=integrated_gradients,
            qk_fix=qk_fix,
            n_sample=n_sample,
            seed=seed,
        )

    def generate(
        self,
        texts: Texts,
        *,
        n_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        edits: Edit | Sequence[Edit] = (),
    ) -> Tokens:
        """Write on.

        Args:
          texts: Prompts.
          n_tokens: At most so many new ones for each; an end-of-sequence token ends a text.
          temperature: 0 takes the most probable token; above, tokens are drawn.
          seed: Of the draws; each text has its own.
          edits: Of what is computed. Their positions are the prompt's; None is the prompt and all new tokens, "new" the
            new ones only. Numbers for each text need one text at a time, and a function sees one at a time.
        Returns:
          Prompts and new tokens; `.texts` is what they say, and after a chat the new ones are the assistant's.
        Raises:
          BadArgument: A number is none, or below what it may be.
          PromptTooLong: Prompt and new tokens do not fit the context.
          BadEdit: An edit does not fit; nothing has been written then.
        Holds:
          Every greedy token is the most probable of a full run, with the edits, of what stands before it.
        """
        n_tokens, seed = read_whole("n_tokens", n_tokens), read_seed(seed)
        if not is_finite(temperature) or temperature < 0:
            raise BadArgument(f"temperature={temperature!r} was asked for.", "Give a number from 0 on.")
        prompts = self.tokenize(texts)
        longest = int(prompts.n_tokens.max()) + n_tokens
        if longest > self.config.n_ctx:
            raise PromptTooLong(
                f"Prompt and new tokens are {longest}, and the model's context is {self.config.n_ctx}.",
                f"Ask for {longest - self.config.n_ctx} fewer.",
            )
        written = write_on(self, prompts, n_tokens=n_tokens, temperature=temperature, seed=seed, edits=as_edits(edits))
        return prompts.write_on(written)

    def __repr__(self) -> str:
        c, where = self.config, ", ".join(map(str, self.devices))
        return f"Model({self.name}: {c.family}, {c.n_layers} layers of {c.d_model}, {self.dtype}, {where})"


def check_model(model: object) -> None:
    """Refuse what is no model.

    Raises:
      BadArgument: It is none.
    """
    if not isinstance(model, Model):
        raise BadArgument(f"A {type(model).__name__} was given as a model.", "Give what rs.load gives.")
