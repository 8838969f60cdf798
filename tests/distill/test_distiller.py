"""Teacher, pairs and connectors: what is compared, what is refused, what stays frozen."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from razorlite.core.errors import ConfigError
from razorlite.distill import (
    AttentionTransfer,
    ChannelWiseDivergence,
    ConvConnector,
    Distiller,
    DistillPair,
    FeatureMSE,
    LinearConnector,
    LogitKL,
    Scene,
    Side,
    SigmoidKL,
)
from razorlite.structures import Batch
from tests.distill.toys import Toy


def losses(distiller, student, images):
    batch = Batch(images, None)
    teacher = distiller.teach(batch)
    with distiller.recorder(student) as recorder:
        student(images)
        return distiller.compare(Scene(batch, Side(student, recorder), teacher))


@pytest.fixture
def images():
    return torch.randn(2, 3, 16, 16)


def test_maps_of_a_pyramid_are_summed_and_weighted(images):
    student, teacher = Toy().eval(), Toy()
    distiller = Distiller(
        teacher=teacher,
        pairs=[DistillPair(student="neck", loss=lambda: FeatureMSE(weight=3.0), weight=0.5)],
    )
    ours, theirs = student.features(images), teacher.features(images)
    expected = 1.5 * sum((a - b).square().mean() for a, b in zip(ours, theirs, strict=True))
    assert_close(losses(distiller, student, images), {"neck": expected})


def test_joined_maps_are_one_set_of_locations(images):
    student, teacher = Toy().eval(), Toy()
    pairs = [DistillPair(student="head", loss=SigmoidKL, join=True)]
    ours, theirs = (
        torch.cat([m.flatten(2) for m in model.eval()(images)], 2) for model in (student, teacher)
    )
    assert ours.shape == (2, 5, 8 * 8 + 4 * 4)
    found = losses(Distiller(teacher=teacher, pairs=pairs), student, images)
    assert_close(found["head"], SigmoidKL()(ours, theirs))


@pytest.mark.parametrize("loss", [FeatureMSE, ChannelWiseDivergence, LogitKL, SigmoidKL])
def test_a_student_equal_to_its_teacher_has_zero_loss(loss, images):
    student = Toy().eval()
    pairs = [DistillPair(student="neck", loss=loss), DistillPair(student="head", loss=loss)]
    found = losses(Distiller(teacher=copy.deepcopy(student), pairs=pairs), student, images)
    assert_close(sum(found.values()), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_the_teacher_is_frozen_in_eval_mode_and_untouched(images):
    teacher = Toy().train()
    before = copy.deepcopy(teacher.state_dict())
    distiller = Distiller(teacher=teacher, pairs=[DistillPair(student="neck", loss=FeatureMSE)])
    teacher.train()  # someone's model.train() reaches it
    student = Toy()
    losses(distiller, student, images)["neck"].backward()
    assert not teacher.training
    assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(not m._forward_hooks for m in teacher.modules())


def test_connectors_bring_channels_together(images):
    student, teacher = Toy(width=3), Toy(width=6)
    connector = ConvConnector(student_channels=3, teacher_channels=6, kernel_size=3, norm=True)
    pair = DistillPair(student="neck", loss=FeatureMSE, connector=connector)
    distiller = Distiller(teacher=teacher, pairs=[pair])
    losses(distiller, student, images)["neck"].backward()
    assert connector.conv.weight.grad is not None
    assert student.stem.weight.grad is not None
    assert connector.conv.bias is None


def test_linear_connector_joins_vectors(images):
    student, teacher = Toy(width=3), Toy(width=6)
    connector = LinearConnector(student_channels=3, teacher_channels=6)
    pair = DistillPair(student="pool", loss=FeatureMSE, connector=connector)
    assert losses(Distiller(teacher=teacher, pairs=[pair]), student, images)["pool"] > 0


def test_connectors_start_alike_on_every_process_and_spare_the_random_state():
    def build():
        def connector():
            return ConvConnector(student_channels=3, teacher_channels=6)

        pair = DistillPair(student="neck", loss=FeatureMSE, connector=connector)
        return nn.ModuleList(
            term.connector for term in Distiller(teacher=Toy(), pairs=[pair, pair]).terms
        )

    torch.manual_seed(1)
    first = build()
    torch.manual_seed(2)
    assert_close(first.state_dict(), build().state_dict(), rtol=0, atol=0)
    assert not torch.equal(first[0].conv.weight, first[1].conv.weight)
    teacher, state = Toy(), torch.get_rng_state()
    Distiller(teacher=teacher, pairs=[DistillPair(student="neck", loss=FeatureMSE)])
    assert torch.equal(torch.get_rng_state(), state)


def test_missing_connector_is_spelled_out(images):
    student, teacher = Toy(width=3), Toy(width=6)
    cure = "add connector: {type: ConvConnector, student_channels: 3, teacher_channels: 6}"
    distiller = Distiller(teacher=teacher, pairs=[DistillPair(student="neck", loss=FeatureMSE)])
    with pytest.raises(ConfigError) as caught:
        losses(distiller, student, images)
    assert cure in str(caught.value)
    assert "\n" not in str(caught.value)
    distiller = Distiller(teacher=teacher, pairs=[DistillPair(student="pool", loss=FeatureMSE)])
    with pytest.raises(ConfigError, match="type: LinearConnector"):
        losses(distiller, student, images)


def test_wrong_connectors_are_named(images):
    def refused(match, **channels):
        connector = ConvConnector(**channels)
        pair = DistillPair(student="neck", loss=FeatureMSE, connector=connector)
        with pytest.raises(ConfigError, match=match):
            losses(Distiller(teacher=Toy(width=6), pairs=[pair]), Toy(width=3), images)

    refused("student_channels is 4 but .* have 3", student_channels=4, teacher_channels=6)
    refused("set the connector's teacher_channels to 6", student_channels=3, teacher_channels=5)
    with pytest.raises(ConfigError, match="kernel_size wants a value that is odd, got 2"):
        ConvConnector(student_channels=4, teacher_channels=4, kernel_size=2)


def test_attention_needs_no_connector(images):
    pair = DistillPair(student="neck", loss=AttentionTransfer)
    found = losses(Distiller(teacher=Toy(width=6), pairs=[pair]), Toy(width=3), images)
    assert found["neck"] > 0


def test_other_sizes_are_refused_or_resized(images):
    student, teacher = Toy(stride=4), Toy(stride=2)
    pairs = [DistillPair(student="neck", loss=FeatureMSE)]
    with pytest.raises(ConfigError, match=r"map is 4 x 4, the teacher's 8 x 8; .* resize: true"):
        losses(Distiller(teacher=teacher, pairs=pairs), student, images)
    pairs = [DistillPair(student="neck", loss=FeatureMSE, resize=True)]
    assert losses(Distiller(teacher=teacher, pairs=pairs), student, images)["neck"] > 0


def test_other_kinds_of_places_are_refused(images):
    def refused(match, **places):
        pair = DistillPair(loss=FeatureMSE, **places)
        with pytest.raises(ConfigError, match=match):
            losses(Distiller(teacher=Toy(), pairs=[pair]), Toy(), images)

    refused(r"gives 2 maps, the teacher 1; pick single ones", student="neck", teacher="pool")
    refused("name modules that give the same kind", student="stem", teacher="pool")
    nothing = "Toy has no module 'nek' to record; did you mean 'neck'"
    refused(f"the teacher {nothing}", student="stem", teacher="nek")
    refused(f"the student {nothing}", student="nek", teacher="neck")
    with pytest.raises(ConfigError, match="pairs is empty"):
        Distiller(teacher=Toy(), pairs=[])


def test_a_frozen_place_is_refused(images):
    student = Toy()
    student.stem.requires_grad_(False)
    pairs = [DistillPair(student="stem", loss=FeatureMSE)]
    with pytest.raises(ConfigError, match="would teach it nothing"):
        losses(Distiller(teacher=Toy(), pairs=pairs), student, images)


def test_a_student_cannot_teach_itself():
    model = Toy()
    distiller = Distiller(teacher=model, pairs=[DistillPair(student="neck", loss=FeatureMSE)])
    with pytest.raises(ConfigError, match="share weights"):
        distiller.recorder(model)


@pytest.mark.parametrize("loss", [FeatureMSE, ChannelWiseDivergence, LogitKL, SigmoidKL])
def test_mean_gradient_of_two_halves_is_that_of_the_joined_batch(loss, images):
    # What two processes exchange equals one process; batch-norm statistics are frozen.
    student = Toy().eval()
    pairs = [DistillPair(student="neck", loss=lambda: loss(weight=10.0), join=True)]
    distiller = Distiller(teacher=Toy(), pairs=pairs)
    weight = student.stem.weight

    def gradient(part: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(losses(distiller, student, part)["neck"], weight)[0]

    assert_close((gradient(images[:1]) + gradient(images[1:])) / 2, gradient(images))


def test_an_instance_or_a_factory_may_be_given():
    loss, connector = FeatureMSE(), nn.Identity()
    pair = DistillPair(student="neck", loss=loss, connector=connector)
    distiller = Distiller(teacher=Toy(), pairs=[pair])
    assert distiller.terms[0].loss is loss
    assert distiller.terms[0].connector is connector


def test_pairs_on_one_place_keep_apart_names():
    pairs = [DistillPair(student=n, loss=FeatureMSE) for n in ("neck", "stem", "neck")]
    assert Distiller(teacher=Toy(), pairs=pairs).names == ["neck.0", "stem", "neck.2"]
