"""Stories that another model writes, where the real ones are few."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from residscope.running.texts import SEPARATOR

_AT_ONCE, _N_TOKENS = 512, 500


def sample_stories(model: Path, into: Path, n_stories: int, seed: int) -> None:
    """Write stories that a model tells from nothing, separated as the corpora are.

    Args:
      model: A checkpoint's folder.
      into: The file; if it is there already, nothing is done.
      n_stories: How many, whole ones only.
      seed: Of the draws.
    """
    if into.is_file():
        return
    tokenizer, writer = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(seed)
    stories, n_at_once = list[str](), min(_AT_ONCE, 2 * n_stories)
    while len(stories) < n_stories:
        begin = torch.full((n_at_once, 1), writer.config.bos_token_id)
        ids = writer.generate(
            begin,
            do_sample=True,
            top_k=0,  # its own distribution, tail and all
            max_new_tokens=_N_TOKENS,
            eos_token_id=[writer.config.bos_token_id, writer.config.eos_token_id],  # its stories end where one begins
            pad_token_id=writer.config.eos_token_id,
        )
        for text in tokenizer.batch_decode(ids, skip_special_tokens=True):
            last = text.rfind(".")
            if last > 200:
                stories.append(text[: last + 1].strip())
        print(f"{len(stories)} of {n_stories} stories", flush=True)
    new = into.with_suffix(".new")
    new.write_text(f"\n{SEPARATOR}\n".join(stories[:n_stories]), encoding="utf-8")
    new.replace(into)
