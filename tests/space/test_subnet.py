"""Subnet files."""

import pytest

from razorlite.core.errors import RunFolderError, SubnetError
from razorlite.space import ChoiceSpace, Subnet
from tests.space.supernets import published_space, toy_space

SPACE = ChoiceSpace({"a": ("x", "y"), "b": ("x", "z")})


def test_save_and_load_round_trip(tmp_path):
    subnet = Subnet(
        choices={"a": "x", "b": "z"},
        channels={"layer1.conv": (0, 2, 5)},
        fingerprint=SPACE.fingerprint,
        cost={"macs": 321915200, "params": 3558952},
        scores={"AP": 0.25},
        origin={"search": "run", "trial": 3},
    )
    subnet.save(tmp_path / "subnet.yaml")
    assert Subnet.load(tmp_path / "subnet.yaml") == subnet
    assert SPACE.load(tmp_path / "subnet.yaml") == subnet
    assert "layer1.conv: [0, 2, 5]" in (tmp_path / "subnet.yaml").read_text()


def test_choices_named_like_yaml_words_survive(tmp_path):
    subnet = Subnet(choices={"a": "no", "b": "1e-4", "c": "null"})
    subnet.save(tmp_path / "subnet.yaml")
    assert Subnet.load(tmp_path / "subnet.yaml") == subnet


def test_a_number_of_channels_means_the_first_ones(tmp_path):
    path = tmp_path / "subnet.yaml"
    path.write_text("channels: {layer1.conv: 3, layer2.conv: [0, 4]}\n")
    assert Subnet.load(path).channels == {"layer1.conv": (0, 1, 2), "layer2.conv": (0, 4)}


def test_widths_of_mmrazor_are_the_first_channels(tmp_path):
    path = tmp_path / "subnet.yaml"
    path.write_text("conv1: {in_channels: 3, out_channels: 2, raw_out_channels: 8}\n")
    subnet = Subnet.load(path)
    assert subnet.channels == {"conv1": (0, 1)}
    assert subnet.origin == {"made_by": "MMRazor", "whole": {"conv1": 8}}


@pytest.mark.parametrize("name", ["spos_0x_paper", "spos_1x", "detnas_0x"])
def test_published_files_of_both_dialects_become_space_ids(test_data, name):
    space = published_space()
    subnet = space.load(test_data / "published_subnets" / f"{name}.yaml")
    assert list(subnet.choices) == list(space.choices)
    assert subnet.fingerprint == space.fingerprint
    first = {"spos_0x_paper": "shuffle_7x7", "spos_1x": "shuffle_7x7", "detnas_0x": "shuffle_7x7"}
    last = {"spos_0x_paper": "xception", "spos_1x": "xception", "detnas_0x": "7x7"}
    assert subnet.choices["stage_0_block_0"] == first[name]
    assert subnet.choices["stage_3_block_3"] == f"shuffle_{last[name]}"


def test_paths_with_other_parts_in_front_are_found(tmp_path):
    path = tmp_path / "subnet.yaml"
    path.write_text("architecture.first: {chosen: conv1}\nthird: conv3\n")
    subnet = toy_space().load(path)
    assert dict(subnet.choices) == {"tied": "conv1", "free": "conv3"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: x\nb: y\n", "b wants one of x, z, got 'y'"),
        ("a: x\nc: z\n", "c is no dimension of this search space, which has 2"),
        ("a: x\n", "no value for b: wants 2 dimensions, got 1; add 'b: x' or another of x, z"),
        ("a: {chosen: [x, y]}\nb: z\n", r"a wants one name or number, got \['x', 'y'\]"),
        ("a: {chose: x}\nb: z\n", "a wants 'chosen: NAME'"),
        ("a: 3\nb: z\n", "a wants one of x, y, got 3"),
        ("a: true\nb: z\n", "a wants one name or number, got True; write names"),
        ("a: .nan\nb: z\n", "a wants one name or number, got nan"),
        ("a: x\na: y\nb: z\n", "line 2: 'a' is written twice"),
        ("- a\n- b\n", "wants 'key: value' lines"),
        ("", "wants 'key: value' lines, got None"),
        ("a: [x\n", "not YAML"),
        ("choices: {a: x, b: z}\nfingerprint: other\n", "belongs to another search space"),
        ("choices: {a: x, b: z}\nformat: 2\n", "format wants 1, got 2"),
        ("choices: {a: x, b: z}\nscore: {}\n", "unknown key 'score'; did you mean 'scores'"),
        ("choices: [a, b]\n", "choices wants a block"),
        ("choices: {a: x, b: z}\ncost: {macs: many}\n", "cost.macs wants a number, got 'many'"),
        ("channels: {g: [2, 1]}\n", "channels.g wants rising channel numbers"),
        ("channels: {g: 0}\n", "channels.g wants rising channel numbers from 0, or how many of"),
        ("channels: {g: true}\n", "channels.g wants rising channel numbers"),
        ("channels: {g: 9999999999}\n", "channels.g wants rising channel numbers"),
        ("g: {out_channels: [1]}\nh: {out_channels: x}\n", "channels.h wants rising channel"),
        ("channels: {g: []}\n", "channels.g wants rising channel numbers"),
        ("? [1, 2]\n: x\n", "not YAML|no dimension"),
    ],
)
def test_malformed_file_is_one_line_that_names_the_fault(tmp_path, text, message):
    path = tmp_path / "subnet.yaml"
    path.write_text(text)
    with pytest.raises(SubnetError, match=message) as caught:
        SPACE.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_near_names_are_suggested(tmp_path):
    path = tmp_path / "subnet.yaml"
    path.write_text("tied: conv_3\nfree: none\n")
    with pytest.raises(SubnetError, match="did you mean 'conv3'"):
        toy_space().load(path)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(SubnetError, match="cannot read: No such file"):
        Subnet.load(tmp_path / "none.yaml")
    (tmp_path / "weights.pt").write_bytes(b"PK\x03\x04\xff\xfe\x00")
    with pytest.raises(SubnetError, match="is it a subnet file"):
        Subnet.load(tmp_path / "weights.pt")


def test_unwritable_folder_is_a_run_folder_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError):
        Subnet(choices={"a": "x"}).save(tmp_path / "file" / "subnet.yaml")


def test_a_subnet_that_chooses_nothing_is_read_again(tmp_path):
    Subnet(choices={}, cost={"macs": 1}).save(tmp_path / "whole.yaml")
    assert Subnet.load(tmp_path / "whole.yaml") == Subnet(choices={}, cost={"macs": 1})
