"""The model as a user holds it: tokens in, runs out."""

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from residscope.errors import BadArgument, ModelNotFound, PromptTooLong
from residscope.running.progress import report
from residscope.running.run import Run
from residscope.running.texts import Corpus, Texts, read_corpus, tokenize
from residscope.sites import Site, list_sites
from residscope.transformer.config import Config
from residscope.transformer.loading import Loaded, load_files, load_memory
from residscope.transformer.tokens import Tokens, stack
from residscope.transformer.transformer import Frame, Past, Watch


def load(
    source: str | Path | nn.Module,
    *,
    dtype: str = "float32",
    device: str = "auto",
    revision: str | None = None,
    tokenizer: Any = None,
) -> "Model":
    """Load a model.

    Args:
      source: A local directory (config.json, safetensors, a tokenizer), a Hugging Face id, or a transformers model in
        memory, whose weights are then shared and whose dtype and device stay.
      dtype: "float32", "bfloat16", "float16" or "float64".
      device: "auto" takes a GPU where there is one.
      revision: A branch, tag or commit on the hub.
      tokenizer: For a model in memory: its fast tokenizer.
    Raises:
      ModelNotFound, BadCheckpoint, UnsupportedModel, BadTokenizer, BadArgument: Each says what to do.
    Holds:
      Logits and every residual stream equal transformers' within 1e-5 of the position's largest entry, in float32.
    """
    if isinstance(source, nn.Module):
        return Model(load_memory(source, tokenizer))
    if str(source) == "demo":
        raise ModelNotFound(
            "There is no bundled model yet.", "Name a directory that holds a model, or a Hugging Face id."
        )
    return Model(load_files(source, dtype=dtype, device=device, revision=revision))


class Model:
    """A language model, its sites, and what runs on it.

    Attributes:
      name: Short, for people.
      source: The Python that loads it again; None for a model that was handed over in memory.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.transformer = loaded.transformer
        self.tokenizer = loaded.tokenizer
        self.name = loaded.name
        self.source = loaded.source

    @property
    def config(self) -> Config:
        """Facts of the model."""
        return self.transformer.config

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Every site, in the order in which they are computed."""
        return list_sites(self.config.n_layers)

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return self.transformer.embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where weights and activations are."""
        return self.transformer.embedding.weight.device

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

    def tokenize(self, texts: Texts, bos: bool | None = None) -> Tokens:
        """Texts as one padded batch of tokens.

        Args:
          texts: One text, a list, a Path to a file of texts, or token ids: [batch pos], or a list for each text.
          bos: Whether to put the beginning-of-sequence token in front; None does as the model's tokenizer does.
        Raises:
          EmptyPrompt, PromptTooLong, BadTexts: As the text is.
        """
        return tokenize(texts, self.tokenizer, n_ctx=self.config.n_ctx, bos=bos)

    def corpus(self, texts: Texts) -> Corpus:
        """Much text in batches, each text cut at the context."""
        return read_corpus(texts, self.tokenizer, self.config.n_ctx)

    def single_token(self, text: str) -> int:
        """The id of the one token that `text` is.

        Raises:
          UnknownToken: It is none or several; the message shows the pieces.
        """
        return self.tokenizer.single_token(text)

    def run(self, texts: Texts, keep: str | Site | Iterable[str | Site] = (), *, strict: bool = False) -> Run:
        """Run texts through the model, as far as what is kept needs.

        Args:
          texts: One text, a list, a Path to a file of texts, token ids [batch pos], or `Tokens`.
          keep: Sites to keep from this pass; a kind means all its layers, "all" all sites.
          strict: Refuse to compute later what was not kept.
        Raises:
          UnknownSite: The model has none of that name.
          EmptyPrompt, PromptTooLong, BadTexts: As the text is.
        Holds:
          Every text's numbers equal those of running it alone.
        """
        return Run(self, texts, keep, strict=strict)

    def generate(self, texts: Texts, *, n_tokens: int, temperature: float = 0.0, seed: int = 0) -> Tokens:
        """Write on.

        Args:
          texts: Prompts.
          n_tokens: At most so many new ones for each; an end-of-sequence token ends a text.
          temperature: 0 takes the most probable token; above, tokens are drawn.
          seed: Of the draws; each text has its own.
        Returns:
          Prompts and new tokens; `.texts` is what they say.
        Raises:
          PromptTooLong: Prompt and new tokens do not fit the context.
        Holds:
          Every greedy token is the most probable of a full run of what stands before it.
        """
        if n_tokens < 0 or temperature < 0:
            raise BadArgument(
                f"n_tokens={n_tokens} and temperature={temperature} were asked for.", "Neither is below zero."
            )
        prompts = self.tokenize(texts).lists()
        longest = max(map(len, prompts)) + n_tokens
        if longest > self.config.n_ctx:
            raise PromptTooLong(
                f"Prompt and new tokens are {longest}, and the model's context is {self.config.n_ctx}.",
                f"Ask for {longest - self.config.n_ctx} fewer.",
            )
        return stack([self._write_on(prompt, n_tokens, temperature, seed) for prompt in prompts], self.tokenizer)

    @torch.no_grad()
    def _write_on(self, prompt: list[int], n_tokens: int, temperature: float, seed: int) -> list[int]:
        generator = torch.Generator(self.device).manual_seed(seed)
        ids, past = list(prompt), Past()
        for step in range(n_tokens):
            report(step, n_tokens, "writing")
            rotary = self.config.rotary
            if rotary and rotary.regime(len(ids)) != rotary.regime(max(past.n_tokens, 1)):
                past = Past()  # the angles of all positions changed
            logits = self._last_logits(ids, past)
            if temperature:
                chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
            else:
                chosen = logits.argmax(-1)
            ids.append(int(chosen))
            if ids[-1] in self.tokenizer.eos_ids:
                break
        return ids

    def _last_logits(self, ids: list[int], past: Past) -> Tensor:
        new, watch = torch.tensor([ids[past.n_tokens :]], device=self.device), Watch()
        frame = Frame(
            self.config,
            torch.tensor([len(ids)]),
            n_positions=new.shape[1],
            device=self.device,
            dtype=self.dtype,
            past=past,
        )
        x = self.transformer.embed(new, frame, watch)
        for block in self.transformer.blocks:
            x = block(x, frame, watch)
        return self.transformer.unembed(self.transformer.norm_final(x[0, -1], watch), watch)

    def __repr__(self) -> str:
        c = self.config
        return f"Model({self.name}: {c.family}, {c.n_layers} layers of {c.d_model}, {self.dtype}, {self.device})"
