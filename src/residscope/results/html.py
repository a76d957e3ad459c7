"""A result as one HTML file that opens without a network."""

import base64
import gzip
from html import escape

from residscope.results.static_files import read_static

# Nothing is fetched: not by us, and not by anything a text might smuggle in.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def render_html(title: str, *results: bytes) -> str:
    """A whole page.

    Args:
      title: Of the window.
      results: The bytes of each, its view named in the payload; they stand one below the other.
    """
    packed = (base64.b64encode(gzip.compress(one, mtime=0)).decode() for one in results)
    data = "\n".join(f'<script type="application/gzip" class="data">{one}</script>' for one in packed)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>{read_static("saved.css")}</style>
<main id="view"></main>
{data}
<script type="module">{read_static("saved.js")}</script>
</html>
"""
