"""Files that no person writes: refused in one line, at once, in little memory."""

import time

import pytest

from razorlite.core.config import ConfigError, load

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{i + 1}: &a{i + 1} {{x: *a{i}, y: *a{i}, <<: [*a{i}, *a{i}]}}\n" for i in range(40)
)


def refused(folder, text: str | bytes) -> str:
    """Return the complaint about a file, made within seconds of work."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    (folder / "x.yaml").write_bytes(data)
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load(folder / "x.yaml")
    assert time.process_time() - began < 5
    (line,) = str(caught.value).split("\n")
    assert line.startswith(f"{folder / 'x.yaml'}:")
    return line.removeprefix(f"{folder / 'x.yaml'}:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "not valid YAML: aliases repeat more than"),
        (MERGES, "not valid YAML: aliases repeat more than"),
        ("a: " + "[" * 1000 + "]" * 1000, "1: not valid YAML: blocks more than 64 deep"),
        ("".join(f"{' ' * i}a:\n" for i in range(900)), "64: not valid YAML: blocks more than"),
        ("- " * 1000, "1: not valid YAML: blocks more than 64 deep"),
        ("a: " + "{a: " * 1000, "1: not valid YAML: blocks more than 64 deep"),
        ("".join(f"k{i}: 1\n" for i in range(20_000)), "15000: not valid YAML: more than 30000 v"),
        ("a: x\n" * 200_000, " more than 500,000 bytes; is it a configuration?"),
        ("a: 1\nb: 1" + "0" * 400, "2: 1000"),
        ("a: 1e400\n", "1: 1e400 is too large for a number"),
        ("a: 9223372036854775808\n", "1: 9223372036854775808 is too large for a number"),
        ("a: " + "9" * 100_000, "1: 999"),
        ("a: 0x" + "f" * 100, "1: 0xff"),
        ("a: 1\nb: x\0y\n", "2: not valid YAML: the character 0x0000 is no text; remove it"),
        ('a: "x\\0y"\n', "1: 'x\\x00y' is no str"),
        ('a: "\\uD800"\n', "1: '\\ud800' is no str"),
        ('"a\\0": 1\n', "1: a key must be plain text"),
        ("a:\n\tb: 1\n", "2: not valid YAML: found character '\\t' that cannot start any token"),
        ("{a: 1, b: 2}: 3\n", "1: a key must be plain text"),
        ("a: !!python/object/apply:os.system [exit]\n", "1: the tag 'tag:yaml.org,2002:python"),
        ("a: !!binary aGVsbG8=\n", "1: the tag 'tag:yaml.org,2002:binary' is not allowed"),
        ("a: 1\n".encode("utf-16"), " not a UTF-8 text file"),
        (b"a: \xff\n", " not a UTF-8 text file"),
        ("%YAML 9.9\n---\na: 1\n", "1: not valid YAML: found incompatible YAML document"),
        ("k" * 100_000 + ": 1\n" + "k" * 100_000 + ": 2\n", "1: not valid YAML"),
        ("k" * 900 + ": 1\n" + "k" * 900 + ": 2\n", "2: key 'kkk"),
    ],
    ids=range(26),
)
def test_one_line_at_once(tmp_path, text, message):
    refusal = refused(tmp_path, text)
    assert refusal.startswith(message) or message in refusal
    assert len(refusal) < 300


@pytest.mark.parametrize(
    "text", ["\ufeffseed: 1\n", "seed: 1\r\n", "---\nseed: 1\n...\n", "seed: &s 1\nshape: [*s, *s]"]
)
def test_odd_but_sound(tmp_path, text):
    (tmp_path / "x.yaml").write_bytes(text.encode())
    assert load(tmp_path / "x.yaml").tree["seed"] == 1


def test_bases_doubled_at_every_level_are_read_once_each(tmp_path):
    (tmp_path / "0.yaml").write_text("a: 1\n")
    for level in range(1, 60):
        (tmp_path / f"{level}.yaml").write_text(f"_base_: [{level - 1}.yaml, {level - 1}.yaml]\n")
    assert load(tmp_path / "59.yaml").tree == {"a": 1}


def test_endless_chain_of_bases(tmp_path):
    for level in range(1000):
        (tmp_path / f"{level}.yaml").write_text(f"_base_: {level + 1}.yaml\n")
    with pytest.raises(ConfigError, match=r"64\.yaml:1: _base_: more than 64 bases of bases"):
        load(tmp_path / "0.yaml")


def test_an_alias_does_not_reach_into_a_base(tmp_path):
    (tmp_path / "base.yaml").write_text("a: &a 1\n")
    assert "undefined alias" in refused(tmp_path, "_base_: base.yaml\nb: *a\n")


def test_many_faults_are_counted(tmp_path):
    (tmp_path / "x.yaml").write_text("a: 1\n" * 500)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "x.yaml")
    lines = str(caught.value).split("\n")
    assert len(lines) == 21
    assert lines[-1] == "... and 479 more faults"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (".".join("a" * 1000) + "=1", "--set: a key more than 64 parts deep"),
        ("a.0.b=" + "[" * 1000, "--set a.0.b: not valid YAML: blocks more than 64 deep"),
        ("steps." + "9" * 5000 + "=1", "steps has 1 items; there is no item 99999999999999999999"),
        ("seed=1" + "0" * 400, "--set seed: 1000"),
        ("seed=1e400", "--set seed: 1e400 is too large"),
        ("seed=\udcff", "--set seed: not valid YAML: the character 0xdcff is no text"),
        ("seed=!!python/name:os.system", "--set seed: the tag"),
        ("seed=a: b: c", "--set seed: not valid YAML"),
    ],
    ids=range(8),
)
def test_hostile_overrides(override, message):
    with pytest.raises(ConfigError) as caught:
        load({"steps": [1]}, [override])
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300 or "steps" in override
