"""Sums of directions, their files, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import residscope as rs
from residscope.direction import Direction
from residscope.directions.file import read_file
from residscope.errors import BadDirection, UnknownSite

NUMBER = st.floats(-10, 10).filter(lambda x: abs(x) > 1e-3)


@pytest.fixture(scope="module")
def basis(demo: rs.Model) -> rs.Basis:
    return rs.pca(demo, rs.demo.texts, "resid_pre.2")


def random_direction(seed: int, site: str = "resid_pre.1", *, centred: bool = True) -> rs.Direction:
    generator = torch.Generator().manual_seed(seed)
    vector, mean = torch.randn(2, 6, dtype=torch.float64, generator=generator)
    return rs.Direction.of(vector, site, f"d{seed}", mean=mean if centred else None)


def test_a_sum_is_read_as_the_sum_of_what_its_parts_read(demo: rs.Model, basis: rs.Basis) -> None:
    made = (0.7 * basis[0] + 0.3 * basis[4]).named("subject number")
    run = demo.run("Tom ran home. He was glad")
    parts = [rs.project(run, basis[i]).values for i in (0, 4)]
    length = (0.7**2 + 0.3**2) ** 0.5
    assert torch.allclose(rs.project(run, made).values, (0.7 * parts[0] + 0.3 * parts[1]) / length, atol=1e-4)
    assert made.name == "subject number"
    assert made.mean is not None
    assert torch.equal(made.mean, basis.mean)
    assert made.history["kind"] == "combination"
    assert [(one["weight"], one["name"]) for one in made.history["terms"]] == [
        (0.7, "PCA 0 of resid_pre.2"),
        (0.3, "PCA 4 of resid_pre.2"),
    ]


@given(st.lists(NUMBER, min_size=1, max_size=4), st.booleans())
def test_vector_and_offset_follow_the_convention(weights: list[float], centred: bool) -> None:
    parts = [random_direction(seed, centred=centred or seed % 2 == 0) for seed in range(len(weights))]
    total = weights[0] * parts[0]
    for weight, part in zip(weights[1:], parts[1:], strict=True):
        total = total + weight * part
    summed = sum(weight * part.vector for weight, part in zip(weights, parts, strict=True))
    assert isinstance(summed, torch.Tensor)
    length = float(summed.norm())
    assert torch.allclose(total.vector, summed / length, atol=1e-12)
    expected = sum(weight * part.offset for weight, part in zip(weights, parts, strict=True)) / length
    assert total.offset == pytest.approx(expected, abs=1e-9 * (1 + sum(map(abs, weights)) / length))


def test_sums_associate_and_a_name_makes_one_part() -> None:
    a, b, c = (random_direction(seed) for seed in range(3))
    left, right = (a + 2 * b) + 3 * c, a + (2 * b + 3 * c)
    assert torch.allclose(left.vector, right.vector, atol=1e-14)
    assert torch.allclose((2 * (a - b)).vector, (a - b).vector, atol=1e-14)
    assert torch.allclose((-(a - b)).vector, (b - a).vector, atol=1e-14)
    named = (a + 2 * b).named("n") + 3 * c
    assert torch.allclose(named.vector, rs.Direction.of((a + 2 * b).vector + 3 * c.vector, a.site).vector, atol=1e-14)
    assert (2 * a).name == a.name
    assert (-a).offset == pytest.approx(-a.offset)


def test_what_is_projected_out_is_gone() -> None:
    a, b, c = (random_direction(seed) for seed in range(3))
    rest = a.project_out(b, c)
    assert rest.cosine(b) == pytest.approx(0, abs=1e-12)
    assert rest.cosine(c) == pytest.approx(0, abs=1e-12)
    assert rest.cosine(a) > 0
    # What the offsets say is what the vectors say of any mean that all share.
    mean = torch.arange(6, dtype=torch.float64)
    a, b, c = (rs.Direction.of(one.vector, one.site, one.name, mean=mean) for one in (a, b, c))
    assert a.project_out(b, c).offset == pytest.approx(float(mean @ rest.vector))
    with pytest.raises(BadDirection, match="Nothing is left"):
        (a + b).project_out(a, b)


def test_an_orthonormal_basis_spans_the_same() -> None:
    given_ones = [random_direction(seed) for seed in range(4)]
    made = rs.orthonormalize(given_ones)
    vectors = torch.stack([one.vector for one in made])
    assert torch.allclose(vectors @ vectors.T, torch.eye(4, dtype=torch.float64), atol=1e-12)
    assert torch.equal(made[0].vector, given_ones[0].vector)
    for k in range(1, 5):
        span = torch.stack([one.vector for one in given_ones[:k]])
        assert torch.allclose(span @ vectors[:k].T @ vectors[:k], span, atol=1e-12)
    with pytest.raises(BadDirection, match="number 2, lies in the span"):
        rs.orthonormalize([*given_ones[:2], given_ones[0] + given_ones[1]])


def test_sites_are_not_mixed_unless_it_is_said() -> None:
    a, b = random_direction(0), random_direction(1, "resid_pre.3")
    with pytest.raises(BadDirection, match=r"d0 lives at resid_pre.1, and d1 at resid_pre.3"):
        a + b
    moved = b.at("resid_pre.1")
    assert (moved.name, moved.mean, moved.history["moved_from"]) == ("d1, at resid_pre.1", None, "resid_pre.3")
    assert str((a + moved).site) == "resid_pre.1"
    assert a.cosine(b) == pytest.approx(float(a.vector @ b.vector))
    with pytest.raises(BadDirection, match="6 entries, and wide 7"):
        a.cosine(rs.Direction.of(range(1, 8), "resid_pre.1", "wide"))


@pytest.mark.slow
def test_the_python_of_a_sum_makes_it_again(demo: rs.Model, basis: rs.Basis) -> None:
    other = rs.pca(demo, rs.demo.texts, "resid_pre.2", n=6)
    made = (
        0.5 * basis[1] - 2 * other[3] + rs.head_direction(demo, layer=1, head=0, side="in").at("resid_pre.2")
    ).named("m")
    names: dict[str, rs.Direction] = {}
    exec("\n".join(made.python), names)
    assert torch.allclose(names["direction"].vector, made.vector, atol=1e-12)
    assert names["direction"].name == "m"
    assert sum("rs.load" in line for line in made.python) == 1


@pytest.mark.parametrize("centred", [True, False])
def test_a_file_gives_it_back_bit_for_bit(tmp_path: Path, centred: bool) -> None:
    one = random_direction(3, centred=centred)
    one = (0.3 * one + 0.1 * random_direction(4)).named("näme ☃") if centred else one
    one.save(tmp_path / "one.safetensors")
    again = rs.load_direction(tmp_path / "one.safetensors")
    assert torch.equal(again.vector, one.vector)
    assert again.offset == one.offset
    for name in ("name", "site", "deviation", "left_out", "history", "python"):
        assert getattr(again, name) == getattr(one, name)
    assert (again.mean is None) == (one.mean is None)
    assert not [*tmp_path.glob("*.new")]


def test_bare_vectors_are_taken_where_their_site_is_said(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps([3, 0, 4]))
    np.save(tmp_path / "array.npy", np.array([3.0, 0, 4], dtype=np.float32))
    for name in ("list.json", "array.npy"):
        with pytest.raises(BadDirection, match="is a bare vector"):
            rs.load_direction(tmp_path / name)
        found = rs.load_direction(tmp_path / name, site="resid_pre.2")
        assert found.vector.tolist() == [0.6, 0, 0.8]
        assert (str(found.site), found.history["kind"], found.mean) == ("resid_pre.2", "upload", None)
    with pytest.raises(UnknownSite):
        rs.load_direction(tmp_path / "list.json", site="nowhere.2")


def test_what_is_no_direction_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    random_direction(0).save(path)
    content = path.read_bytes()
    for end in (0, 5, 40, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(BadDirection, match="holds no direction"):
            rs.load_direction(path)
    path.write_bytes(content.replace(b"residscope direction 1", b"residscope direction 9"))
    with pytest.raises(BadDirection, match="direction 9"):
        rs.load_direction(path)
    path.write_bytes(content)
    with pytest.raises(BadDirection, match=r"is of resid_pre.1, and resid_pre.2 was asked for"):
        rs.load_direction(path, site="resid_pre.2")
    with pytest.raises(BadDirection, match="cannot be read"):
        rs.load_direction(tmp_path / "none.safetensors")
    long = random_direction(1)
    object.__setattr__(long, "vector", 2 * long.vector)
    long.save(path)
    with pytest.raises(BadDirection, match="the length 2"):
        rs.load_direction(path)
    for wrong, says in [
        ([[1, 2]], "shape"),
        ([0, 0], "zero everywhere"),
        ([1, float("nan")], "nan at entry 1"),
        ("text", "no vector"),
        ([], "shape"),
        (["a"], "no vector of numbers"),
    ]:
        (tmp_path / "bad.json").write_text(json.dumps(wrong))
        with pytest.raises(BadDirection, match=says):
            rs.load_direction(tmp_path / "bad.json", site="resid_pre.1")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BadDirection, match="holds no vector"):
        rs.load_direction(tmp_path / "objects.npy", site="resid_pre.1")
    with pytest.raises(BadDirection, match="Nothing is left of"):
        random_direction(0) - random_direction(0)
    with pytest.raises(BadDirection, match="Nothing is left of"):
        float("nan") * random_direction(0)


def test_the_length_of_a_vector_may_be_no_number() -> None:
    for size in (1e200, 1e308, 1e-200, 1e-320):
        found = rs.Direction.of([0.75 * size, size], "resid_pre.0")
        assert float(found.vector.norm()) == pytest.approx(1)
    one, other = rs.Direction.of([1.0, 0.0], "resid_pre.0"), rs.Direction.of([0.0, 1.0], "resid_pre.0")
    for size in (1e300, 1e-300):
        assert (size * one + size * other).cosine(one) == pytest.approx(0.5**0.5)
    assert ((one + other) / 2).cosine(other) == pytest.approx(0.5**0.5)
    assert rs.Direction.of([1.0, 1e-9], "resid_pre.0").vector[1] == 1e-9  # a list is read in float64
    with pytest.raises(BadDirection, match="it is complex"):
        rs.Direction.of([1j, 2.0], "resid_pre.0")


def test_the_code_of_a_sum_tells_bases_apart(demo: rs.Model) -> None:
    few, more = (
        rs.pca(demo, texts, "resid_pre.1") for texts in (["Tom ran to Lily", "One cat"], ["Two dogs sat", "A bird"])
    )
    summed = few[0] + 2 * more[0]
    told: dict[str, Any] = {}
    exec("\n".join(summed.python), told)
    torch.testing.assert_close(told["direction"].vector, summed.vector, rtol=0, atol=1e-9)
    assert sum("rs.load" in line for line in summed.python) == 1


def test_a_direction_divided_by_zero() -> None:
    with pytest.raises(BadDirection, match="divided by 0"):
        Direction.of([1.0, 2.0], "resid_pre.0", "it") / 0


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    direction = Direction.of([1.0, 2.0], "resid_pre.0", "it")
    for path in (tmp_path / "nowhere" / "x.safetensors", tmp_path):
        with pytest.raises(BadDirection, match="cannot be written"):
            direction.save(path)
    assert not tmp_path.with_name(f"{tmp_path.name}.new").exists()


def test_files_that_are_nearly_right(tmp_path: Path) -> None:
    content = Direction.of([1.0, 2.0], "resid_pre.0", "it").to_bytes()
    with pytest.raises(BadDirection, match="the file is cut short"):
        read_file(content[:-3], "it.safetensors")
    with pytest.raises(BadDirection, match="true and false are no numbers"):
        read_file(b"[true, false]", "it.json", site="resid_pre.0")
    np.save(tmp_path / "A.npy", np.array([3.0, 4.0]))
    assert read_file((tmp_path / "A.npy").read_bytes(), "A.NPY", site="resid_pre.0").vector.tolist() == [0.6, 0.8]
