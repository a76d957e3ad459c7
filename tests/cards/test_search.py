"""Search, against values and cosines computed one by one."""

import pytest
import torch

import residscope as rs
from residscope.cards.search import find_active, find_nearest, find_texts
from residscope.errors import BadDirection, UnknownPosition
from residscope.running.texts import read_texts

SITE = "resid_pre.2"


@pytest.fixture(scope="module")
def basis(demo: rs.Model) -> rs.Basis:
    return rs.pca(demo, rs.demo.texts, SITE)


@pytest.mark.parametrize("pos", [None, 0, 7])
def test_what_is_active_has_the_largest_values(demo: rs.Model, basis: rs.Basis, pos: int | None) -> None:
    run, dictionary = demo.run(read_texts(rs.demo.texts)[0]), rs.demo.dictionaries[SITE]
    found = find_active(run, basis, dictionary, pos=pos, top=6)
    assert [match.kind for match in found] == ["pca"] * 6 + ["feature"] * 6
    where = slice(1, None) if pos is None else slice(pos, pos + 1)
    first = where.start
    components = [(basis[number], float(basis.deviations[number])) for number in range(128)]
    by_component = torch.stack([rs.project(run, one).values[0] / deviation for one, deviation in components])
    activations = dictionary.encode(run[SITE])[0].T
    for values, matches in ((by_component, found[:6]), (activations, found[6:])):
        sizes = values[:, where].abs()
        largest = sizes.amax(1).sort(descending=True).values[:6].tolist()
        assert [abs(match.value) for match in matches] == pytest.approx(largest, rel=1e-4)
        for match in matches:
            assert match.pos == first + int(sizes[match.number].argmax())
            assert match.value == pytest.approx(float(values[match.number, match.pos]), rel=1e-4)


def test_what_is_near_has_the_largest_cosines(basis: rs.Basis) -> None:
    dictionary = rs.demo.dictionaries[SITE]
    wanted = (basis[5] - 0.2 * dictionary.direction(9)).named("a mix")
    found = find_nearest(wanted, basis, dictionary, top=3)
    assert found[0].number == 5
    for match in found:
        other = basis[match.number] if match.kind == "pca" else dictionary.direction(match.number)
        assert match.value == pytest.approx(wanted.cosine(other), abs=1e-6)
    cosines = [abs(wanted.cosine(dictionary.direction(i))) for i in range(dictionary.n_features)]
    assert [abs(match.value) for match in found[3:]] == pytest.approx(sorted(cosines)[:-4:-1], abs=1e-6)


def test_what_cannot_be_found(demo: rs.Model, basis: rs.Basis) -> None:
    with pytest.raises(UnknownPosition, match="Position 3 was asked for, and the text has 2 tokens"):
        find_active(demo.run("."), basis, pos=3)
    with pytest.raises(BadDirection, match="3 entries"):
        find_nearest(rs.Direction.of([1.0, 2.0, 2.0], SITE), basis)


def test_texts_stand_by_their_strongest_token(demo: rs.Model, basis: rs.Basis) -> None:
    texts = read_texts(rs.demo.texts)[:40]
    found = find_texts(demo, texts, basis[3])
    assert sorted(number for number, _ in found) == list(range(40))
    values = [rs.project(demo.run(text), basis[3]).values[0, 1:] for text in texts]
    strongest = [float(one[one.abs().argmax()]) for one in values]
    assert dict(found) == pytest.approx(dict(enumerate(strongest)), abs=1e-4)
    assert [abs(value) for _, value in found] == sorted((abs(value) for _, value in found), reverse=True)


def test_what_points_the_same_way_comes_first_and_what_points_against_last(basis: rs.Basis) -> None:
    found = find_nearest(0.9 * -basis[3] + 0.4 * basis[5], basis, top=len(basis), same_way=True)
    values = [match.value for match in found]
    assert values == sorted(values, reverse=True)
    assert (found[0].number, found[-1].number) == (5, 3)
