"""Dimensions, their conditions, and points as plain data."""

import itertools

import numpy as np
import pytest

from razorlite.core.errors import ConfigError, SubnetError
from razorlite.space import ChoiceSpace, Dimension, Subnet

KINDS = ChoiceSpace({"op": ("conv", "none"), "width": (8, 16, 24), "ratio": (0.25, 1.0)})
# the kernel counts where there is a convolution, its dilation where the kernel is 3 or 5
NESTED = ChoiceSpace(
    [
        Dimension("dilation", (1, 2), when={"kernel": (3, 5)}),
        Dimension("op", ("conv", "pool", "none")),
        Dimension("kernel", (1, 3, 5), when={"op": ("conv",)}),
        Dimension("free", ("x", "y")),
    ]
)


def slow_canonical(point):
    """Return a point's values with the first one where the conditions, read aloud, do not hold."""
    dilation, op, kernel, free = point
    if op != "conv":
        kernel = 1
    if op != "conv" or kernel == 1:
        dilation = 1
    return dilation, op, kernel, free


def test_values_of_every_kind_go_to_yaml_and_back(tmp_path):
    for point in KINDS.all_indices():
        subnet = KINDS.decode(point)
        subnet.save(tmp_path / "subnet.yaml")
        again = KINDS.load(tmp_path / "subnet.yaml")
        assert again == subnet
        assert [type(v) for v in again.choices.values()] == [str, int, float]
        assert KINDS.encode(again).tolist() == point.tolist()


def test_whole_numbers_and_floats_that_are_equal_are_the_dimensions_own():
    given = Subnet(choices={"op": "conv", "width": 8.0, "ratio": 1})
    values = list(KINDS.resolve(given).choices.values())
    assert [(type(v), v) for v in values] == [(str, "conv"), (int, 8), (float, 1.0)]
    for wrong in ("8", True, 9, float("nan")):
        with pytest.raises(SubnetError, match="width wants one of 8, 16, 24, got"):
            KINDS.resolve(Subnet(choices={"op": "conv", "width": wrong, "ratio": 1.0}))


@pytest.mark.parametrize(
    ("options", "given", "advice"),
    [
        ((8, 16), "16", "got '16'; write 16, a number"),
        ((0.5, 1.0), "5e-1", "got '5e-1'; write 0.5, a number"),
        (("3", "5"), 3, "got 3; write '3', in quotes"),
        (("conv", "pool"), "cnv", "got 'cnv'; did you mean 'conv'"),
    ],
)
def test_how_to_write_a_number_or_a_text_is_said(options, given, advice):
    with pytest.raises(SubnetError) as caught:
        ChoiceSpace({"width": options}).resolve(Subnet(choices={"width": given}))
    assert advice in str(caught.value)


def test_canonical_points_are_those_that_differ_in_what_counts():
    every = np.stack(np.unravel_index(np.arange(NESTED.counts.prod()), NESTED.counts), axis=1)
    canonical = NESTED.canonical(every)
    for before, after in zip(every, canonical, strict=True):
        values = [d.values[i] for d, i in zip(NESTED.dimensions, before, strict=True)]
        expected = slow_canonical(values)
        assert tuple(NESTED.decode(after).choices.values()) == expected
        assert tuple(NESTED.decode(before).choices.values()) == expected
    distinct = np.unique(canonical, axis=0)
    # none and pool, kernel 1, kernels 3 and 5 with two dilations: 2 + 1 + 2 * 2, times 2
    assert NESTED.size == len(distinct) == 14
    assert NESTED.all_indices().tolist() == distinct.tolist()
    assert NESTED.canonical(canonical).tolist() == canonical.tolist()


def test_what_counts_is_told_for_every_dimension():
    points = np.array([[0, 0, 1, 0], [1, 0, 0, 1], [1, 1, 1, 0]])
    assert NESTED.active(points).tolist() == [
        [True, True, True, True],
        [False, True, True, True],
        [False, True, False, True],
    ]


def test_random_points_are_canonical_and_every_dimension_that_counts_is_uniform():
    points = NESTED.random_indices(np.random.default_rng(0), 9000)
    assert (NESTED.canonical(points) == points).all()
    ops = np.bincount(points[:, 1], minlength=3)
    assert (abs(ops - 3000) < 225).all()  # five standard deviations
    kernels = np.bincount(points[points[:, 1] == 0, 2], minlength=3)
    assert (abs(kernels - 1000) < 130).all()


def test_without_conditions_points_are_drawn_as_ever():
    drawn = KINDS.random_indices(np.random.default_rng(7), 5)
    plain = np.random.default_rng(7).integers(0, [2, 3, 2], (5, 3))
    assert drawn.tolist() == plain.tolist()
    assert KINDS.canonical(drawn) is drawn


def test_a_subnet_may_leave_out_what_does_not_count():
    subnet = NESTED.resolve(Subnet(choices={"free": "y", "op": "pool"}))
    assert dict(subnet.choices) == {"dilation": 1, "op": "pool", "kernel": 1, "free": "y"}
    assert list(subnet.choices) == [d.name for d in NESTED.dimensions]
    other = NESTED.resolve(Subnet(choices={"free": "y", "op": "pool", "kernel": 5, "dilation": 2}))
    assert other == subnet
    with pytest.raises(SubnetError, match="no value for dilation: wants 4 dimensions, got 3"):
        NESTED.resolve(Subnet(choices={"free": "y", "op": "conv", "kernel": 3}))


@pytest.mark.parametrize("seed", range(6))
def test_size_of_random_conditions_equals_a_count(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 4, 7).tolist()
    dimensions = []
    for i, count in enumerate(counts):
        others = rng.permutation(i)[: rng.integers(0, 3)].tolist()
        when = {f"d{o}": range(min(counts[o], int(rng.integers(1, 3)))) for o in others}
        dimensions.append(Dimension(f"d{i}", tuple(range(count)), when))
    order = rng.permutation(7)
    space = ChoiceSpace([dimensions[i] for i in order])
    every = np.array(list(itertools.product(*(range(n) for n in space.counts))))
    distinct = np.unique(space.canonical(every), axis=0)
    assert space.size == len(distinct)
    assert space.all_indices().tolist() == distinct.tolist()


def test_size_of_a_large_conditional_space_is_exact():
    # all outer ones first: 30 places of (conv with 4 kernels, none) have 5 ** 30 points
    outer = [Dimension(f"op{i}", ("none", "conv")) for i in range(30)]
    inner = [Dimension(f"k{i}", (1, 3, 5, 7), when={f"op{i}": ("conv",)}) for i in range(30)]
    assert ChoiceSpace([*outer, *inner]).size == 5**30


def test_conditions_are_part_of_the_fingerprint():
    plain = ChoiceSpace({"a": ("x", "y"), "b": ("x", "z")})
    same = ChoiceSpace([Dimension("a", ("x", "y")), Dimension("b", ("x", "z"))])
    other = ChoiceSpace([Dimension("a", ("x", "y")), Dimension("b", ("x", "z"), {"a": ("x",)})])
    assert plain.fingerprint == same.fingerprint == "0ce8d687c3a55787"
    assert other.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", (1,)), "wants a name, got ''"),
        (("a", ()), "dimension 'a' has no values"),
        (("a", (1, 2, 1)), "dimension 'a' has the value 1 twice"),
        (("a", (1, 1.0)), "has the value 1 twice"),
        (("a", (True, 2)), "wants texts, whole or finite numbers, got True"),
        (("a", (float("inf"),)), "wants texts, whole or finite numbers, got inf"),
        (("a", (None,)), "got None"),
        (("a", (1,), {"b": ()}), "dimension 'a': when 'b' has no values"),
        (("a", (1,), {"b": ("x", "x")}), "dimension 'a': when 'b' has the value 'x' twice"),
    ],
)
def test_wrong_dimensions_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Dimension(*arguments)


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"a": {"opp": ("conv",)}}, "when names 'opp', which is no dimension.*did you mean 'op'"),
        ({"a": {"op": ("cnov",)}}, "when 'op' wants some of conv, none, got 'cnov'"),
        ({"a": {"a": (1,)}}, "lead in a circle: a -> a"),
        ({"a": {"b": (1,)}, "b": {"op": ("conv",), "a": (1,)}}, "in a circle: a -> b -> a"),
    ],
)
def test_wrong_conditions_are_refused(when, message):
    names = {"op": ("conv", "none"), "a": (1, 2), "b": (1, 2)}
    dimensions = [Dimension(name, values, when.get(name, {})) for name, values in names.items()]
    with pytest.raises(ConfigError, match=message) as caught:
        ChoiceSpace(dimensions)
    assert "\n" not in str(caught.value)


def test_two_dimensions_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="two dimensions have the name 'a'"):
        ChoiceSpace([Dimension("a", (1,)), Dimension("a", (2,))])
