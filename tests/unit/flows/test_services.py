"""flows/services.py: ports that cannot be, and who may read the token."""

import pytest

from components.config import InputError
from flows.services import Ports, clients


@pytest.mark.parametrize("given", [(0, 2, 3, 4), (1, 2, 3, 65536), (5000, 5000, 6379, 8265)])
def test_what_is_no_port_or_twice_the_same_is_refused(given):
    with pytest.raises(InputError, match=r"--ports is .*; allowed: four different ones, 1 to 65535"):
        Ports(*given).check()


def test_the_token_is_the_owners_alone_and_stays_the_same(tmp_path):
    ports = Ports(1, 2, 3, 4)
    exports = clients(tmp_path, ports)
    token = tmp_path / "ray-token"
    first = token.read_text()
    assert exports["ray"]["RAY_AUTH_TOKEN_PATH"] == str(token)
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(first) >= 32
    clients(tmp_path, ports)
    assert token.read_text() == first
    assert [path.name for path in tmp_path.iterdir()] == ["ray-token"]
