"""4×4 convolutions of stride 2 against torch's: values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from components.models import strided

PLAIN = {"halve": F.conv2d, "double": F.conv_transpose2d}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("size", [2, 4, 8])
def test_they_are_torchs_convolutions(name, size, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(strided, "NARROWEST", 1)
    weight = torch.randn(5, 3, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    shape = (3, 3, 2 * size, 2 * size) if name == "halve" else (3, 5, size, size)
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert strided._pays(x, size, weight)
    out, expected = getattr(strided, name)(x, weight), PLAIN[name](x, weight, stride=2, padding=1)
    assert out.grad_fn.name().endswith(f"_{name.title()}Backward")
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    goal = torch.randn_like(out)
    for wanted in ((x,), (weight,), (x, weight)):
        own, other = (torch.autograd.grad(y, wanted, goal, retain_graph=True) for y in (out, expected))
        for one, two in zip(own, other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_are_left_to_torch(dtype):
    x, weight = torch.randn(2, 64, 8, 8, dtype=dtype), torch.randn(64, 64, 4, 4, dtype=dtype)
    assert torch.equal(strided.halve(x, weight), F.conv2d(x, weight, stride=2, padding=1))
    assert torch.equal(strided.double(x, weight), F.conv_transpose2d(x, weight, stride=2, padding=1))
