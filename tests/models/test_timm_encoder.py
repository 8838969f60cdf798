"""timm's encoders as maps for images of any size."""

import pytest
import torch
from torch.testing import assert_close

from razorlite.core.errors import CheckpointError, ConfigError
from razorlite.models.backbones.timm_encoder import TimmEncoder

pytest.importorskip("timm")
SMALL = {"depth": 2, "embed_dim": 16, "num_heads": 2}
DINO = {"name": "vit_small_patch14_dinov2", "options": SMALL}


def test_tokens_become_a_map_of_the_grid():
    encoder = TimmEncoder(**DINO).eval()
    images = torch.randn(2, 3, 28, 56)
    maps = encoder(images)
    assert maps.shape == (2, 16, 2, 4)
    tokens = encoder.body.forward_features(images)[:, encoder.body.num_prefix_tokens :]
    assert_close(maps.flatten(2).transpose(1, 2), tokens)
    assert encoder(torch.randn(1, 3, 30, 57)).shape == (1, 16, 3, 5)  # scaled to 42 x 70
    first = TimmEncoder(**DINO, index=0).eval()
    first.load_state_dict(encoder.state_dict())
    assert not torch.equal(first(images), maps)


def test_a_file_of_weights(tmp_path):
    encoder = TimmEncoder(**DINO)
    state = encoder.body.state_dict()
    state["mask_token"] = torch.zeros(1, 16)  # as DINOv2's own files have, which timm drops
    torch.save(state, tmp_path / "dino.pth")
    other = TimmEncoder(**DINO, pretrained=str(tmp_path / "dino.pth"))
    images = torch.randn(1, 3, 28, 28)
    assert torch.equal(other.eval()(images), encoder.eval()(images))
    deeper = {**SMALL, "depth": 3}
    with pytest.raises(CheckpointError, match=r"do not fit the timm model: .* name the model"):
        TimmEncoder(name=DINO["name"], options=deeper, pretrained=str(tmp_path / "dino.pth"))


def test_a_wrong_name():
    with pytest.raises(ConfigError, match="timm has no classifier 'vit_smal'"):
        TimmEncoder(name="vit_smal")
