"""Families of models: each a file that reads a config and says where each tensor lies."""

from residscope.transformer.families import (
    bloom,
    gemma,
    gemma2,
    gemma3,
    gemma3_text,
    gpt2,
    gpt_neo,
    gpt_neox,
    gptj,
    llama,
    mistral,
    olmo2,
    opt,
    phi,
    phi3,
    qwen2,
    qwen3,
)
from residscope.transformer.families.family import Family

FAMILIES: dict[str, Family] = {
    module.FAMILY.model_type: module.FAMILY
    for module in (
        *(gpt2, gpt_neo, gptj, gpt_neox, opt, bloom),
        *(llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3_text, gemma3, phi, phi3, olmo2),
    )
}
