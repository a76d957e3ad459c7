"""A result's view in a notebook."""

from functools import cache

import anywidget
import traitlets

from residscope.results.static_files import read_static


class ViewWidget(anywidget.AnyWidget):  # type: ignore[misc]  # anywidget has no types
    """The view of one result. What a reader picks in it can be read here.

    Attributes:
      data: The result's bytes.
      picked: `{"text": 0, "pos": 4}`, `{"layer": 9, "head": 6}` or such; None where nothing is.
      units, centre, scale, chosen: As the view's controls stand; None for their defaults.
    """

    data = traitlets.Bytes().tag(sync=True)
    picked = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    units = traitlets.Unicode(allow_none=True, default_value=None).tag(sync=True)
    centre = traitlets.Unicode(allow_none=True, default_value=None).tag(sync=True)
    scale = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    chosen = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)


@cache
def _widget_class(view: str) -> type[ViewWidget]:
    parts = {"_esm": read_static(f"views/{view}.js"), "_css": read_static(f"views/{view}.css")}
    # A name of its own: a notebook keeps one style sheet for all widgets of one name.
    return type(f"ViewWidget_{view}", (ViewWidget,), parts)


def make_widget(view: str, data: bytes) -> ViewWidget:
    """The widget that shows `data` with the view of that name.

    Raises:
      ViewsNotBuilt: The view's module is missing.
    """
    return _widget_class(view)(data=data)
