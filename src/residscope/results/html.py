"""A result as one HTML file that opens without a network."""

import base64
import gzip
from html import escape

from residscope.results.static_files import read_static

# Nothing is fetched: not by us, and not by anything a text might smuggle in.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def render_html(title: str, data: bytes) -> str:
    """A whole page.

    Args:
      title: Of the window.
      data: The result's bytes, its view named in the payload.
    """
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>{read_static("saved.css")}</style>
<main id="view"></main>
<script type="application/gzip" id="data">{base64.b64encode(gzip.compress(data, mtime=0)).decode()}</script>
<script type="module">{read_static("saved.js")}</script>
</html>
"""
