"""The `distiller:` block, read from YAML."""

import pytest

from razorlite.core.config import build, load
from razorlite.core.errors import ConfigError
from razorlite.distill import PKD, ConvConnector, Distiller, DistillerConfig, SigmoidKL
from tests.distill.toys import Toy

BLOCK = """
teacher: {config: teacher.yaml, checkpoint: teacher/best.pt}
warmup_steps: 100
pairs:
  - student: neck
    loss: {type: PKD, weight: 2}
    connector: {type: ConvConnector, student_channels: 4, teacher_channels: 8}
  - student: head
    loss: {type: SigmoidKL, tau: 2, quality: 1}
    join: true
"""


def read(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    return build(load(tmp_path / "config.yaml"), DistillerConfig)


def test_a_block_becomes_pairs(tmp_path):
    config = read(tmp_path, BLOCK)
    assert config.teacher.checkpoint == "teacher/best.pt"
    assert (config.start_step, config.stop_step, config.warmup_steps) == (0, None, 100)
    distiller = Distiller(teacher=Toy(width=8), pairs=config.pairs)
    assert [type(term.loss) for term in distiller.terms] == [PKD, SigmoidKL]
    assert isinstance(distiller.terms[0].connector, ConvConnector)
    assert distiller.terms[0].loss.weight == 2
    assert config.pairs[1].join


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("type: PKD", "type: PKDD", "PKD"),
        ("tau: 2", "tauu: 2", "did you mean 'tau'"),
        ("type: PKD, weight: 2", "type: ConvConnector, student_channels: 1", "DistillLoss"),
        ("student: neck", "studnet: neck", "did you mean 'student'"),
        ("checkpoint: teacher/best.pt", "", "checkpoint"),
    ],
)
def test_faults_are_found_before_anything_is_built(tmp_path, right, wrong, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, BLOCK.replace(right, wrong))
    assert "config.yaml:" in str(caught.value)
