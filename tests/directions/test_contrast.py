"""Contrasts and probes: by hand, and as scikit-learn fits them."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import residscope as rs
from residscope.errors import BadArgument, BadDirection, UnknownPosition

NAMES = "John Mary Tom Anna James Emma David Sarah Paul Laura Peter Julia Mark Alice Robert Helen".split()
HE = [f"{name} ran home. He" for name in NAMES]
SHE = [f"{name} went to the park. She was" for name in NAMES]


def at_end(model: rs.Model, texts: list[str], site: str) -> torch.Tensor:
    return torch.stack([model.run(text)[site][0, -1] for text in texts]).double()


def test_a_contrast_is_the_difference_of_means(demo: rs.Model) -> None:
    direction = rs.contrast(demo, HE, SHE[:5], site="resid_pre.2")
    he, she = at_end(demo, HE, "resid_pre.2"), at_end(demo, SHE[:5], "resid_pre.2")
    expected = he.mean(0) - she.mean(0)
    assert torch.allclose(direction.vector * direction.history["distance"], expected, atol=1e-4)
    values = [rs.project(demo.run(texts), direction) for texts in (HE, SHE[:5])]
    ends = [torch.stack([row[~row.isnan()][-1] for row in one.values]).double() for one in values]
    assert float(ends[0].mean()) == pytest.approx(-float(ends[1].mean()), abs=1e-4)
    within = torch.cat([end - end.mean() for end in ends])
    assert direction.deviation == pytest.approx(float(within.square().mean().sqrt()), abs=1e-4)


def test_everywhere_is_everywhere_but_at_the_first_position(demo: rs.Model) -> None:
    direction = rs.contrast(demo, HE[:3], SHE[:3], site="mlp_out.1", pos=None)
    means = [
        torch.cat([demo.run(text)["mlp_out.1"][0, 1:] for text in texts[:3]]).double().mean(0) for texts in (HE, SHE)
    ]
    expected = means[0] - means[1]
    assert torch.allclose(direction.vector * direction.history["distance"], expected, atol=1e-4)
    assert direction.left_out == (0,)


def test_a_probe_is_scikit_learns(demo: rs.Model) -> None:
    texts, labels = [*HE, *SHE], ["he"] * len(HE) + ["she"] * len(SHE)
    direction = rs.probe(demo, texts, labels, site="resid_pre.2", pos=1, seed=3)
    x = torch.stack([demo.run(text)["resid_pre.2"][0, 1] for text in texts]).double().numpy()
    y = np.array(labels) == "she"
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=3, stratify=y)
    scaler = StandardScaler().fit(x_train)
    theirs = LogisticRegression(max_iter=2000).fit(scaler.transform(x_train), y_train)
    boundary = direction.history["boundary"]
    assert direction.mean is not None
    ours = ((torch.from_numpy(x) - direction.mean) @ direction.vector > boundary).numpy()
    assert (ours == theirs.predict(scaler.transform(x))).all()
    assert direction.history["accuracy"] == theirs.score(scaler.transform(x_test), y_test)
    assert direction.history["labels"] == ["he", "she"]


def test_a_probe_tells_what_can_be_told_and_no_more(demo: rs.Model) -> None:
    texts, labels = [*HE, *SHE], [0] * len(HE) + [1] * len(SHE)
    direction = rs.probe(demo, texts, labels, site="resid_post.3")
    assert direction.history["accuracy"] == 1.0
    assert direction.history["accuracy_shuffled"] < 0.9
    assert "100% right" in direction.name


def test_the_python_makes_it_again(demo: rs.Model) -> None:
    made = [
        rs.contrast(demo, HE[:4], SHE[:4], site="resid_pre.1", pos=[1, -1]),
        rs.probe(demo, [*HE[:8], *SHE[:8]], [False] * 8 + [True] * 8, site="resid_pre.1", seed=1),
    ]
    for one in made:
        names: dict[str, rs.Direction] = {}
        exec("\n".join(one.python), names)
        assert torch.allclose(names["direction"].vector, one.vector, atol=1e-12)
        assert names["direction"].history == one.history


def test_what_cannot_be_told_apart_is_refused(demo: rs.Model) -> None:
    with pytest.raises(BadDirection, match="The means of both sets are the same"):
        rs.contrast(demo, HE, HE, site="resid_pre.1")
    with pytest.raises(UnknownPosition, match="Position 40"):
        rs.contrast(demo, HE, SHE, site="resid_pre.1", pos=40)
    with pytest.raises(BadArgument, match="a vector for each head, and none was chosen"):
        rs.contrast(demo, HE, SHE, site="z.1")
    with pytest.raises(BadArgument, match="3 labels were given for 16 texts"):
        rs.probe(demo, HE, [0, 1, 0], site="resid_pre.1")
    with pytest.raises(BadArgument, match="1 kinds of labels"):
        rs.probe(demo, HE, [0] * 16, site="resid_pre.1")
    with pytest.raises(BadArgument, match=r"of \[15, 1\] texts"):
        rs.probe(demo, HE, [0] * 15 + [1], site="resid_pre.1")


def test_a_probe_needs_enough_on_both_sides(stories: rs.Model) -> None:
    texts = [f"Tom had {n} cats" for n in range(8)]
    with pytest.raises(BadArgument, match=r"held_out=0\.1 of 8 texts holds out 1"):
        rs.probe(stories, texts, [0, 1] * 4, site="resid_pre.1", held_out=0.1)
