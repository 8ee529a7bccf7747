"""Dropout with 16 random bits a number does what the library's does."""

import pytest
import torch

from abo_vqa.training.dropout import FastDropout, replace_dropout


@pytest.mark.parametrize("p", [0.05, 0.5])
def test_it_drops_the_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    states = torch.full((1001, 1003), 2.0, requires_grad=True)  # not a multiple of four
    output = FastDropout(p)(states)
    dropped = output == 0
    assert float(dropped.float().mean()) == pytest.approx(p, abs=3e-3)
    torch.testing.assert_close(output[~dropped], torch.full_like(output[~dropped], 2 / (1 - p)),
                               rtol=1e-4, atol=0)  # fmt: skip
    # of each four numbers from the same 64 bits, every one is dropped as often, and independently
    four = dropped.flatten()[: dropped.numel() // 4 * 4].view(-1, 4).float()
    torch.testing.assert_close(four.mean(0), torch.full((4,), p), rtol=0, atol=5e-3)
    assert float((torch.corrcoef(four.T) - torch.eye(4)).abs().max()) < 0.01
    output.sum().backward()
    torch.testing.assert_close(states.grad, output.detach() / 2)


def test_the_seed_decides():
    layer, states = FastDropout(0.3), torch.ones(9, 9)
    torch.manual_seed(1)
    first, second = layer(states), layer(states)
    torch.manual_seed(1)
    assert torch.equal(layer(states), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.0, 1e-9, 1.0])
def test_nothing_and_everything(p):
    torch.testing.assert_close(FastDropout(p)(torch.ones(7)), torch.full((7,), 1.0 - round(p)))


def test_only_dropouts_that_are_on_are_replaced():
    model = torch.nn.Sequential(
        torch.nn.Dropout(0.1), torch.nn.Dropout(0.0), torch.nn.ReLU()
    ).eval()
    replace_dropout(model)
    assert [type(layer) for layer in model] == [FastDropout, torch.nn.Dropout, torch.nn.ReLU]
    assert not model[0].training
    assert torch.equal(model(torch.ones(3)), torch.ones(3))
