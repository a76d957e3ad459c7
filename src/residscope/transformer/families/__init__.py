"""Families of models: each a file that reads a config and says where each tensor lies."""

from residscope.transformer.families import gpt2, llama
from residscope.transformer.families.family import Family

FAMILIES: dict[str, Family] = {family.model_type: family for family in (gpt2.FAMILY, llama.FAMILY)}
