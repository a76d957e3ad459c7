"""Gemma 3 with a vision tower: its language model alone, which is Gemma 3."""

from dataclasses import replace

from residscope.transformer.config import Config, Keys
from residscope.transformer.families import gemma3_text
from residscope.transformer.families.family import Family


def read_config(keys: Keys, source: str) -> Config:
    keys.ignore("vision_config", "mm_tokens_per_image", "boi_token_index", "eoi_token_index", "image_token_index")
    text = Keys(keys["text_config"], source)
    text.only("is_encoder_decoder", False)
    config = gemma3_text.read_config(text, source)
    text.finish()
    return replace(config, family="gemma3", tied=keys.get("tie_word_embeddings", True))


FAMILY = Family(
    model_type="gemma3",
    prefix="model.language_model.",
    read_config=read_config,
    modules=gemma3_text.MODULES,
    example={
        "text_config": {
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        }
    },
    buffers=(*gemma3_text.FAMILY.buffers, r"(model\.)?(vision_tower|multi_modal_projector)\..*"),
    other_prefixes=("language_model.model.", "model."),
    heads=("lm_head.weight", "language_model.lm_head.weight"),
)
