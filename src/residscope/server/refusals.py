"""What is said of a request whose words or numbers are none that its route knows."""

from typing import Any

_HINTS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "Give a whole number."),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "Give a number."),
    **dict.fromkeys(("bool_type", "bool_parsing"), "Give true or false."),
    **dict.fromkeys(("list_type", "tuple_type"), "Give a list."),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "Give an object."),
    "string_type": "Give a text.",
    "positions": 'Give "last", "all" or a list of whole numbers.',
    "greater_than_equal": "Give one from {ge:g} on.",
    "greater_than": "Give more than {gt:g}.",
    "less_than_equal": "Give {le} at most.",
    "literal_error": "Choose {expected}.",
    "union_tag_invalid": "Choose as {discriminator} one of {expected_tags}.",
    "union_tag_not_found": "Say {discriminator}.",
    "too_short": "Give {min_length} at least.",
    "too_long": "Give {max_length} at most.",
    "extra_forbidden": "Nothing has that name here: leave it out.",
}
_LONGEST = 80  # of what was given, as it is shown


def describe_refusal(error: dict[str, Any]) -> dict[str, str]:
    """One of pydantic's errors as what was asked and what to do.

    Args:
      error: As `errors()` lists them; its place begins with the part of the request, as "body".
    """
    name = ".".join(map(str, error["loc"][1:]))
    if error["type"] == "json_invalid":
        return {"message": f"The request is no JSON: {error['ctx']['error']}.", "hint": "Send JSON."}
    if error["type"] == "missing":
        return {"message": f"{name or 'The body of the request'} is missing.", "hint": "Give it."}
    shown = repr(error["input"])
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]} ..."
    hint = _HINTS.get(error["type"], "/api/openapi.json says what there is.").format(**error.get("ctx", {}))
    return {"message": f"{name or 'The request'}={shown} was asked for.", "hint": hint}
