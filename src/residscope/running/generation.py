"""Writing on, token by token, with kept keys and values, and edits of what is computed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from residscope.running.changes import Change
from residscope.running.edits import Edit
from residscope.running.progress import report
from residscope.running.run import Recording
from residscope.transformer.tokens import Tokens, stack
from residscope.transformer.transformer import Past

if TYPE_CHECKING:
    from residscope.running.model import Model


def write_on(
    model: "Model", prompts: Tokens, *, n_tokens: int, temperature: float, seed: int, edits: Sequence[Edit]
) -> list[list[int]]:
    """The ids of each prompt and of what follows it. See `Model.generate`."""
    writings = [
        _Writing(model, stack([ids], model.tokenizer), n_tokens, [edit.of_text(text, prompts) for edit in edits])
        for text, ids in enumerate(prompts.lists())
    ]
    return [writing.write(temperature, seed + 1_000_003 * text) for text, writing in enumerate(writings)]


class _Writing:
    """One prompt, written on under edits; that they fit is seen before anything is written."""

    def __init__(self, model: "Model", prompt: Tokens, n_tokens: int, edits: Sequence[Edit]) -> None:
        self.model, self.prompt, self.n_tokens, self.edits = model, prompt, n_tokens, edits
        ids, n_prompt = prompt.lists()[0], prompt.ids.shape[1]
        n_longest = n_prompt + n_tokens - 1
        longest = stack([[*ids, *[ids[-1]] * (n_longest - n_prompt)]], model.tokenizer)
        self.ready: list[list[Change]] = []
        for edit in edits:
            pos = edit.arguments.get("pos")
            if isinstance(pos, str) and pos == "new":
                self.ready.append(edit.at(range(n_prompt, n_longest)).prepare(model, longest) if n_tokens > 1 else [])
            else:  # at the prompt's positions, or at all
                self.ready.append(edit.prepare(model, longest if pos is None else prompt))

    @torch.no_grad()
    def write(self, temperature: float, seed: int) -> list[int]:
        """The ids of the prompt and of what follows it."""
        model, ids, past = self.model, self.prompt.lists()[0], Past()
        generator = torch.Generator(model.device).manual_seed(seed)
        for step in range(self.n_tokens):
            report(step, self.n_tokens, "writing", torch.tensor(ids))
            changes = self.changes(ids)
            if any(
                rotary and rotary.regime(len(ids)) != rotary.regime(max(past.n_tokens, 1))
                for rotary in (model.config.rotary, model.config.rotary_windowed)
            ) or any(change.function for change in changes):
                past = Past()  # the angles of all positions changed, or a function is to see its site whole
            logits = _last_logits(model, ids, past, changes)
            if temperature:
                chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
            else:
                chosen = logits.argmax(-1)
            ids.append(int(chosen))
            if ids[-1] in model.tokenizer.eos_ids:
                break
        return ids

    def changes(self, ids: Sequence[int]) -> list[Change]:
        """The edits when the text has come so far; a function takes a site as large as it is now."""
        found: list[Change] = []
        for edit, ready in zip(self.edits, self.ready, strict=True):
            whole = any(change.function for change in ready)
            found += edit.prepare(self.model, stack([ids], self.model.tokenizer)) if whole else ready
        return [_fit(change, len(ids)) for change in found]


def _fit(change: Change, n_keys: int) -> Change:
    """The same for so many keys: fewer than there will be, or more than the prompt has, which its queries never see."""
    if change.shift is None or "key" not in change.place.axes:
        return change
    return replace(change, shift=pad(change.shift, (0, n_keys - change.shift.shape[-1])))


def _last_logits(model: "Model", ids: list[int], past: Past, changes: Sequence[Change]) -> Tensor:
    new = torch.tensor([ids[past.n_tokens :]], device=model.device)
    step = Recording(
        model.config,
        torch.tensor([len(ids)]),
        n_positions=new.shape[1],
        device=model.device,
        dtype=model.dtype,
        past=past,
        changes=changes,
    )
    transformer = model.transformer
    x = transformer.norm_final(transformer(transformer.embed(new, step), step), step)
    return transformer.cap_logits(transformer.unembedding(x[0, -1]))
