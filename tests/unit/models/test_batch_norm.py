"""Batch norm against torch's, on one worker and over two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from components.models.batch_norm import BatchNorm

SCRIPT = Path(__file__).with_name("batch_norm_worker.py")


@pytest.mark.parametrize("keeps_statistics", [True, False])
def test_one_worker_normalises_as_torch_does(keeps_statistics):
    own = BatchNorm(5, 0.02, keeps_statistics=keeps_statistics)
    other = nn.BatchNorm2d(5, track_running_stats=keeps_statistics)
    other.weight.data.copy_(own.weight)
    x = torch.randn(4, 5, 6, 6) * 3 + 1
    for _ in range(3):
        torch.testing.assert_close(own(x), other(x))
    own.eval(), other.eval()
    torch.testing.assert_close(own(x), other(x))
    if keeps_statistics:
        torch.testing.assert_close(own.running_mean, other.running_mean)
        torch.testing.assert_close(own.running_var, other.running_var)


def test_two_workers_normalise_as_one_with_the_whole_batch(tmp_path):
    """Channels of means far from zero, slices of unlike means: all that comes of it is torch's."""
    torch.manual_seed(0)
    x = torch.randn(8, 5, 4, 4) + torch.tensor([0.0, 1.0, -30.0, 5.0, 0.1])[:, None, None]
    x[4:] += 2
    given = {"x": x, "goal": torch.randn(8, 5, 4, 4), "weight": torch.rand(5) + 0.5}
    save_file(given, tmp_path / "inputs.safetensors")
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), "2", str(tmp_path)], env=environment, stderr=subprocess.PIPE
        )
        for rank in (0, 1)
    ]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error.decode()
    found = [load_file(tmp_path / f"2-{rank}.safetensors") for rank in (0, 1)]

    plain = nn.BatchNorm2d(5).double()
    plain.weight.data.copy_(given["weight"])
    whole = x.double().requires_grad_()
    plain(whole.detach() * 3 + 1)
    out = plain(whole)
    (given["goal"] * out.square()).sum().backward()
    expected = {"out": out.detach(), "x_grad": whole.grad}
    for name, tensor in expected.items():
        torch.testing.assert_close(torch.cat([f[name] for f in found]).double(), tensor, rtol=1e-4, atol=1e-4, msg=name)
    for name, tensor in {"weight_grad": plain.weight.grad, "bias_grad": plain.bias.grad}.items():
        torch.testing.assert_close(sum(f[name] for f in found).double(), tensor, rtol=1e-4, atol=1e-4, msg=name)
    for each in found:
        torch.testing.assert_close(each["mean"].double(), plain.running_mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(each["var"].double(), plain.running_var, rtol=1e-4, atol=1e-5)
