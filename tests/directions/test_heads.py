"""Directions of heads and of other sites that are no streams: the same identities, at one head alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import residscope as rs
from residscope.directions import pca as pca_module
from residscope.directions.pca import pca_of_heads
from residscope.directions.vectors import list_vector_sites
from residscope.errors import BadArgument, BadDirection, BadEdit, UnknownComponent, UnknownSite
from residscope.sites import read_site
from tests.models import family_model

TEXTS = ["abcdefghij klm", "hello there", "xyz and so on", "one more text of bytes", "the last 0123456789"]
# k and v of the last four have two heads for four of queries; one of gemma2's norms stands behind attention.
PLACES = [
    ("gpt2", "z.1", 1),
    ("gpt2", "head_out.2", 3),
    ("gpt2", "mlp_pre.0", None),
    ("gptj", "q_rot.1", 2),
    ("llama", "k.1", 1),
    ("llama", "v.2", 0),
    ("qwen3", "k_rot.0", 1),
    ("qwen3", "q_norm.2", 3),
    ("gemma2", "z.1", 1),
    ("gemma2", "mlp_act.2", None),
    ("gemma2", "mlp_norm_post.1", None),
]
EVERYWHERE = pytest.mark.parametrize(("family", "site", "head"), PLACES)


def held(model: rs.Model, texts: list[str], site: str, head: int | None, left_out: int = 1) -> torch.Tensor:
    """What the site holds at every token, one text at a time."""
    rows = [model.run(text)[site][0, left_out:] for text in texts]
    return torch.cat(rows if head is None else [one[:, head] for one in rows])


def drawn(width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@EVERYWHERE
def test_components_are_those_of_the_rows(family: str, site: str, head: int | None) -> None:
    model = family_model(family)
    basis = rs.pca(model, TEXTS, site, head=head)
    rows = held(model, TEXTS, site, head).numpy()
    _, scales, vectors = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    variances = scales**2 / (len(rows) - 1)
    assert (basis.n_tokens, basis.head, basis.axes[1]) == (len(rows), head, read_site(site).axes[-1])
    np.testing.assert_allclose(basis.mean, rows.mean(0), atol=1e-12)
    np.testing.assert_allclose(basis.variances[: len(variances)], variances, atol=1e-9 * variances[0])
    sharp = variances > 1e-3 * variances[0]
    signs = np.sign((vectors * basis.components[: len(vectors)].numpy()).sum(1, keepdims=True))
    np.testing.assert_allclose((signs * vectors)[sharp], basis.components[: len(vectors)][sharp], atol=1e-8)
    of = "" if head is None else f" head {head}"
    assert (basis[2].name, basis[2].head) == (f"PCA 2 of {site}{of}", head)


@EVERYWHERE
def test_values_are_the_formula(family: str, site: str, head: int | None) -> None:
    model = family_model(family)
    basis = rs.pca(model, TEXTS, site, head=head, n=4)
    run = model.run(TEXTS[:2])
    x = run[site] if head is None else run[site][:, :, head]
    expected = (x - basis.mean) @ basis.components.T
    for number in (0, 3):
        found = rs.project(run, basis[number])
        torch.testing.assert_close(found.values, expected[..., number], rtol=0, atol=1e-10, equal_nan=True)
        assert (found.site, found.head, found.deviation) == (site, head, basis[number].deviation)
    many = rs.project(run, basis)
    torch.testing.assert_close(many.values.movedim(0, -1), expected, rtol=0, atol=1e-10, equal_nan=True)
    assert many.head == head
    river = rs.river(run, basis[3])
    own = read_site(site)
    assert (list(river.rows), river.here, river.head) == ([f"{own.kind}.{n}" for n in range(3)], own.layer, head)
    for row, other in enumerate(river.rows):
        x = run[other] if head is None else run[other][:, :, head]
        expected = (x - basis.mean) @ basis.components[3]
        torch.testing.assert_close(river.values[:, row], expected, rtol=0, atol=1e-10, equal_nan=True)


@pytest.mark.parametrize("site", ["z.1", "k.1", "head_out.0"])
def test_all_heads_come_of_one_pass_or_of_as_many_as_fit(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = family_model("llama")
    alone = [rs.pca(model, TEXTS, site, 5, head=head) for head in range(2 if site == "k.1" else 4)]
    n_runs = 0
    run = rs.Model.run

    def counted(*given: Any, **named: Any) -> rs.Run:
        nonlocal n_runs
        n_runs += 1
        return run(*given, **named)

    monkeypatch.setattr(rs.Model, "run", counted)
    for most, n_passes in ((2**30, 1), (1, len(alone))):
        monkeypatch.setattr(pca_module, "_MOMENTS_BYTES", most)
        n_runs = 0
        together = pca_of_heads(model, TEXTS, site, 5)
        assert n_runs == n_passes
        assert [one.to_json() for one in together] == [one.to_json() for one in alone]
    with pytest.raises(BadArgument, match=r"resid_pre\.1 has no vectors of heads"):
        pca_of_heads(model, TEXTS, "resid_pre.1")
    with pytest.raises(BadArgument, match=r"pattern\.1 has no vectors of heads"):
        pca_of_heads(model, TEXTS, "pattern.1")


def test_contrasts_and_probes_are_of_the_head() -> None:
    model, above, below = family_model("llama"), TEXTS, ["rst", "uvw xyz", "01234", "56789 ab", "!?"]
    for site, head in (("z.1", 2), ("v.1", 1), ("mlp_act.0", None)):
        far = held_last(model, above, site, head), held_last(model, below, site, head)
        contrast = rs.contrast(model, above, below, site=site, head=head)
        apart = contrast.vector * contrast.history["distance"]
        torch.testing.assert_close(apart, far[0].mean(0) - far[1].mean(0), rtol=0, atol=1e-12)
        assert contrast.mean is not None
        torch.testing.assert_close(contrast.mean, (far[0].mean(0) + far[1].mean(0)) / 2, rtol=0, atol=1e-12)
        probe = rs.probe(model, [*above, *below], [1] * 5 + [0] * 5, site=site, head=head, strength=100.0)
        assert probe.mean is not None
        assert len(probe.vector) == far[0].shape[1]
        values = (torch.cat(far) - probe.mean) @ probe.vector
        assert float(values[:5].mean()) > probe.history["boundary"] > float(values[5:].mean())
        for made in (contrast, probe):
            assert made.head == head
            assert (f"{site} head {head}" in made.name) is (head is not None)
            names = {"model": model, "rs": rs}
            exec(made.python[-1], names)
            again = names["direction"]
            assert isinstance(again, rs.Direction)
            assert (torch.equal(again.vector, made.vector), again.head) == (True, head)


def held_last(model: rs.Model, texts: list[str], site: str, head: int | None) -> torch.Tensor:
    return torch.stack([held(model, [text], site, head)[-1] for text in texts])


@pytest.mark.parametrize(
    ("family", "site", "head"),
    [
        ("gpt2", "z.1", 1),
        ("llama", "k.1", 1),
        ("llama", "v.0", 0),
        ("qwen3", "q_rot.2", 3),
        ("gemma2", "head_out.1", 2),
    ],
)
def test_edits_along_a_heads_direction_are_of_that_head(family: str, site: str, head: int) -> None:
    model = family_model(family)
    one, other = (rs.pca(model, TEXTS, site, head=head)[number] for number in (0, 2))
    run, others = model.run(TEXTS[:2]), model.run(["ABCDEFGHIJ KLM", "HELLO THERE"])
    vector, rows = one.vector, torch.stack([one.vector, other.vector])
    pairs = [
        (rs.add(site, one, 2.0), rs.add(site, vector, 2.0, head=head)),
        (rs.add(model.find(site), one, pos=-1, head=head), rs.add(site, vector, pos=-1, head=head)),
        (rs.replace(site, one), rs.replace(site, vector, head=head)),
        (rs.project_out(site, [one, other]), rs.project_out(site, rows, head=head)),
        (rs.replace(site, others, along=[one, other]), rs.replace(site, others, along=rows, head=head)),
        (rs.ablate(site, along=one), rs.ablate(site, along=vector, head=head)),
        (rs.ablate(site, "mean", along=[vector, other]), rs.ablate(site, "mean", along=rows, head=head)),
    ]
    for ours, told in pairs:
        found, expected = (model.run(TEXTS[:2], edits=edit) for edit in (ours, told))
        torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-12, equal_nan=True)
        rest = [number for number in range(run[site].shape[2]) if number != head]
        assert torch.equal(found[site][:, :, rest].nan_to_num(), run[site][:, :, rest].nan_to_num())
        assert not torch.equal(found[site][:, :, head].nan_to_num(), run[site][:, :, head].nan_to_num())
    sweep = model.sweep(run, edits=[[ours] for ours, _ in pairs], metric=rs.logit("a"))
    alone = torch.stack([rs.logit("a")(model.run(TEXTS[:2], edits=ours)) for ours, _ in pairs])
    torch.testing.assert_close(sweep.values, alone, rtol=0, atol=1e-10)
    held_there = rs.project(model.run(TEXTS[:2], edits=rs.clamp(one, 3.0)), one).values
    assert torch.allclose(held_there[~held_there.isnan()], torch.tensor(3.0).double(), atol=1e-10)


def test_a_heads_direction_elsewhere() -> None:
    model = family_model("llama")
    run = model.run(TEXTS[:1])
    of_z, of_v, of_out = (
        rs.Direction.of(drawn(width), site, f"d of {site}", head=1)
        for site, width in (("z.1", 8), ("v.1", 8), ("head_out.1", 32))
    )
    later = model.run(TEXTS[:1], edits=rs.add("blocks.2.attn.hook_z", of_z.at("z.2", head=1)))["z.2"] - run["z.2"]
    torch.testing.assert_close(later[0, 1], of_z.vector.expand(4, -1) * (torch.arange(4) == 1)[:, None])
    stream = (
        model.run(TEXTS[:1], edits=rs.add("resid_mid.1", of_out.at("resid_mid.1")))["resid_mid.1"] - run["resid_mid.1"]
    )
    torch.testing.assert_close(stream[0, 1], of_out.vector)
    cases: list[tuple[rs.Edit, str]] = [
        (rs.add("z.1", of_z, head=2), r"d of z\.1 is of z\.1 head 1, and head=2 was asked for"),
        (rs.project_out("z.1", of_z, head=[1]), r"of z\.1 head 1, and head=\[1\] was asked for"),
        (rs.ablate("z.1", along=of_z, head=0), "head=0 was asked for"),
        (rs.clamp(of_z, 1.0, head=3), "head=3 was asked for"),
        (rs.project_out("z.1", [of_z, of_z.at("z.1", head=2)]), r"is of z\.1 head 2, and d of z\.1 of z\.1 head 1"),
        (rs.replace("z.1", run, along=of_v), r"d of v\.1 lives at v\.1 head 1, and rs.replace was"),
        (rs.add("blocks.2.attn.hook_z", of_z), r"direction\.at\('z\.2', head=\.\.\.\)"),
        (rs.project_out("resid_mid.1", of_out, centre="mean"), r"direction\.at\('resid_mid\.1'\)"),
        (rs.add("v.1", of_v.at("v.1", head=2)), r"head=2 was asked for, and v\.1 has 2 along kv_head"),
    ]
    for edit, says in cases:
        with pytest.raises(BadEdit, match=says) as error:
            model.run(TEXTS[:1], edits=edit)
        assert str(error.value).count(". ") <= 1


def test_an_edits_data_keeps_the_head(tmp_path: Path) -> None:
    model = family_model("gpt2")
    edit = rs.add("z.1", rs.Direction.of(drawn(8), "z.1", "one", head=2, mean=drawn(8, 1)))
    data = json.loads(json.dumps(edit.to_json(tmp_path)))
    again = rs.Edit.from_json(data, tmp_path)
    assert again == edit
    printed = eval(repr(edit), {"rs": rs, "torch": torch})
    for other in (again, printed):
        assert torch.equal(model.run("abc", edits=other).logits, model.run("abc", edits=edit).logits)
    del data["vector"]["direction"]["head"]
    assert rs.Edit.from_json(data, tmp_path).arguments["vector"].head is None


def test_heads_are_not_mixed_unless_it_is_said() -> None:
    one, other = (rs.Direction.of(drawn(8, head), "z.1", f"d{head}", head=head) for head in (1, 2))
    with pytest.raises(BadDirection, match=r"d1 lives at z\.1 head 1, and d2 at z\.1 head 2.*at\('z\.1', head=1\)"):
        one + other
    with pytest.raises(BadDirection, match=r"d1 lives at z\.1 head 1, and plain at z\.1\."):
        one.project_out(rs.Direction.of(drawn(8), "z.1", "plain"))
    moved = other.at("z.1", head=1)
    assert (moved.name, moved.head, moved.mean) == ("d2, at z.1 head 1", 1, None)
    assert moved.history["moved_from"] == "z.1 head 2"
    names = {"direction": other}
    exec(moved.python[-1], names)
    assert (names["direction"].head, str(names["direction"].site)) == (1, "z.1")
    total = 2 * one - moved
    assert (total.head, str(total.site), total.place) == (1, "z.1", "z.1 head 1")
    assert one.project_out(moved).head == 1
    assert [made.head for made in rs.orthonormalize([one, moved])] == [1, 1]
    assert one.named("n").head == 1
    assert one.at("resid_pre.1").head is None


def test_files_keep_the_head_and_older_ones_have_none(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    one = rs.Direction.of(drawn(8), "z.1", "one", head=2, mean=drawn(8, 1))
    one.save(path)
    again = rs.load_direction(path, site="z.1", head=2)
    assert (again.head, torch.equal(again.vector, one.vector)) == (2, True)
    assert rs.load_direction(path).head == 2
    with pytest.raises(BadDirection, match=r"is of z\.1 head 2, and z\.1 head 1 was asked for"):
        rs.load_direction(path, head=1)
    rewrite(path, "residscope", lambda facts: facts.pop("head"))
    assert rs.load_direction(path).head is None
    rewrite(path, "residscope", lambda facts: facts.update(head=-1))
    with pytest.raises(BadDirection, match=r"head=-1 was given of z\.1"):
        rs.load_direction(path)
    (tmp_path / "bare.json").write_text("[3, 0, 4]")
    assert rs.load_direction(tmp_path / "bare.json", site="z.1", head=3).head == 3


def rewrite(path: Path, key: str, change: Any) -> None:
    """Change what a file says of itself."""
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()[key])
    change(facts)
    save_file(load_file(path), path, metadata={key: json.dumps(facts)})


def test_a_saved_basis_keeps_the_head_and_an_older_one_has_none(tmp_path: Path) -> None:
    basis = rs.pca(family_model("gpt2"), TEXTS, "z.1", 2, head=3)
    basis.save(tmp_path / "basis")
    again = rs.open(tmp_path / "basis")
    assert isinstance(again, rs.Basis)
    assert (again.head, again.to_json()) == (3, basis.to_json())
    assert again.to_frame().columns.tolist() == ["component", "d_head", "value"]
    rewrite(tmp_path / "basis", "payload", lambda facts: facts.pop("head"))
    again = rs.open(tmp_path / "basis")
    assert isinstance(again, rs.Basis)
    assert again.head is None


def test_which_sites_have_vectors_and_how_many_heads() -> None:
    sites = {str(site): n_heads for site, n_heads in list_vector_sites(family_model("qwen3")).items()}
    kinds = {name: n_heads for name, n_heads in sites.items() if not name.endswith((".1", ".2"))}
    assert kinds == {
        **dict.fromkeys(["embed", "resid_pre.0", "ln1.0", "attn_out.0", "resid_mid.0", "ln2.0"]),
        **dict.fromkeys(["mlp_pre.0", "mlp_up.0", "mlp_act.0", "mlp_out.0", "resid_post.0", "ln_final"]),
        **dict.fromkeys(["k.0", "k_norm.0", "k_rot.0", "v.0"], 2),
        **dict.fromkeys(["q.0", "q_norm.0", "q_rot.0", "z.0", "head_out.0"], 4),
    }


def test_what_has_no_such_head_is_refused_in_a_sentence() -> None:
    model = family_model("llama")
    wrong: list[tuple[str, Any, type[rs.ResidscopeError], str]] = [
        ("z.1", None, BadArgument, r"z\.1 has a vector for each head, and none was chosen. z\.1 has 4 of them"),
        ("z.1", 4, BadArgument, r"head=4 was asked for. z\.1 has 4 of them: give head=0 to 3"),
        ("k.1", 2, BadArgument, r"head=2 was asked for. k\.1 has 2 of them: give head=0 to 1"),
        ("k.1", -1, BadArgument, "head=-1 was asked for"),
        ("resid_pre.1", 0, BadArgument, r"resid_pre\.1 has no heads, and head=0 was asked for"),
        *(
            (site, head, UnknownSite, "directions live where each position has a vector")
            for site, head in [("scores.1", 0), ("pattern.1", None), ("ln1_scale.1", None), ("logits", None)]
        ),
    ]
    for site, head, error, says in wrong:
        with pytest.raises(error, match=says):
            rs.pca(model, TEXTS, site, head=head)
        with pytest.raises(error, match=says):
            rs.contrast(model, TEXTS[:2], TEXTS[2:], site=site, head=head)
        with pytest.raises(error, match=says):
            rs.probe(model, TEXTS, [0, 0, 1, 1, 1], site=site, head=head)
    run = model.run(TEXTS[:1])
    for direction, kind, says in [
        (rs.Direction.of(drawn(8), "z.1", "d"), BadArgument, "none was chosen"),
        (rs.Direction.of(drawn(8), "k.1", "d", head=3), BadArgument, r"k\.1 has 2 of them"),
        (rs.Direction.of(drawn(7), "k.1", "d", head=1), BadDirection, r"d has 7 entries, and .* of 8 at k\.1 head 1"),
        (rs.Direction.of(drawn(300), "logits", "d"), UnknownSite, "each position has a vector"),
    ]:
        for use in (rs.project, rs.river):
            with pytest.raises(kind, match=says):
                use(run, direction)
        with pytest.raises(kind, match=says):
            rs.causal_check(model, direction, TEXTS)
        with pytest.raises(kind, match=says):
            rs.explain(model, direction, TEXTS)
    for site, odd in [("resid_pre.1", 0), ("pattern.1", 0), ("k_norm_scale.1", 0), ("z.1", -1), ("z.1", True)]:
        with pytest.raises(BadDirection, match=f"head={odd}"):
            rs.Direction.of(drawn(8), site, head=odd)
    with pytest.raises(UnknownComponent, match="1 to 8, d_head"):
        rs.pca(model, TEXTS, "z.1", 9, head=1)
