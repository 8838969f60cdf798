import torch
from torch import fx, tensor
from torch.testing import assert_close

from razorlite.models.backbones.shufflenet import ShuffleNetV2
from razorlite.models.classifier import ImageClassifier
from razorlite.models.heads.linear_head import LinearHead
from razorlite.models.necks.pooling import GlobalAveragePooling
from razorlite.structures import Batch


def _classifier(**options: float) -> ImageClassifier:
    return ImageClassifier(
        backbone=ShuffleNetV2(width=0.5, out_indices=(3,)),
        neck=GlobalAveragePooling(),
        head=LinearHead(num_classes=5, in_channels=1024, **options),
    )


def test_names():
    names = set(_classifier().state_dict())
    assert {"backbone.conv5.0.weight", "head.fc.weight", "head.fc.bias"} <= names


def test_forward_traces_and_probabilities_sum_to_one():
    model, images = _classifier().eval(), torch.randn(3, 3, 64, 64)
    assert_close(fx.symbolic_trace(model)(images), model(images))
    assert_close(model.predict(Batch(images)).sum(1), torch.ones(3))


def test_label_smoothing_by_hand():
    # even logits over 5 classes: ln 5 whatever the target; otherwise 0.92 and 4 times 0.02
    head = LinearHead(num_classes=5, in_channels=2, label_smoothing=0.1)
    assert_close(head.loss(torch.zeros(1, 5), tensor([3]))["loss_cls"], tensor(5.0).log())
    logits = tensor([[0.0, 0, 0, 2, 0]])
    chances = logits.log_softmax(1)[0]
    want = -(0.92 * chances[3] + 0.02 * (chances.sum() - chances[3]))
    assert_close(head.loss(logits, tensor([3]))["loss_cls"], want)


def test_gradients_reach_every_parameter():
    model = _classifier(dropout=0.2).train()
    sum(model.loss(torch.randn(4, 3, 64, 64), tensor([0, 1, 2, 3])).values()).backward()
    assert all(p.grad is not None for p in model.parameters())
