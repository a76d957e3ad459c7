"""Results: frames, JSON, files, HTML, code."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save

import residscope as rs
from residscope.axes import AXES
from residscope.errors import BadResult, ViewsNotBuilt
from residscope.results.widget import make_widget

TEXTS = ["Once <img src=x onerror=alert(1)> </script>", "日"]


def make_all(model: rs.Model) -> dict[str, rs.Result]:
    basis = rs.pca(model, rs.demo.texts, "resid_pre.3", n=4)
    run = model.run(TEXTS)
    return {
        "basis": basis,
        "projection": rs.project(run, basis[2]),
        "projections": rs.project(run, basis),
        "river": rs.river(run, basis[2]),
        "vocabulary": rs.vocabulary(run),
    }


@pytest.fixture(scope="module")
def results(stories: rs.Model) -> dict[str, rs.Result]:
    return make_all(stories)


NAMES = ["basis", "projection", "projections", "river", "vocabulary"]


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_result_opens_as_it_was(results: dict[str, rs.Result], name: str, tmp_path: Path) -> None:
    result = results[name]
    result.save(tmp_path / "saved")
    again = rs.open(tmp_path / "saved")
    assert type(again) is type(result)
    assert again.to_json() == result.to_json()
    assert torch.equal(again.values.nan_to_num(9), result.values.nan_to_num(9))
    pd.testing.assert_frame_equal(again.to_frame(), result.to_frame())


@pytest.mark.parametrize("name", NAMES)
def test_axes_name_the_values(results: dict[str, rs.Result], name: str) -> None:
    result = results[name]
    assert len(result.axes) == result.values.ndim
    assert set(result.axes) <= AXES.keys()
    parsed = json.loads(result.to_json())
    assert parsed["axes"] == list(result.axes)
    assert parsed["settings"] == dict(result.settings)


def test_frames_have_a_row_a_token_and_no_padding(results: dict[str, rs.Result]) -> None:
    frame = results["projection"].to_frame()
    assert list(frame.columns) == ["batch", "pos", "token", "value"]
    assert frame[frame["batch"] == 1]["token"].tolist() == ["<s>", " ", "\\xe6", "\\x97", "\\xa5"]
    assert not frame["value"].isna().any()
    values = results["projection"].values
    for row in frame.itertuples():
        assert row.value == values[row.batch, row.pos].item()  # type: ignore[index]


def test_json_has_null_where_padded(results: dict[str, rs.Result]) -> None:
    values = json.loads(results["projection"].to_json())["values"]
    assert values[1][5] is None
    np.testing.assert_allclose(values[0], results["projection"].values[0])


@pytest.mark.parametrize("name", ["projection", "river"])
def test_python_makes_the_same_result(results: dict[str, rs.Result], name: str) -> None:
    code = results[name].as_python()
    *lines, last = code.strip().split("\n")
    space: dict[str, Any] = {}
    exec("\n".join(lines), space)
    again = eval(last, space)
    torch.testing.assert_close(again.values, results[name].values, rtol=0, atol=1e-5, equal_nan=True)


class Scripts(HTMLParser):
    """Every element of a page, and where it points."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.mark.parametrize("name", ["projection", "river"])
def test_html_is_one_file_that_points_nowhere(results: dict[str, rs.Result], name: str, tmp_path: Path) -> None:
    results[name].save_html(tmp_path / "page.html")
    content = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Scripts()
    page.feed(content)
    assert page.addresses == []
    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    assert "onerror=alert" not in content


def test_html_holds_the_bytes_that_the_view_reads(results: dict[str, rs.Result]) -> None:
    for name in ("projection", "vocabulary"):
        found = re.search(r'class="data">([^<]+)<', results[name].to_html())
        assert found
        assert gzip.decompress(base64.b64decode(found[1])) == results[name].to_bytes(torch.float32)


def test_results_without_a_view_show_a_table(results: dict[str, rs.Result]) -> None:
    shown = results["projections"]._repr_mimebundle_()
    assert "<table" in shown["text/html"]
    with pytest.raises(BadResult, match="no view of its own"):
        results["projections"].to_html()


@pytest.mark.parametrize("name", ["projection", "river"])
def test_a_notebook_gets_the_view_with_the_data(results: dict[str, rs.Result], name: str) -> None:
    data = results[name].to_bytes(torch.float32)
    widget = make_widget(str(results[name].view), data)
    assert isinstance(widget, anywidget.AnyWidget)
    assert widget.data == data
    assert "render" in widget._esm
    bundle = results[name]._repr_mimebundle_()
    shown = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in shown


def test_views_keep_their_own_style_in_one_notebook() -> None:
    coloured, river = make_widget("coloured_text", b""), make_widget("river", b"")
    assert coloured._anywidget_id != river._anywidget_id
    assert coloured._css != river._css


def test_html_of_hostile_text_keeps_it_as_text(results: dict[str, rs.Result]) -> None:
    shown = results["projections"]._repr_mimebundle_()["text/html"]
    assert "<img" not in shown


def test_views_that_are_not_built(
    results: dict[str, rs.Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("residscope.results.static_files.STATIC", tmp_path)
    with pytest.raises(ViewsNotBuilt, match="make build"):
        results["river"].to_html()


def test_files_that_are_no_result(tmp_path: Path) -> None:
    for content in (b"", b"{}", b"\x80\x04pickle"):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(BadResult, match="is no saved result"):
            rs.open(tmp_path / "file")
    with pytest.raises(BadResult, match="is no saved result"):
        rs.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "named",
    [
        "os:system",
        "residscope.results.result:open",
        "residscope.nothing:X",
        "residscope.__main__:main",
        "residscope.directions.pca:pca",
    ],
)
def test_files_cannot_name_other_code(results: dict[str, rs.Result], named: str, tmp_path: Path) -> None:
    payload = {**results["river"].payload(), "result": named}
    (tmp_path / "file").write_bytes(save({"values": torch.ones(1)}, metadata={"payload": json.dumps(payload)}))
    with pytest.raises(BadResult, match="is no saved result"):
        rs.open(tmp_path / "file")
