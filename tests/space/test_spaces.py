"""Every search space keeps the contract."""

import torch
from torch import nn

from razorlite.models import backbones as backbones
from razorlite.models.backbones.once_for_all import OFANet
from razorlite.space import OnceForAll
from tests.space.contract import SpaceContract


class TestOnceForAllMobileNetV3(SpaceContract):
    shape = (32, 32)

    def plain(self):
        return OFANet(out_indices=(1, 2), depth=3, width_mult=0.5)

    def prepared(self, model):
        torch.manual_seed(3)
        space = OnceForAll().prepare(model)
        for name, parameter in space.model.named_parameters():
            if ".matrix_" in name:  # identities would hide a wrong order of multiplication
                nn.init.normal_(parameter, std=0.2)
        return space


class TestOnceForAllProxyless(SpaceContract):
    shape = (32, 32)

    def plain(self):
        return OFANet(arch="proxyless", out_indices=(1,), depth=2, width_mult=0.5)

    def prepared(self, model):
        return OnceForAll(kernel_matrices=False, depths=[1, 2]).prepare(model)
